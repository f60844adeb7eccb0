//! Seccomp filters: compiled in the parent, loaded in the container process.
