//! Users and groups from the files of a rootfs, never from libc.
