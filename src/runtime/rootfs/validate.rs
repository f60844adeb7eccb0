//! Checks of the spec that need nothing but the spec, in runc's words.

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::error::RootfsError;
use super::options::propagation_flags;
use super::request::Request;

/// Fails if the mounts, the propagation, or the masks of `spec` cannot be had.
///
/// # Errors
/// [`RootfsError::Invalid`] with what is wrong.
pub fn validate(spec: &Spec, no_pivot: bool) -> Result<(), RootfsError> {
    validate_propagation(spec, no_pivot)
        .and_then(|()| validate_masks(spec))
        .and_then(|()| {
            spec.mounts().iter().flatten().enumerate().try_for_each(|(index, mount)| {
                validate_mount(spec, index, mount)
                    .map_err(|reason| format!("invalid mount {:?}: {reason}", mount.destination()))
            })
        })
        .map_err(RootfsError::Invalid)
}

fn has_namespace(spec: &Spec, wanted: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|namespace| namespace.typ() == wanted)
}

fn validate_propagation(spec: &Spec, no_pivot: bool) -> Result<(), String> {
    let linux = spec.linux().as_ref();
    let name = linux.and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or("");
    if name.is_empty() {
        return Ok(());
    }
    let flags =
        propagation_flags(name).ok_or_else(|| format!("rootfsPropagation={name} is not supported"))?;
    if no_pivot && flags & libc::MS_PRIVATE != 0 {
        return Err("rootfsPropagation of [r]private is not safe without pivot_root".to_owned());
    }
    Ok(())
}

fn validate_masks(spec: &Spec) -> Result<(), String> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let any = |paths: &Option<Vec<String>>| paths.as_ref().is_some_and(|paths| !paths.is_empty());
    if (any(linux.masked_paths()) || any(linux.readonly_paths()))
        && !has_namespace(spec, LinuxNamespaceType::Mount)
    {
        return Err("unable to restrict sys entries without a private MNT namespace".to_owned());
    }
    Ok(())
}

fn validate_mount(spec: &Spec, index: usize, mount: &Mount) -> Result<(), &'static str> {
    let request = Request::new(index, mount);
    let has_null = |path: &std::path::Path| path.as_os_str().as_encoded_bytes().contains(&0);
    if has_null(request.origin) || has_null(request.destination) || request.kind.contains('\0') {
        return Err("mount field contains null byte");
    }
    let is_bind = request.kind == "bind";
    if is_bind && !request.options.data.is_empty() {
        return Err("bind mounts cannot have any filesystem-specific options applied");
    }
    if !request.id_mapped {
        return Ok(());
    }
    if !is_bind {
        return Err("id-mapped mounts are only supported for bind-mounts");
    }
    let empty = |mappings: &Option<Vec<_>>| mappings.as_ref().is_none_or(Vec::is_empty);
    let implied = mount.uid_mappings().is_none()
        && mount.gid_mappings().is_none()
        && has_namespace(spec, LinuxNamespaceType::User);
    if !implied && (empty(mount.uid_mappings()) || empty(mount.gid_mappings())) {
        return Err("id-mapped mounts must have both uid and gid mappings specified");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, no_pivot: bool) -> Result<(), String> {
        let spec: Spec = serde_json::from_str(json).unwrap();
        validate(&spec, no_pivot).map_err(|error| error.to_string())
    }

    #[test]
    fn an_idmapped_mount_needs_mappings_or_a_user_namespace() {
        let mount = r#""mounts":[{"destination":"/x","source":"/y","options":["bind","idmap"]}]"#;
        let error = check(&format!("{{{mount}}}"), false).unwrap_err();
        assert!(error.ends_with("id-mapped mounts must have both uid and gid mappings specified"));
        let spec = format!(r#"{{{mount},"linux":{{"namespaces":[{{"type":"user"}}]}}}}"#);
        assert_eq!(check(&spec, false), Ok(()));
    }

    #[test]
    fn data_options_are_refused_on_bind_mounts_only() {
        let spec = |options: &str| {
            format!(
                r#"{{"mounts":[{{"destination":"/x","source":"/y","type":"tmpfs","options":[{options}]}}]}}"#
            )
        };
        assert!(check(&spec(r#""rbind","mode=755""#), false).is_err());
        assert_eq!(check(&spec(r#""mode=755""#), false), Ok(()));
    }

    #[test]
    fn a_private_root_is_refused_without_pivot() {
        let spec = r#"{"linux":{"rootfsPropagation":"rprivate"}}"#;
        assert_eq!(check(spec, false), Ok(()));
        assert!(check(spec, true).is_err());
        assert!(check(r#"{"linux":{"rootfsPropagation":"wild"}}"#, false).is_err());
    }

    #[test]
    fn masks_need_a_mount_namespace() {
        let error = check(r#"{"linux":{"maskedPaths":["/proc/kcore"]}}"#, false).unwrap_err();
        assert_eq!(error, "unable to restrict sys entries without a private MNT namespace");
    }
}
