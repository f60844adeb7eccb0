//! The checklist in words.
