//! Kernel parameters of a container: only those that belong to a namespace of its own, written through a /proc
//! that the container cannot have replaced.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType};

use super::proc_root::ProcRoot;
use super::reason::Reason;

/// Why a parameter was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// An IPC parameter without an IPC namespace.
    #[error("sysctl {0:?} is not allowed in the hosts ipc namespace")]
    HostIpc(String),
    /// A network parameter in the network namespace of the caller.
    #[error("sysctl {0:?} not allowed in host network namespace")]
    HostNetwork(String),
    /// The namespace file to join cannot be looked at.
    #[error("invalid netns path: stat {path}: {reason}")]
    NetworkPath {
        /// The file.
        path: String,
        /// The kernel's answer.
        reason: Reason,
    },
    /// kernel.hostname has a field of its own.
    #[error("sysctl {0:?} is not allowed as it conflicts with the OCI \"hostname\" field")]
    Hostname(String),
    /// user.* without a user namespace.
    #[error("setting ucounts without a user namespace not allowed: {0}")]
    HostUser(String),
    /// Anything else is the host's.
    #[error("sysctl {0:?} is not in a separate kernel namespace")]
    NotNamespaced(String),
    /// /proc is not to be had.
    #[error("open sysctl {key} file: {reason}")]
    Open {
        /// The parameter.
        key: String,
        /// The kernel's answer.
        reason: Reason,
    },
    /// The kernel refused the value.
    #[error("failed to write sysctl {key} = {value:?}: {reason}")]
    Write {
        /// The parameter.
        key: String,
        /// The value.
        value: String,
        /// The kernel's answer.
        reason: Reason,
    },
}

/// Checks every parameter against the namespaces of the spec, in the parent.
pub fn validate(sysctls: &HashMap<String, String>, namespaces: &[LinuxNamespace]) -> Result<(), SysctlError> {
    let mut host_network = None;
    for key in sysctls.keys() {
        validate_one(&with_dots(key), namespaces, &mut host_network)?;
    }
    Ok(())
}

fn validate_one(
    key: &str,
    namespaces: &[LinuxNamespace],
    host_network: &mut Option<bool>,
) -> Result<(), SysctlError> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let has = |kind| namespaces.iter().any(|namespace| namespace.typ() == kind);
    let owned = || key.to_owned();
    // A part like ".." would lead from a namespaced folder to the host's.
    if key.split(['.', '/']).any(str::is_empty) {
        return Err(SysctlError::NotNamespaced(owned()));
    }
    if IPC.contains(&key) || key.starts_with("fs.mqueue.") {
        return if has(LinuxNamespaceType::Ipc) { Ok(()) } else { Err(SysctlError::HostIpc(owned())) };
    }
    if key.starts_with("net.") {
        let host = match *host_network {
            Some(host) => host,
            None => *host_network.insert(in_host_network(namespaces)?),
        };
        return if host { Err(SysctlError::HostNetwork(owned())) } else { Ok(()) };
    }
    if has(LinuxNamespaceType::Uts) && key == "kernel.domainname" {
        return Ok(());
    }
    if has(LinuxNamespaceType::Uts) && key == "kernel.hostname" {
        return Err(SysctlError::Hostname(owned()));
    }
    if key.starts_with("user.") {
        return if has(LinuxNamespaceType::User) { Ok(()) } else { Err(SysctlError::HostUser(owned())) };
    }
    Err(SysctlError::NotNamespaced(owned()))
}

/// Whether the container shares the network of the caller: no namespace, or a file that is the caller's own.
fn in_host_network(namespaces: &[LinuxNamespace]) -> Result<bool, SysctlError> {
    let Some(network) = namespaces.iter().find(|namespace| namespace.typ() == LinuxNamespaceType::Network)
    else {
        return Ok(true);
    };
    let Some(path) = network.path().as_ref().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(false);
    };
    let stat = |path: &std::path::Path| {
        std::fs::metadata(path).map_err(|error| SysctlError::NetworkPath {
            path: path.display().to_string(),
            reason: Reason::of(&error),
        })
    };
    let (own, joined) = (stat("/proc/self/ns/net".as_ref())?, stat(path)?);
    Ok((own.dev(), own.ino()) == (joined.dev(), joined.ino()))
}

/// Writes every parameter. Called in the container's namespaces, while /proc/sys is still writable.
pub fn apply(sysctls: &HashMap<String, String>) -> Result<(), SysctlError> {
    let Some(first) = sysctls.keys().next() else { return Ok(()) };
    let proc =
        ProcRoot::open().map_err(|errno| SysctlError::Open { key: first.clone(), reason: errno.into() })?;
    for (key, value) in sysctls {
        proc.write(&file_of(key), value.as_bytes()).map_err(|errno| SysctlError::Write {
            key: key.clone(),
            value: value.clone(),
            reason: errno.into(),
        })?;
    }
    Ok(())
}

/// `net/ipv4/conf/eno2.100/rp_filter` → `net.ipv4.conf.eno2/100.rp_filter`: the first separator of a name says
/// which of the two it uses (sysctl(8)).
fn with_dots(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(index) if key.as_bytes()[index] == b'/' => swap(key),
        _ => key.to_owned(),
    }
}

/// The path of a parameter below /proc.
fn file_of(key: &str) -> String {
    format!("sys/{}", swap(&with_dots(key)))
}

fn swap(key: &str) -> String {
    key.chars()
        .map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, namespaces: &str) -> Result<(), String> {
        let namespaces: Vec<LinuxNamespace> = serde_json::from_str(namespaces).unwrap();
        let sysctls = HashMap::from([(key.to_owned(), "1".to_owned())]);
        validate(&sysctls, &namespaces).map_err(|error| error.to_string())
    }

    #[test]
    fn only_namespaced_parameters_are_allowed() {
        let all = r#"[{"type":"ipc"},{"type":"network"},{"type":"uts"},{"type":"user"}]"#;
        for key in [
            "kernel.shmmax",
            "fs.mqueue.msg_max",
            "net.ipv4.ip_forward",
            "net/ipv4/conf/eno2.100/rp_filter",
            "kernel.domainname",
            "user.max_user_namespaces",
        ] {
            assert_eq!(check(key, all), Ok(()), "{key}");
        }
        for (key, namespaces, error) in [
            ("kernel.shmmax", "[]", "sysctl \"kernel.shmmax\" is not allowed in the hosts ipc namespace"),
            (
                "net.ipv4.ip_forward",
                "[]",
                "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace",
            ),
            (
                "net.core.somaxconn",
                r#"[{"type":"network","path":"/proc/self/ns/net"}]"#,
                "sysctl \"net.core.somaxconn\" not allowed in host network namespace",
            ),
            (
                "net.core.somaxconn",
                r#"[{"type":"network","path":"/nonexistent"}]"#,
                "invalid netns path: stat /nonexistent: no such file or directory",
            ),
            (
                "kernel.hostname",
                all,
                "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field",
            ),
            (
                "user.max_user_namespaces",
                "[]",
                "setting ucounts without a user namespace not allowed: user.max_user_namespaces",
            ),
            ("vm.swappiness", all, "sysctl \"vm.swappiness\" is not in a separate kernel namespace"),
        ] {
            assert_eq!(check(key, namespaces), Err(error.to_owned()), "{key}");
        }
    }

    #[test]
    fn a_name_cannot_climb_out_of_its_folder() {
        let all = r#"[{"type":"network"}]"#;
        for key in ["net/../kernel/core_pattern", "net..kernel", "net./../kernel", ".net", "net/"] {
            assert!(check(key, all).is_err(), "{key}");
        }
    }

    #[test]
    fn both_separators_lead_to_the_same_file() {
        assert_eq!(file_of("net.ipv4.ip_forward"), "sys/net/ipv4/ip_forward");
        assert_eq!(file_of("net/ipv4/ip_forward"), "sys/net/ipv4/ip_forward");
        assert_eq!(file_of("net/ipv4/conf/eno2.100/rp_filter"), "sys/net/ipv4/conf/eno2.100/rp_filter");
        assert_eq!(file_of("net.ipv4.conf.eno2/100.rp_filter"), "sys/net/ipv4/conf/eno2.100/rp_filter");
    }
}
