//! Trees made for real, in a mount namespace of a forked child. Needs root.
