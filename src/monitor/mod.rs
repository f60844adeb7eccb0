//! Live view of memory.
