//! Read-only views of a file that cannot be turned writable again, and execution of a descriptor.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: fd was just returned by the kernel and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn configure(
    context: &OwnedFd,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: the strings live through the call; the kernel copies them.
    let result = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(key), pointer(value), 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// An unattached overlay mount whose layers are only `top` and `bottom`: with no upper layer there is
/// nothing to write to, and no option can add one later. Returns the mount's root.
///
/// Source: fsopen(2), Documentation/filesystems/overlayfs.rst. Needs CAP_SYS_ADMIN.
pub fn read_only_overlay(top: &Path, bottom: &Path) -> io::Result<OwnedFd> {
    const FSCONFIG_SET_STRING: libc::c_uint = 1;
    const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
    const MOUNT_ATTR_RDONLY: libc::c_uint = 1;
    const MOUNT_ATTR_NOSUID: libc::c_uint = 2;
    const MOUNT_ATTR_NODEV: libc::c_uint = 4;
    let escape = |path: &Path| {
        let mut out = Vec::new();
        for byte in path.as_os_str().as_bytes() {
            if matches!(byte, b'\\' | b':' | b',') {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        out
    };
    let mut layers = escape(top);
    layers.push(b':');
    layers.extend(escape(bottom));
    let layers = CString::new(layers).map_err(io::Error::other)?;
    // SAFETY: the name is a C string literal; the call returns a new descriptor.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), 1) })?;
    configure(&context, FSCONFIG_SET_STRING, Some(c"lowerdir"), Some(&layers))?;
    configure(&context, FSCONFIG_CMD_CREATE, None, None)?;
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    // SAFETY: the context is live; the call returns a new descriptor.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, attributes) })
}

/// Replaces the program of this process by the file behind `file`. Returns only on failure.
pub fn exec_descriptor(file: impl AsFd, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| {
        let mut pointers: Vec<*const libc::c_char> = list.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        pointers
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both lists end with null and their strings outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
