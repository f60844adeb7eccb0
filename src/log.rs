//! Logging as runc does it.
