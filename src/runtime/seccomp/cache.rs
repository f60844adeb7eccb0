//! Compiled filters kept in a folder between runs of rt: libseccomp takes 10 ms for an engine's default profile,
//! which is the same for every container. A file holds the profile it was compiled from, so that a wrong filter
//! can never be taken for it; whatever is wrong with the folder only costs a compilation.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use libseccomp::ScmpVersion;
use nix::libc;
use oci_spec::runtime::LinuxSeccomp;

use super::{Filter, SeccompError, compile};

/// The number of files: a profile replaces another one of the same slot.
const SLOTS: u64 = 32;
/// A filter of 4096 instructions and a profile of the same order.
const MAX_FILE: u64 = 1 << 20;
/// Another version of rt, or of libseccomp, may compile another program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Compiles a profile, or takes the filter from `folder`, which is made where it is missing and must be writable
/// for rt's user only.
pub fn compile_cached(profile: &LinuxSeccomp, folder: &Path) -> Result<Filter, SeccompError> {
    let Ok(key) = key_of(profile) else { return compile(profile) };
    let path = folder.join(slot_of(&key));
    if let Some(filter) = read(&path, &key) {
        tracing::debug!("seccomp filter flags: {}", filter.flags);
        return Ok(filter);
    }
    let filter = compile(profile)?;
    if let Err(error) = write(folder, &path, &key, &filter) {
        tracing::debug!("cannot keep the seccomp filter in {}: {error}", path.display());
    }
    Ok(filter)
}

fn key_of(profile: &LinuxSeccomp) -> serde_json::Result<Vec<u8>> {
    let library = ScmpVersion::current().map_or_else(|_| String::new(), |version| version.to_string());
    let mut key = format!("{VERSION} {library} {}\n", std::env::consts::ARCH).into_bytes();
    serde_json::to_writer(&mut key, profile)?;
    Ok(key)
}

fn slot_of(key: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    format!("{:02}.filter", hasher.finish() % SLOTS)
}

fn read(path: &Path, key: &[u8]) -> Option<Filter> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let found = file.metadata().ok()?;
    let trusted = found.is_file()
        && found.uid() == nix::unistd::geteuid().as_raw()
        && found.mode() & 0o022 == 0
        && found.len() <= MAX_FILE;
    if !trusted {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).ok()?);
    file.read_to_end(&mut bytes).ok()?;
    let (length, rest) = bytes.split_first_chunk()?;
    let (kept, filter) = rest.split_at_checked(usize::try_from(u32::from_ne_bytes(*length)).ok()?)?;
    if kept == key { Filter::from_bytes(filter).ok() } else { None }
}

/// Written beside and renamed, so that nobody reads half a file.
fn write(folder: &Path, path: &Path, key: &[u8], filter: &Filter) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
    let length = u32::try_from(key.len()).map_err(std::io::Error::other)?;
    let temporary = folder.join(format!(".{}", std::process::id()));
    let mut file = File::create(&temporary)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    let bytes = [&length.to_ne_bytes()[..], key, &filter.to_bytes()].concat();
    let kept = file.write_all(&bytes).and_then(|()| std::fs::rename(&temporary, path));
    if kept.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(call: &str) -> LinuxSeccomp {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["{call}"],"action":"SCMP_ACT_ERRNO"}}]}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn only_file(folder: &Path) -> std::path::PathBuf {
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1);
        files.remove(0)
    }

    #[test]
    fn a_kept_filter_is_taken_for_its_profile_only() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        let compiled = compile_cached(&profile("mkdir"), &folder).unwrap();
        assert_eq!(compile_cached(&profile("mkdir"), &folder).unwrap(), compiled);

        let file = only_file(&folder);
        let mkdir = key_of(&profile("mkdir")).unwrap();
        assert_eq!(read(&file, &mkdir), Some(compiled));
        assert_eq!(read(&file, &key_of(&profile("rmdir")).unwrap()), None);
    }

    #[test]
    fn a_damaged_or_foreign_file_is_compiled_anew() {
        let folder = tempfile::tempdir().unwrap();
        let compiled = compile_cached(&profile("mkdir"), folder.path()).unwrap();
        let file = only_file(folder.path());
        let key = key_of(&profile("mkdir")).unwrap();

        std::fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        assert_eq!(read(&file, &key), None);
        std::fs::write(&file, "short").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&file, &key), None);
        assert_eq!(compile_cached(&profile("mkdir"), folder.path()).unwrap(), compiled);
        assert_eq!(read(&only_file(folder.path()), &key), Some(compiled.clone()));

        // A folder that cannot be one does not matter.
        assert_eq!(compile_cached(&profile("mkdir"), "/dev/null/x".as_ref()).unwrap(), compiled);
    }
}
