//! What config.json adds to the JSON of Go: where oci-spec's types are narrower than runc's, and runc's words for names that
//! do not exist.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use oci_spec::runtime::{IOPriorityClass, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources, Spec};

use crate::json::{Field, Reads, Rules};
use crate::runtime::cgroups::drop_zero_pids;
use crate::runtime::error::{Result, RuntimeError};
use crate::runtime::process::capabilities::{NAMES, warn_unknown};
use crate::runtime::process::memory_policy::MemoryPolicyError;
use crate::runtime::process::{id_list, memory_policy, personality, rlimits};

/// The namespaces of the spec, with the names of oci-spec.
const NAMESPACES: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];

type Outcome<T, E = String> = std::result::Result<T, E>;

/// Rules for one reading, and what oci-spec's types cannot tell of it afterwards.
#[derive(Debug, Default)]
pub struct SpecRules {
    unknown_capabilities: RefCell<BTreeSet<String>>,
    pids_without_limit: Cell<bool>,
    seccomp_without_action: Cell<bool>,
}

impl Rules for SpecRules {
    fn reads(&self, at: Field) -> Reads {
        match (at.owner, at.name) {
            ("PosixRlimit" | "LinuxNamespace", "type")
            | ("LinuxPersonality", "domain")
            | ("LinuxIOPriority", "class")
            | ("LinuxMemoryPolicy", "mode" | "flags")
            | ("Scheduler", "flags")
            | ("LinuxSeccomp", "defaultAction")
            | ("LinuxCapabilities", _) => Reads::Text,
            ("ExecCPUAffinity", _) | ("LinuxDeviceCgroup", "type") => Reads::OptionalText,
            _ => Reads::AsItIs,
        }
    }

    fn text<'t>(&self, at: Field, text: Cow<'t, str>) -> Outcome<Option<Cow<'t, str>>> {
        match at.owner {
            "LinuxCapabilities" if !NAMES.contains(&&*text) => {
                self.unknown_capabilities.borrow_mut().insert(text.into_owned());
                return Ok(None);
            }
            "PosixRlimit" => check(rlimits::parse(&text))?,
            "LinuxNamespace" if !NAMESPACES.contains(&&*text) => {
                return Err(format!("namespace {text:?} does not exist"));
            }
            "LinuxPersonality" => check(personality::parse(&text))?,
            "LinuxIOPriority" if text.parse::<IOPriorityClass>().is_err() => {
                return Err(format!("invalid ioPriority.Class: {text:?}"));
            }
            "LinuxMemoryPolicy" => check_memory_policy(at.name, &text)?,
            "Scheduler" => return Ok(Some(scheduler_flag(text))),
            "LinuxSeccomp" if text.is_empty() => {
                self.seccomp_without_action.set(true);
                // It stands for none until `finish`.
                return Ok(Some("SCMP_ACT_KILL_PROCESS".into()));
            }
            "ExecCPUAffinity" => return cpu_list(at.name, &text),
            "LinuxDeviceCgroup" if text.is_empty() => return Ok(None),
            _ => {}
        }
        Ok(Some(text))
    }

    fn may_lack(&self, owner: &str) -> &'static [&'static str] {
        match owner {
            "Process" => &["user", "cwd"],
            "LinuxPids" => &["limit"],
            // oci-spec would read a class of its own choice.
            "LinuxIOPriority" => &["class"],
            "LinuxSeccomp" => &["defaultAction"],
            "LinuxSyscall" => &["names"],
            "LinuxSeccompArg" => &["index", "value"],
            _ => &[],
        }
    }

    fn zero(&self, at: Field) -> Outcome<()> {
        if at == (Field { owner: "LinuxPids", name: "limit" }) {
            self.pids_without_limit.set(true);
        }
        Ok(())
    }
}

fn check<T>(parsed: Outcome<T, impl ToString>) -> Outcome<()> {
    parsed.map(drop).map_err(|error| error.to_string())
}

fn check_memory_policy(field: &str, word: &str) -> Outcome<()> {
    let error = match field {
        "mode" if !memory_policy::MODES.contains(&word) => MemoryPolicyError::Mode(word.to_owned()),
        "flags" if !memory_policy::FLAGS.iter().any(|(flag, _)| *flag == word) => {
            MemoryPolicyError::Flag(word.to_owned())
        }
        _ => return Ok(()),
    };
    Err(error.to_string())
}

/// oci-spec 0.10 derived these names wrongly.
fn scheduler_flag(name: Cow<'_, str>) -> Cow<'_, str> {
    match &*name {
        "SCHED_FLAG_RESET_ON_FORK" => "SCHED_RESET_ON_FORK".into(),
        "SCHED_FLAG_DL_OVERRUN" => "SCHED_FLAG_D_L_OVERRUN".into(),
        _ => name,
    }
}

/// oci-spec takes no spaces and no empty list.
fn cpu_list<'t>(field: &str, list: &str) -> Outcome<Option<Cow<'t, str>>> {
    let name = if field == "initial" { "Initial" } else { "Final" };
    id_list::IdSet::parse(list).map_err(|reason| format!("bad CPUAffinity.{name}: {reason}"))?;
    let list: String = list.split_whitespace().collect();
    Ok((!list.is_empty()).then_some(list.into()))
}

impl SpecRules {
    /// Puts right what was read by these rules.
    ///
    /// # Errors
    /// It is not what the spec says, in runc's words.
    pub fn finish(&self, spec: &mut Spec) -> Result<()> {
        self.finish_process();
        if spec.root().is_none() {
            return Err(RuntimeError::Invalid("root must be specified".to_owned()));
        }
        let version = spec.version().clone();
        let Some(linux) = spec.linux_mut() else { return Ok(()) };
        if let Some(resources) = linux.resources_mut() {
            self.finish_resources(resources)?;
            drop_zero_pids(resources, &version);
        }
        let mut seen = BTreeSet::new();
        for namespace in linux.namespaces_mut().iter_mut().flatten() {
            let kind = namespace.typ();
            if !seen.insert(kind as u32) {
                let kind = serde_json::to_string(&kind).unwrap_or_default();
                return Err(RuntimeError::Invalid(format!("malformed spec file: duplicated ns {kind}")));
            }
            if namespace.path().as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
                namespace.set_path(None);
            }
        }
        if self.seccomp_without_action.get() {
            let filters = linux
                .seccomp()
                .as_ref()
                .is_some_and(|seccomp| seccomp.syscalls().iter().flatten().count() > 0);
            if filters {
                return Err(RuntimeError::Invalid("string  is not a valid action for seccomp".to_owned()));
            }
            linux.set_seccomp(None);
        }
        Ok(())
    }

    /// The same for a process: says which capabilities are left out.
    pub fn finish_process(&self) {
        warn_unknown(&self.unknown_capabilities.borrow());
    }

    /// The same for resources.
    ///
    /// # Errors
    /// A device rule that the kernel would take for another one.
    pub fn finish_resources(&self, resources: &mut LinuxResources) -> Result<()> {
        // It would be a limit of no process.
        if self.pids_without_limit.get() {
            resources.set_pids(None);
        }
        let Some(rules) = resources.devices_mut() else { return Ok(()) };
        for (index, rule) in rules.iter().enumerate() {
            for number in [rule.major(), rule.minor()].into_iter().flatten() {
                // -1 is any device; the kernel takes 2³²-1 for any, too.
                if !(-1..i64::from(u32::MAX)).contains(&number) {
                    let message = format!("linux.resources.devices[{index}]: invalid device number {number}");
                    return Err(RuntimeError::Invalid(message));
                }
            }
        }
        if rules.iter().any(is_of_both_types) {
            *rules = std::mem::take(rules).into_iter().flat_map(by_type).collect();
        }
        Ok(())
    }
}

/// A rule for devices with a number, whether character or block devices. The kernel of v1 ignores the number where the type is
/// "a": the rule would be one for all devices.
fn is_of_both_types(rule: &LinuxDeviceCgroup) -> bool {
    let given = |number: Option<i64>| number.is_some_and(|number| number != -1);
    matches!(rule.typ(), None | Some(LinuxDeviceType::A)) && (given(rule.major()) || given(rule.minor()))
}

fn by_type(rule: LinuxDeviceCgroup) -> Vec<LinuxDeviceCgroup> {
    if !is_of_both_types(&rule) {
        return vec![rule];
    }
    let of = |kind| {
        let mut rule = rule.clone();
        rule.set_typ(Some(kind));
        rule
    };
    vec![of(LinuxDeviceType::C), of(LinuxDeviceType::B)]
}
