//! A read-only view of the kernel's accounting.
