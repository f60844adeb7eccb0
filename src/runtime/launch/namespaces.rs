//! Which namespaces a container has, and who enters or makes them when. Entering and making is libcontainer's work;
//! the order is ours, since it depends on user namespaces, cgroups and permissions.

use std::os::unix::fs::MetadataExt;
use std::{fs, io};

use libcontainer::namespaces::{NamespaceError, Namespaces};
use nix::errno::Errno;
use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};

use super::Failure;
use crate::runtime::process::reason::Reason;

/// The kernel's flag of a kind of namespace.
pub fn flag(kind: LinuxNamespaceType) -> CloneFlags {
    match kind {
        LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
        LinuxNamespaceType::Time => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
    }
}

/// The name of a kind in /proc/PID/ns.
fn file(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mnt",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Time => "time",
    }
}

/// Those that depend neither on the cgroup nor on what is done before: user and time namespaces are the stage's work.
const BORN_IN: CloneFlags = CloneFlags::CLONE_NEWPID
    .union(CloneFlags::CLONE_NEWNS)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWNET);

/// The namespaces of a config.
pub struct Plan {
    list: Vec<LinuxNamespace>,
    entering: Namespaces,
}

impl Plan {
    pub fn of(spec: &Spec) -> Result<Self, Failure> {
        let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().clone()).unwrap_or_default();
        let entering = Namespaces::try_from(Some(&list)).map_err(|error| reason(&error))?;
        Ok(Self { list, entering })
    }

    pub fn find(&self, kind: LinuxNamespaceType) -> Option<&LinuxNamespace> {
        self.list.iter().find(|namespace| namespace.typ() == kind)
    }

    pub fn has(&self, kind: LinuxNamespaceType) -> bool {
        self.find(kind).is_some()
    }

    /// Whether a new one is made.
    pub fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        self.find(kind).is_some_and(|namespace| namespace.path().is_none())
    }

    /// Whether an existing one is joined.
    pub fn is_joined(&self, kind: LinuxNamespaceType) -> bool {
        self.find(kind).is_some_and(|namespace| namespace.path().is_some())
    }

    /// Whether a process has to enter namespaces first and then make init: these only take effect for children,
    /// or need the parent's help before a child can be made.
    pub fn needs_stage(&self) -> bool {
        self.has(LinuxNamespaceType::User)
            || self.has(LinuxNamespaceType::Time)
            || self.is_joined(LinuxNamespaceType::Pid)
    }

    /// What init is born in, made by the clone that makes it. The kernel counts their memory against the cgroup of who
    /// calls: made by init itself in its cgroup, they would be a third of the smallest limit in which it starts.
    pub fn at_birth(&self) -> CloneFlags {
        self.kinds_at_birth().map(flag).collect()
    }

    fn kinds_at_birth(&self) -> impl Iterator<Item = LinuxNamespaceType> {
        let new = self.list.iter().filter(|namespace| namespace.path().is_none());
        new.map(LinuxNamespace::typ).filter(|kind| BORN_IN.contains(flag(*kind)))
    }

    /// What is said where the clone that makes init is refused.
    pub fn not_born(&self, error: &io::Error) -> String {
        let names = self.kinds_at_birth().map(file).collect::<Vec<_>>().join(", ");
        let hint = match error.raw_os_error() {
            Some(libc::ENOSPC) => " (see /proc/sys/user/max_*_namespaces)",
            _ => "",
        };
        format!("failed to clone into new namespaces [{names}]: {}{hint}", Reason::of(error))
    }

    /// Joins or makes one namespace.
    pub fn enter(&self, namespace: &LinuxNamespace) -> Result<(), EnterError> {
        self.entering.unshare_or_setns(namespace).map_err(|error| EnterError {
            verb: if namespace.path().is_some() { "setns to" } else { "unshare" },
            kind: file(namespace.typ()),
            path: namespace.path().as_ref().map(|path| path.display().to_string()),
            errno: errno_of(&error),
        })
    }

    /// Joins or makes all that `wanted` names, in the crate's order (the mount namespace comes late).
    pub fn enter_all(&self, wanted: impl Fn(LinuxNamespaceType) -> bool) -> Result<(), EnterError> {
        let mut chosen: Vec<&LinuxNamespace> = self.list.iter().filter(|n| wanted(n.typ())).collect();
        chosen.sort_by_key(|namespace| namespace.typ() == LinuxNamespaceType::Mount);
        chosen.into_iter().try_for_each(|namespace| self.enter(namespace))
    }

    /// The paths of namespaces to join, the user namespace last and a pid namespace right before it.
    pub fn joined(&self) -> Vec<&LinuxNamespace> {
        let mut joined: Vec<_> = self.list.iter().filter(|namespace| namespace.path().is_some()).collect();
        joined.sort_by_key(|namespace| match namespace.typ() {
            LinuxNamespaceType::User => 3,
            LinuxNamespaceType::Pid => 2,
            LinuxNamespaceType::Mount => 1,
            _ => 0,
        });
        joined
    }

    /// The flags of all namespaces in which process `pid` may differ from the caller, for one setns(2).
    pub fn flags_towards(&self, pid: i32) -> CloneFlags {
        let mut flags = CloneFlags::empty();
        for namespace in &self.list {
            let kind = namespace.typ();
            // The kernel refuses to enter the own user namespace once more.
            if kind != LinuxNamespaceType::User || differs(pid, kind) {
                flags |= flag(kind);
            }
        }
        flags
    }
}

fn differs(pid: i32, kind: LinuxNamespaceType) -> bool {
    let inode = |who: &str| {
        fs::metadata(format!("/proc/{who}/ns/{}", file(kind))).map(|ns| (ns.dev(), ns.ino())).ok()
    };
    inode("self") != inode(&pid.to_string())
}

/// Joining or making a namespace failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {verb} {kind} namespace{}: {}", path.as_ref().map(|path| format!(" {path}")).unwrap_or_default(), Reason(*errno))]
pub struct EnterError {
    verb: &'static str,
    kind: &'static str,
    path: Option<String>,
    pub errno: Errno,
}

fn errno_of(error: &NamespaceError) -> Errno {
    use libcontainer::syscall::SyscallError;
    match error {
        NamespaceError::Nix(errno) | NamespaceError::Syscall(SyscallError::Nix(errno)) => {
            Errno::from_raw(*errno as i32)
        }
        NamespaceError::IO(error) => Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        _ => Errno::EIO,
    }
}

fn reason(error: &NamespaceError) -> Failure {
    error.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(namespaces: &str) -> Plan {
        let text = format!(
            r#"{{"ociVersion":"1.2.0","root":{{"path":"r"}},"linux":{{"namespaces":{namespaces}}}}}"#
        );
        Plan::of(&serde_json::from_str(&text).unwrap()).unwrap()
    }

    #[test]
    fn a_stage_is_needed_for_what_only_children_enter() {
        assert!(!plan(r#"[{"type":"pid"},{"type":"mount"},{"type":"network","path":"/n"}]"#).needs_stage());
        assert!(plan(r#"[{"type":"user"}]"#).needs_stage());
        assert!(plan(r#"[{"type":"time"}]"#).needs_stage());
        assert!(plan(r#"[{"type":"pid","path":"/p"}]"#).needs_stage());
    }

    #[test]
    fn the_user_namespace_is_joined_last_and_an_own_one_is_not_entered() {
        let plan =
            plan(r#"[{"type":"user","path":"/u"},{"type":"mount","path":"/m"},{"type":"ipc","path":"/i"}]"#);
        let kinds: Vec<_> = plan.joined().iter().map(|namespace| namespace.typ()).collect();
        assert_eq!(kinds, [LinuxNamespaceType::Ipc, LinuxNamespaceType::Mount, LinuxNamespaceType::User]);
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!plan.flags_towards(own).contains(CloneFlags::CLONE_NEWUSER));
    }

    #[test]
    fn init_is_born_in_what_is_new_and_needs_no_stage() {
        let plan = plan(
            r#"[{"type":"cgroup"},{"type":"pid"},{"type":"network","path":"/n"},{"type":"user"},{"type":"time"},{"type":"mount"}]"#,
        );
        assert_eq!(plan.at_birth(), CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS);
        let refused = plan.not_born(&io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(
            refused,
            "failed to clone into new namespaces [pid, mnt]: no space left on device (see /proc/sys/user/max_*_namespaces)"
        );
    }

    #[test]
    fn a_namespace_that_is_not_there_is_named() {
        let plan = plan(r#"[{"type":"network","path":"/nonexistent"}]"#);
        let error = plan.enter_all(|_| true).unwrap_err().to_string();
        assert_eq!(error, "failed to setns to net namespace /nonexistent: no such file or directory");
    }
}
