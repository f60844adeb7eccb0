//! One mount of the spec, parsed: what is mounted where, and whose help it takes.

use std::os::fd::OwnedFd;
use std::path::Path;

use oci_spec::runtime::Mount;

use super::options::MountOptions;

/// Where the child gets the sources of mounts that it cannot open by itself.
pub trait SourceProvider {
    /// The detached mount for the mount with this index in the spec, made by [`super::open_source`].
    ///
    /// # Errors
    /// What the parent answered, or that it cannot be asked.
    fn mount_source(&mut self, mount_index: usize) -> std::io::Result<OwnedFd>;
}

/// One mount of the spec, with its options parsed.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// Its place in the spec.
    pub index: usize,
    /// The file system's type; `bind` for all bind mounts.
    pub kind: &'a str,
    /// What is mounted; the type's name if the spec names no source.
    pub origin: &'a Path,
    pub destination: &'a Path,
    pub options: MountOptions,
    /// Whether the owners of its files are mapped.
    pub id_mapped: bool,
}

impl<'a> Request<'a> {
    pub fn new(index: usize, mount: &'a Mount) -> Self {
        let kind = mount.typ().as_deref().unwrap_or("");
        let mut options = MountOptions::parse(mount.options().as_deref().unwrap_or(&[]));
        if kind == "bind" {
            options.flags |= libc::MS_BIND;
        }
        let kind = if options.is_bind() { "bind" } else { kind };
        Self {
            index,
            kind,
            origin: mount.source().as_deref().unwrap_or(Path::new(kind)),
            destination: mount.destination(),
            id_mapped: options.id_map.is_some() || has_mappings(mount),
            options,
        }
    }

    /// Whether the mounts beneath the source come along.
    pub fn is_recursive(&self) -> bool {
        self.options.flags & libc::MS_REC != 0
    }
}

fn has_mappings(mount: &Mount) -> bool {
    mount.uid_mappings().is_some() || mount.gid_mappings().is_some()
}

/// Whether the child may have to ask its parent for the source of `mount`: an idmapped mount takes the host's
/// privileges, and in a user namespace the source of a bind mount may be out of reach.
pub fn needs_parent(mount: &Mount, user_namespace: bool) -> bool {
    let options = mount.options().as_deref().unwrap_or(&[]);
    let has = |names: [&str; 2]| options.iter().any(|option| names.contains(&option.as_str()));
    has_mappings(mount)
        || has(["idmap", "ridmap"])
        || (user_namespace && (mount.typ().as_deref() == Some("bind") || has(["bind", "rbind"])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(json: &str) -> Mount {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_type_of_a_bind_mount_means_nothing() {
        let spec = mount(r#"{"destination":"/x","source":"/y","type":"none","options":["rbind","ro"]}"#);
        let request = Request::new(0, &spec);
        assert_eq!(request.kind, "bind");
        assert!(request.is_recursive() && !request.id_mapped);
    }

    #[test]
    fn a_mount_without_source_is_named_after_its_type() {
        let spec = mount(r#"{"destination":"/proc","type":"proc"}"#);
        assert_eq!(Request::new(0, &spec).origin, Path::new("proc"));
    }

    #[test]
    fn the_parent_is_needed_for_idmaps_and_for_sources_out_of_reach() {
        let bind = mount(r#"{"destination":"/x","source":"/y","options":["bind"]}"#);
        assert!(!needs_parent(&bind, false) && needs_parent(&bind, true));
        let idmap = mount(r#"{"destination":"/x","source":"/y","options":["bind","ridmap"]}"#);
        assert!(needs_parent(&idmap, false));
        let mapped = mount(
            r#"{"destination":"/x","source":"/y","options":["bind"],
                "uidMappings":[{"containerID":0,"hostID":1,"size":1}]}"#,
        );
        assert!(needs_parent(&mapped, false));
        let tmpfs = mount(r#"{"destination":"/x","type":"tmpfs"}"#);
        assert!(!needs_parent(&tmpfs, true));
    }
}
