//! The whole checklist.
