//! A compiled filter as bytes, so that a container's exec or a cache can load it without libseccomp:
//! magic, flags, then listener path, metadata and program, each with its length. Numbers are in host byte order: the
//! bytes never leave the machine.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::{Filter, ListenerInfo, SeccompError};
use crate::sys::seccomp::INSTRUCTION_SIZE;

const MAGIC: &[u8; 8] = b"rtbpf\0\0\x01";
/// The length of something that is not there.
const NONE: u32 = u32::MAX;

impl Filter {
    /// The filter as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.program.len() + 64);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        let listener = self.listener.as_ref();
        put(&mut bytes, listener.map(|listener| listener.path.as_os_str().as_bytes()));
        put(&mut bytes, listener.and_then(|listener| listener.metadata.as_deref()).map(str::as_bytes));
        put(&mut bytes, Some(&self.program));
        bytes
    }

    /// The filter of [`Filter::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SeccompError> {
        decode(bytes).ok_or(SeccompError::Stored)
    }
}

fn put(bytes: &mut Vec<u8>, field: Option<&[u8]>) {
    let length = field.and_then(|field| u32::try_from(field.len()).ok()).unwrap_or(NONE);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(field.unwrap_or_default());
}

fn decode(bytes: &[u8]) -> Option<Filter> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let flags = take_number(&mut rest)?;
    let path = take_field(&mut rest)?;
    let metadata = take_field(&mut rest)?.map(String::from_utf8).transpose().ok()?;
    let program = take_field(&mut rest)?.filter(|program| !program.is_empty())?;
    if !rest.is_empty() || program.len() % INSTRUCTION_SIZE != 0 {
        return None;
    }
    let listener = path.map(|path| ListenerInfo { path: OsString::from_vec(path).into(), metadata });
    Some(Filter { program, flags, listener })
}

fn take_number(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_ne_bytes(*number))
}

fn take_field(bytes: &mut &[u8]) -> Option<Option<Vec<u8>>> {
    let length = take_number(bytes)?;
    if length == NONE {
        return Some(None);
    }
    let (field, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(field.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back() {
        let plain = Filter { program: vec![7; 16], flags: 4, listener: None };
        let listener = ListenerInfo { path: "/run/agent.sock".into(), metadata: Some("bar".to_owned()) };
        let notifying = Filter { flags: 8, listener: Some(listener), ..plain.clone() };
        for filter in [plain, notifying] {
            assert_eq!(Filter::from_bytes(&filter.to_bytes()).unwrap(), filter);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let bytes = Filter { program: vec![7; 16], flags: 4, listener: None }.to_bytes();
        for bad in [&bytes[..bytes.len() - 1], &bytes[..10], &bytes[1..], &[]] {
            assert!(Filter::from_bytes(bad).is_err());
        }
    }
}
