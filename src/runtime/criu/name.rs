//! Names that are handed to criu. It joins some of them to strings of its own and takes these apart again, so that
//! a name that an image chooses (by a symlink at a mount's destination, say) could mean something else there.

use super::CriuError;

/// Ends a key in `mnt[KEY]:VALUE` and its like.
const KEY_END: &[u8] = b"]:";

/// `name`, if no line of criu's files and options can be ended by it.
pub(super) fn plain<'a, T: AsRef<[u8]> + ?Sized>(
    what: &'static str,
    name: &'a T,
) -> Result<&'a [u8], CriuError> {
    let bytes = name.as_ref();
    if bytes.iter().any(u8::is_ascii_control) {
        return Err(refused(what, bytes, "a control character"));
    }
    Ok(bytes)
}

/// `name`, if it is all of its key: criu would find the mount under a shorter one, with a source that the rest of
/// the name says. An empty key means all mounts.
pub(super) fn key<'a, T: AsRef<[u8]> + ?Sized>(
    what: &'static str,
    name: &'a T,
) -> Result<&'a [u8], CriuError> {
    let bytes = plain(what, name)?;
    if bytes.is_empty() {
        return Err(refused(what, bytes, "nothing"));
    }
    if bytes.windows(KEY_END.len()).any(|two| two == KEY_END) {
        return Err(refused(what, bytes, "']:'"));
    }
    Ok(bytes)
}

/// Whether `name` is the kernel's for a pipe. A file can be called anything that only looks like it.
pub(super) fn is_pipe(name: &str) -> bool {
    let number = name.strip_prefix("pipe:[").and_then(|rest| rest.strip_suffix(']'));
    number.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn refused(what: &'static str, name: &[u8], content: &str) -> CriuError {
    let name = String::from_utf8_lossy(name);
    CriuError::Invalid(format!("cannot hand {what} {name:?} to criu: there is {content} in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_criu_would_cut_is_refused() {
        assert_eq!(key("mount", "/a]b:[c]").unwrap(), b"/a]b:[c]");
        assert_eq!(key("mount", "/dätä").unwrap(), "/dätä".as_bytes());
        for name in ["/a]:/etc/shadow", "]:", "", "/a\nb", "/\u{1b}[2J", "/a\0"] {
            assert!(key("mount", name).is_err(), "{name:?}");
        }
        let error = key("mount", "/a]:\u{7}").unwrap_err().to_string();
        assert_eq!(error, r#"cannot hand mount "/a]:\u{7}" to criu: there is a control character in it"#);
        assert_eq!(plain("source", "/a]:b").unwrap(), b"/a]:b");
    }

    #[test]
    fn only_the_kernels_names_are_pipes() {
        assert!(is_pipe("pipe:[77]"));
        for name in ["pipe:", "pipe:[]", "pipe:[7]x", "/tmp/pipe:[77]", "/pipe:[7] (deleted)", "socket:[7]"] {
            assert!(!is_pipe(name), "{name}");
        }
    }
}
