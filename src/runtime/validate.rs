//! Checks of a config before anything is made, in runc's order and words. What belongs to one part (mounts, sysctl,
//! scheduler…) is checked by that part.

use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use super::error::{Result, RuntimeError};
use super::process::{io_priority, memory_policy::MemoryPolicy, personality, scheduler, selinux, sysctl};
use super::{hooks, intel_rdt, network, rootfs};

/// Whether the config has a namespace of this kind, new or joined.
pub fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|namespace| namespace.typ() == kind)
}

/// Fails if the container that `spec` asks for cannot be made. `rootless`: the caller is not root.
///
/// # Errors
/// [`RuntimeError::Invalid`], or of the network and other parts in their own words.
pub fn validate(spec: &Spec, no_pivot: bool, rootless: bool) -> Result<()> {
    let process = spec.process().as_ref().ok_or_else(|| invalid("process property must not be empty"))?;
    validate_process(process)?;
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    if let Some(devices) = linux.and_then(|linux| linux.net_devices().as_ref()) {
        network::validate(devices, namespaces, rootless).map_err(RuntimeError::invalid)?;
    }
    if let Some(hooks) = spec.hooks() {
        hooks::validate(hooks).map_err(RuntimeError::invalid)?;
    }
    names(spec)?;
    namespace_options(spec, rootless)?;
    if let Some(sysctls) = linux.and_then(|linux| linux.sysctl().as_ref()) {
        sysctl::validate(sysctls, namespaces).map_err(RuntimeError::invalid)?;
    }
    if let Some(rdt) = linux.and_then(|linux| linux.intel_rdt().as_ref()) {
        intel_rdt::validate(rdt).map_err(RuntimeError::invalid)?;
    }
    if rootless {
        rootless_mappings(spec)?;
    }
    rootfs::validate(spec, no_pivot).map_err(RuntimeError::invalid)?;
    if let Some(personality) = linux.and_then(|linux| linux.personality().as_ref()) {
        personality::validate(personality);
    }
    if let Some(policy) = linux.and_then(|linux| linux.memory_policy().as_ref()) {
        MemoryPolicy::from_spec(policy).map_err(RuntimeError::invalid)?;
    }
    Ok(())
}

/// The part that concerns a process, of a container or of an exec.
///
/// # Errors
/// [`RuntimeError::Invalid`].
pub fn validate_process(process: &Process) -> Result<()> {
    let cwd = process.cwd();
    if cwd.as_os_str().is_empty() {
        return Err(invalid("Cwd property must not be empty"));
    }
    if !cwd.is_absolute() {
        return Err(invalid("Cwd must be an absolute path"));
    }
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(invalid("args must not be empty"));
    }
    if let Some(label) = process.selinux_label().as_ref().filter(|label| !label.is_empty()) {
        selinux::validate(label).map_err(RuntimeError::invalid)?;
    }
    if let Some(wish) = process.scheduler() {
        scheduler::validate(wish).map_err(RuntimeError::invalid)?;
    }
    if let Some(io) = process.io_priority() {
        io_priority::validate(io).map_err(RuntimeError::invalid)?;
    }
    Ok(())
}

fn invalid(text: &str) -> RuntimeError {
    RuntimeError::Invalid(text.to_owned())
}

fn names(spec: &Spec) -> Result<()> {
    let given = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
    if !has_namespace(spec, LinuxNamespaceType::Uts) {
        if given(spec.hostname()) {
            return Err(invalid("unable to set hostname without a private UTS namespace"));
        }
        if given(spec.domainname()) {
            return Err(invalid("unable to set domainname without a private UTS namespace"));
        }
    }
    Ok(())
}

fn namespace_options(spec: &Spec, rootless: bool) -> Result<()> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let path_of = |kind| {
        linux
            .namespaces()
            .iter()
            .flatten()
            .find(|namespace| namespace.typ() == kind)
            .and_then(|n| n.path().as_ref())
    };
    let given = |mappings: &Option<Vec<_>>| mappings.as_ref().is_some_and(|mappings| !mappings.is_empty());
    let (uids, gids) = (given(linux.uid_mappings()), given(linux.gid_mappings()));
    let mapped = uids || gids;
    if has_namespace(spec, LinuxNamespaceType::User) {
        if path_of(LinuxNamespaceType::User).is_none() {
            let missing = match (uids, gids) {
                (true, true) => None,
                (false, false) => Some(
                    "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
                ),
                (false, true) => Some("user namespaces enabled, but no uid mappings found"),
                (true, false) => Some("user namespaces enabled, but no gid mappings found"),
            };
            // Without root it is said in other words.
            if let Some(missing) = missing.filter(|_| !rootless || !mapped) {
                return Err(invalid(missing));
            }
        }
    } else if mapped {
        return Err(invalid(
            "user namespace mappings specified, but user namespace isn't enabled in the config",
        ));
    }
    let shifted = linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty());
    if has_namespace(spec, LinuxNamespaceType::Time) {
        if !std::path::Path::new("/proc/self/timens_offsets").exists() {
            return Err(invalid("time namespaces aren't enabled in the kernel"));
        }
        if shifted && path_of(LinuxNamespaceType::Time).is_some() {
            return Err(invalid(
                "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one",
            ));
        }
    } else if shifted {
        return Err(invalid(
            "time namespace offsets specified, but time namespace isn't enabled in the config",
        ));
    }
    Ok(())
}

/// Without root a container needs a user namespace with mappings.
fn rootless_mappings(spec: &Spec) -> Result<()> {
    if !has_namespace(spec, LinuxNamespaceType::User) {
        return Err(invalid("rootless container requires user namespaces"));
    }
    let Some(linux) = spec.linux() else { return Ok(()) };
    let namespaces = linux.namespaces().iter().flatten();
    let joined = namespaces.filter(|n| n.typ() == LinuxNamespaceType::User).any(|n| n.path().is_some());
    let none = |mappings: &Option<Vec<_>>| mappings.as_ref().is_none_or(|mappings| mappings.is_empty());
    if !joined && none(linux.uid_mappings()) {
        return Err(invalid("rootless containers requires at least one UID mapping"));
    }
    if !joined && none(linux.gid_mappings()) {
        return Err(invalid("rootless containers requires at least one GID mapping"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: &str, rootless: bool) -> String {
        let mut config: serde_json::Value = serde_json::from_str(
            r#"{"ociVersion":"1.2.0","root":{"path":"r"},"process":{"cwd":"/","args":["a"],"user":{"uid":0,"gid":0}},"linux":{}}"#,
        )
        .unwrap();
        let change: serde_json::Value = serde_json::from_str(change).unwrap();
        for (field, value) in change.as_object().unwrap() {
            config[field] = value.clone();
        }
        let spec = serde_json::from_value(config).unwrap();
        validate(&spec, false, rootless).map_or_else(|error| error.to_string(), |()| "fine".to_owned())
    }

    /// Text of `{:?}` of a type: `Mount { destination: …`, `Some(…`, `None`.
    fn is_debug_text(message: &str) -> bool {
        let words: Vec<&str> = message.split_whitespace().collect();
        let is_type = |word: &str| word.starts_with(char::is_uppercase) && word.contains(char::is_lowercase);
        words.windows(2).any(|pair| is_type(pair[0]) && pair[1].starts_with('{'))
            || words.iter().any(|word| is_type(word) && word.contains('('))
            || words.iter().any(|word| word.trim_matches(|c: char| !c.is_alphanumeric()) == "None")
    }

    #[test]
    fn no_refusal_shows_how_rust_prints_a_value() {
        assert!(is_debug_text("invalid mount Mount { destination: \"/x\" }: no"));
        assert!(is_debug_text("bad Some(3)"));
        let process = |more: &str| {
            format!(r#"{{"process":{{"cwd":"/","args":["a"],"user":{{"uid":0,"gid":0}},{more}}}}}"#)
        };
        let mount = |more: &str| format!(r#"{{"mounts":[{{"destination":"/x",{more}}}]}}"#);
        let linux = |more: &str| format!(r#"{{"linux":{{{more}}}}}"#);
        let all = [
            r#"{"process":{"cwd":"","args":["a"],"user":{"uid":0,"gid":0}}}"#.to_owned(),
            r#"{"process":{"cwd":"x","args":["a"],"user":{"uid":0,"gid":0}}}"#.to_owned(),
            r#"{"process":{"cwd":"/","args":[],"user":{"uid":0,"gid":0}}}"#.to_owned(),
            process(r#""selinuxLabel":"a:b:c:d""#),
            process(r#""scheduler":{"policy":"SCHED_OTHER","nice":99}"#),
            process(r#""scheduler":{"policy":"SCHED_OTHER","priority":9}"#),
            process(r#""scheduler":{"policy":"SCHED_FIFO","nice":1,"runtime":4}"#),
            process(r#""ioPriority":{"class":"IOPRIO_CLASS_RT","priority":8}"#),
            r#"{"hostname":"x"}"#.to_owned(),
            r#"{"domainname":"x"}"#.to_owned(),
            r#"{"hooks":{"poststop":[{"path":"/a"},{"path":"/a","timeout":0}]}}"#.to_owned(),
            r#"{"hooks":{"prestart":[{"path":"/a","timeout":-1}]}}"#.to_owned(),
            mount(r#""source":"/y","options":["bind","idmap"]"#),
            mount(r#""source":"/y","type":"tmpfs","options":["idmap"]"#),
            mount(r#""source":"/y","options":["rbind","mode=755"]"#),
            mount(r#""source":"a\u0000b","options":["rbind"]"#),
            linux(r#""namespaces":[{"type":"user"}]"#),
            linux(r#""namespaces":[{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":0,"size":1}]"#),
            linux(r#""namespaces":[{"type":"user"}],"gidMappings":[{"containerID":0,"hostID":0,"size":1}]"#),
            linux(r#""uidMappings":[{"containerID":0,"hostID":0,"size":1}]"#),
            linux(r#""timeOffsets":{"monotonic":{"secs":1,"nanosecs":0}}"#),
            linux(
                r#""namespaces":[{"type":"time","path":"/x"}],"timeOffsets":{"monotonic":{"secs":1,"nanosecs":0}}"#,
            ),
            linux(r#""sysctl":{"vm.swappiness":"1"}"#),
            linux(r#""sysctl":{"net.core.somaxconn":"1"}"#),
            linux(r#""sysctl":{"kernel.shmmax":"1"}"#),
            linux(r#""sysctl":{"user.max_user_namespaces":"1"}"#),
            linux(r#""intelRdt":{"closID":".."}"#),
            linux(r#""netDevices":{"eth0":{}}"#),
            linux(r#""netDevices":{"a/b":{}},"namespaces":[{"type":"network"}]"#),
            linux(r#""memoryPolicy":{"mode":"MPOL_BIND","nodes":"x"}"#),
            linux(r#""rootfsPropagation":"wild""#),
            linux(r#""maskedPaths":["/proc/kcore"]"#),
        ];
        for change in all {
            let message = check(&change, false);
            assert_ne!(message, "fine", "{change}");
            assert!(!is_debug_text(&message), "{change}: {message}");
        }
    }

    #[test]
    fn each_refusal_is_runcs() {
        assert_eq!(check("{}", false), "fine");
        assert_eq!(check("{}", true), "rootless container requires user namespaces");
        assert_eq!(
            check(r#"{"hostname":"x"}"#, false),
            "unable to set hostname without a private UTS namespace"
        );
        assert_eq!(
            check(r#"{"process":{"cwd":"x","args":["a"],"user":{"uid":0,"gid":0}}}"#, false),
            "Cwd must be an absolute path"
        );
        assert_eq!(
            check(r#"{"process":{"cwd":"/","args":[],"user":{"uid":0,"gid":0}}}"#, false),
            "args must not be empty"
        );
        assert_eq!(
            check(r#"{"linux":{"namespaces":[{"type":"user"}]}}"#, false),
            "user namespaces enabled, but no namespace path to join nor mappings to apply specified"
        );
        assert_eq!(
            check(r#"{"linux":{"timeOffsets":{"monotonic":{"secs":1,"nanosecs":0}}}}"#, false),
            "time namespace offsets specified, but time namespace isn't enabled in the config"
        );
        assert_eq!(
            check(
                r#"{"linux":{"namespaces":[{"type":"user"}],"gidMappings":[{"containerID":0,"hostID":0,"size":1}]}}"#,
                false
            ),
            "user namespaces enabled, but no uid mappings found"
        );
        assert_eq!(
            check(
                r#"{"linux":{"namespaces":[{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":0,"size":1}]}}"#,
                true
            ),
            "rootless containers requires at least one GID mapping"
        );
    }
}
