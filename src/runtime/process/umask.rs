//! The file mode creation mask.

use nix::sys::stat::{Mode, umask};

/// What the init process gets where the spec says nothing.
pub const DEFAULT: u32 = 0o022;

/// For the init process, after the rootfs is made: the spec's mask or 022.
pub fn apply_to_init(spec: Option<u32>) {
    umask(Mode::from_bits_truncate(spec.unwrap_or(DEFAULT)));
}

/// For an exec process: the container's mask; the inherited one stays where the spec says nothing.
pub fn apply_to_exec(spec: Option<u32>) {
    if let Some(mask) = spec {
        umask(Mode::from_bits_truncate(mask));
    }
}
