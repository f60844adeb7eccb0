//! Placeholder to be written with the monitor.
