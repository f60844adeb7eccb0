//! The mount tree of a container: mounts, devices, masks, pivot.
