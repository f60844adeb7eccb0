//! The container's /etc/passwd, read by rt itself: no name service of libc, which would load libraries from the
//! image (CVE-2019-14271). What is read is bounded, and only a regular file inside the root counts.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::process::reason::Reason;

/// A file that is larger is read up to here.
const MAX_FILE: u64 = 16 << 20;
/// A line that is longer is no entry.
const MAX_LINE: u64 = 64 << 10;
/// The home of a user without an entry.
const DEFAULT_HOME: &str = "/";

/// Why a user could not be read.
#[derive(Debug, thiserror::Error)]
pub enum UserDbError {
    /// The file cannot be opened.
    #[error("open /etc/passwd: {0}")]
    Open(Reason),
    /// A folder, a device, a pipe.
    #[error("/etc/passwd is not a regular file")]
    NotAFile,
    /// Reading failed.
    #[error("read /etc/passwd: {0}")]
    Read(#[source] std::io::Error),
    /// `--user` with something else than numbers.
    #[error("bad {field}: parsing {text:?}: invalid syntax")]
    BadId {
        /// "uid" or "gid".
        field: &'static str,
        /// What was given.
        text: String,
    },
}

/// The home folder of a uid below `root` (the container's root, opened by the caller), or "/" where there is no
/// entry or no file. Never fails: like runc it only says why in the debug log.
#[must_use]
pub fn home_or_default(root: impl AsFd, uid: u32) -> OsString {
    match home_of(root, uid) {
        Ok(home) => home.unwrap_or_else(|| DEFAULT_HOME.into()),
        Err(error) => {
            tracing::debug!("HOME not set in process.env, and getting UID {uid} homedir failed: {error}");
            DEFAULT_HOME.into()
        }
    }
}

/// The home folder of the first entry with this uid.
pub fn home_of(root: impl AsFd, uid: u32) -> Result<Option<OsString>, UserDbError> {
    find_home(open_passwd(root)?, uid).map_err(UserDbError::Read)
}

fn open_passwd(root: impl AsFd) -> Result<File, UserDbError> {
    // Symlinks stay inside the root (some images link /etc/passwd), but the links of /proc are not followed.
    // O_NONBLOCK: opening a pipe must not wait for a writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let open = || loop {
        match openat2(root.as_fd(), "etc/passwd", how) {
            // Something was renamed during the lookup; the kernel asks to try again.
            Err(Errno::EAGAIN) => {}
            // A kernel before 5.6, or the seccomp filter of a container that rt runs in.
            Err(Errno::ENOSYS | Errno::EPERM) => {
                return openat(root.as_fd(), "etc/passwd", flags | OFlag::O_NOFOLLOW, Mode::empty());
            }
            result => return result,
        }
    };
    let file = open().map_err(|errno| UserDbError::Open(errno.into()))?;
    let found = fstat(&file).map_err(|errno| UserDbError::Open(errno.into()))?;
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG {
        Ok(file.into())
    } else {
        Err(UserDbError::NotAFile)
    }
}

fn find_home(file: impl Read, uid: u32) -> std::io::Result<Option<OsString>> {
    let mut reader = BufReader::new(file.take(MAX_FILE));
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if let Some(home) = home_in(&line, uid) {
            return Ok(Some(OsString::from_vec(home.to_vec())));
        }
    }
}

/// The sixth field of `name:password:uid:gid:gecos:home:shell` where the third is the uid.
fn home_in(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.trim_ascii().split(|byte| *byte == b':');
    let number: u32 = std::str::from_utf8(fields.nth(2)?).ok()?.parse().ok()?;
    if number == uid { fields.nth(2) } else { None }
}

/// `--user uid[:gid]` of exec. Only numbers, as in runc: names are the engine's business.
pub fn parse_user(text: &str) -> Result<(u32, Option<u32>), UserDbError> {
    let id =
        |field, text: &str| text.parse().map_err(|_| UserDbError::BadId { field, text: text.to_owned() });
    match text.split_once(':') {
        Some((uid, gid)) => {
            let gid = id("gid", gid)?;
            Ok((id("uid", uid)?, Some(gid)))
        }
        None => Ok((id("uid", text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken\nnobody:x:65534:65534::/nonexistent\n\
                          twin:x:0:0::/second:\nempty:x:7:7:::/bin/sh\n";

    #[test]
    fn the_first_entry_of_a_uid_counts() {
        let home = |uid| find_home(PASSWD.as_bytes(), uid).unwrap();
        assert_eq!(home(0), Some("/root".into()));
        assert_eq!(home(65534), Some("/nonexistent".into()));
        assert_eq!(home(7), Some("".into()));
        assert_eq!(home(1), None);
    }

    #[test]
    fn a_line_without_end_is_no_entry_and_takes_no_memory() {
        let endless = std::io::repeat(b'x').take(1 << 20).chain(PASSWD.as_bytes());
        assert_eq!(find_home(endless, 65534).unwrap(), Some("/nonexistent".into()));
        assert_eq!(find_home(std::io::repeat(b'x'), 0).unwrap(), None);
    }

    #[test]
    fn only_a_regular_file_inside_the_root_is_read() {
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        let home = || home_of(File::open(root.path()).unwrap(), 0).map_err(|error| error.to_string());
        assert_eq!(home(), Err("open /etc/passwd: no such file or directory".to_owned()));

        std::fs::write(root.path().join("real"), PASSWD).unwrap();
        std::os::unix::fs::symlink("/real", etc.join("passwd")).unwrap();
        assert_eq!(home(), Ok(Some("/root".into())));

        std::fs::remove_file(etc.join("passwd")).unwrap();
        std::os::unix::fs::symlink("../../../../etc/hostname", etc.join("passwd")).unwrap();
        assert!(home().is_err());

        std::fs::remove_file(etc.join("passwd")).unwrap();
        nix::unistd::mkfifo(&etc.join("passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(home(), Err("/etc/passwd is not a regular file".to_owned()));
    }

    #[test]
    fn exec_takes_numbers_only() {
        assert_eq!(parse_user("1000").unwrap(), (1000, None));
        assert_eq!(parse_user("1000:100").unwrap(), (1000, Some(100)));
        for (text, error) in [
            ("root", "bad uid: parsing \"root\": invalid syntax"),
            ("0:wheel", "bad gid: parsing \"wheel\": invalid syntax"),
            ("-1", "bad uid: parsing \"-1\": invalid syntax"),
            ("1:", "bad gid: parsing \"\": invalid syntax"),
        ] {
            assert_eq!(parse_user(text).unwrap_err().to_string(), error);
        }
    }
}
