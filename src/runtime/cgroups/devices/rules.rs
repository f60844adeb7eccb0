//! A device list as the v1 controller keeps it: a default and its exceptions. Rules are folded into it one by one,
//! so that v1 and v2 enforce the same, and so that a change is written as the fewest steps.

use std::collections::BTreeMap;
use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::super::{CgroupError, Result};

/// Access rights as bits: what `r`, `w` and `m` allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Access(u8);

impl Access {
    const LETTERS: [(char, u8); 3] = [('r', 1), ('w', 2), ('m', 4)];

    /// Unknown letters mean nothing, as in runc.
    fn parse(text: &str) -> Self {
        let bit =
            |letter| Self::LETTERS.iter().find(|(known, _)| *known == letter).map_or(0, |(_, bit)| *bit);
        Self(text.chars().map(bit).fold(0, |all, bit| all | bit))
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::LETTERS
            .iter()
            .filter(|(_, bit)| self.0 & bit != 0)
            .try_for_each(|(letter, _)| write!(f, "{letter}"))
    }
}

/// Which devices an exception is about; `None` stands for any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Device {
    major: Option<u32>,
    minor: Option<u32>,
    block: bool,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(f, "{} {}:{}", if self.block { 'b' } else { 'c' }, number(self.major), number(self.minor))
    }
}

/// One rule; without a device it is about all of them (type `a`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub device: Option<Device>,
    pub access: Access,
    pub allow: bool,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.device {
            Some(device) => write!(f, "{device} {}", self.access),
            None => f.write_str("a *:* rwm"),
        }
    }
}

impl Rule {
    pub(super) fn from_spec(position: usize, device: &LinuxDeviceCgroup) -> Result<Self> {
        let access = device.access().as_deref().unwrap_or_default();
        if access.is_empty() {
            let text = format!("device access at {position} field cannot be empty");
            return Err(CgroupError::InvalidLimit(text));
        }
        Self::new(device.typ().unwrap_or_default(), device.major(), device.minor(), access, device.allow())
    }

    pub(super) fn new(
        kind: LinuxDeviceType,
        major: Option<i64>,
        minor: Option<i64>,
        access: &str,
        allow: bool,
    ) -> Result<Self> {
        let block = match kind {
            LinuxDeviceType::A => return Ok(Self { device: None, access: Access::parse("rwm"), allow }),
            LinuxDeviceType::B => true,
            LinuxDeviceType::C => false,
            other => {
                let text = format!("invalid cgroup device type {:?}", other.as_str());
                return Err(CgroupError::InvalidLimit(text));
            }
        };
        let device = Device { major: number("major", major)?, minor: number("minor", minor)?, block };
        Ok(Self { device: Some(device), access: Access::parse(access), allow })
    }

    /// The rule as pairs of systemd's `DeviceAllow`; `groups` is `/proc/devices`. A major number without a minor one is
    /// a driver's name there, and nothing where no driver has it.
    pub(super) fn for_systemd(self, groups: &str) -> Vec<(String, String)> {
        let Some(Device { major, minor, block }) = self.device else { return Vec::new() };
        let kind = if block { "block" } else { "char" };
        let path = match (major, minor) {
            (Some(major), Some(minor)) => vec![format!("/dev/{kind}/{major}:{minor}")],
            (Some(major), None) => {
                drivers(groups, block, major).map(|name| format!("{kind}-{name}")).collect()
            }
            // A minor number of any driver cannot be said; it is allowed for all, and cgroupfs denies the rest.
            (None, _) => vec![format!("{kind}-*")],
        };
        path.into_iter().map(|path| (path, self.access.to_string())).collect()
    }

    /// The rule as the crate takes it.
    pub(super) fn to_spec(self) -> LinuxDeviceCgroup {
        let mut spec = LinuxDeviceCgroup::default();
        spec.set_allow(self.allow).set_access(Some(self.access.to_string()));
        if let Some(device) = self.device {
            let kind = if device.block { LinuxDeviceType::B } else { LinuxDeviceType::C };
            spec.set_typ(Some(kind))
                .set_major(device.major.map(i64::from))
                .set_minor(device.minor.map(i64::from));
        }
        spec
    }
}

/// The names that `/proc/devices` has for a major number.
fn drivers(groups: &str, block: bool, major: u32) -> impl Iterator<Item = &str> {
    let (characters, blocks) = groups.split_once("Block devices:").unwrap_or((groups, ""));
    let lines = if block { blocks } else { characters }.lines();
    lines.filter_map(move |line| {
        let (number, name) = line.trim().split_once(' ')?;
        (number.parse() == Ok(major)).then_some(name)
    })
}

/// -1 means any, like no number at all.
fn number(name: &str, value: Option<i64>) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(CgroupError::InvalidLimit(format!("invalid device {name} number {value}"))),
        },
    }
}

/// The state of a devices cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    pub default_allow: bool,
    exceptions: BTreeMap<Device, Access>,
}

impl Rules {
    pub(super) fn deny_all() -> Self {
        Self { default_allow: false, exceptions: BTreeMap::new() }
    }

    /// Reads `devices.list`. It never lists denials: a cgroup that allows by default shows only that.
    pub(super) fn parse_list(text: &str) -> Option<Self> {
        let mut rules = Self::deny_all();
        for line in text.lines() {
            let mut fields = line.split([' ', ':']);
            let (kind, major, minor, access) =
                (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
            if kind == "a" {
                rules = Self { default_allow: true, exceptions: BTreeMap::new() };
                continue;
            }
            let device = Device { major: number(major)?, minor: number(minor)?, block: kind == "b" };
            rules.add(device, Access::parse(access));
        }
        Some(rules)
    }

    /// Folds in one rule. A rule that would have to cut a hole into a wider exception is an error: the kernel
    /// ignores such a rule silently on v1.
    pub(super) fn apply(&mut self, rule: &Rule) -> Result<()> {
        match rule.device {
            None => *self = Self { default_allow: rule.allow, exceptions: BTreeMap::new() },
            Some(device) if rule.allow == self.default_allow => self.remove(device, rule.access)?,
            Some(device) => self.add(device, rule.access),
        }
        Ok(())
    }

    fn add(&mut self, device: Device, access: Access) {
        if access.is_empty() {
            return;
        }
        let known = self.exceptions.entry(device).or_default();
        known.0 |= access.0;
    }

    fn remove(&mut self, device: Device, access: Access) -> Result<()> {
        let wider = [
            Device { major: None, ..device },
            Device { minor: None, ..device },
            Device { major: None, minor: None, ..device },
        ];
        for wider in wider.iter().filter(|wider| **wider != device) {
            let known = self.exceptions.get(wider).copied().unwrap_or_default();
            if known.0 & access.0 != 0 {
                return Err(CgroupError::InvalidLimit(format!(
                    "requested rule [{device} {access}] not supported by devices cgroupv1 \
                     (cannot punch hole in existing wildcard rule [{wider} {known}])"
                )));
            }
        }
        if let Some(known) = self.exceptions.get_mut(&device) {
            *known = known.without(access);
            if known.is_empty() {
                self.exceptions.remove(&device);
            }
        }
        Ok(())
    }

    pub(super) fn denies_nothing(&self) -> bool {
        self.default_allow && self.exceptions.is_empty()
    }

    /// The exceptions as rules.
    pub(super) fn exceptions(&self) -> impl Iterator<Item = Rule> + '_ {
        let allow = !self.default_allow;
        self.exceptions.iter().map(move |(device, access)| Rule {
            device: Some(*device),
            access: *access,
            allow,
        })
    }

    /// The fewest rules that turn a cgroup in state `self` into `target`: what both have is never taken away, so
    /// that nothing in the container sees a device vanish for a moment.
    pub(super) fn transition(&self, target: &Self) -> Vec<Rule> {
        let mut steps = Vec::new();
        let mut old = self.clone();
        // The exceptions of a cgroup that allows by default are not known, so it has to be reset.
        if self.default_allow || self.default_allow != target.default_allow {
            steps.push(Rule { device: None, access: Access::parse("rwm"), allow: target.default_allow });
            old.exceptions.clear();
        }
        let of = |rules: &Self, device: &Device| rules.exceptions.get(device).copied().unwrap_or_default();
        for (device, access) in &old.exceptions {
            let dropped = access.without(of(target, device));
            if !dropped.is_empty() {
                steps.push(Rule { device: Some(*device), access: dropped, allow: target.default_allow });
            }
        }
        for (device, access) in &target.exceptions {
            let gained = access.without(of(&old, device));
            if !gained.is_empty() {
                steps.push(Rule { device: Some(*device), access: gained, allow: !target.default_allow });
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(kind: LinuxDeviceType, major: i64, minor: i64, access: &str, allow: bool) -> Rule {
        Rule::new(kind, Some(major), Some(minor), access, allow).unwrap()
    }

    fn steps(from: &Rules, to: &Rules) -> Vec<String> {
        let sign = |rule: &Rule| if rule.allow { '+' } else { '-' };
        from.transition(to).iter().map(|rule| format!("{}{rule}", sign(rule))).collect()
    }

    #[test]
    fn a_new_cgroup_is_denied_everything_first() {
        let fresh = Rules::parse_list("a *:* rwm\n").unwrap();
        let mut target = Rules::deny_all();
        target.apply(&rule(LinuxDeviceType::C, 1, 3, "rw", true)).unwrap();
        target.apply(&rule(LinuxDeviceType::C, 1, 3, "m", true)).unwrap();
        assert_eq!(steps(&fresh, &target), ["-a *:* rwm", "+c 1:3 rwm"]);
    }

    #[test]
    fn an_update_writes_only_what_changes() {
        let now = Rules::parse_list("c 1:3 rwm\nb 8:* r\nc *:* m\n").unwrap();
        assert!(now.transition(&now.clone()).is_empty());
        let mut target = now.clone();
        target.apply(&rule(LinuxDeviceType::B, 8, -1, "r", false)).unwrap();
        target.apply(&rule(LinuxDeviceType::B, 8, 1, "rw", true)).unwrap();
        assert_eq!(steps(&now, &target), ["-b 8:* r", "+b 8:1 rw"]);
    }

    #[test]
    fn a_hole_in_a_wider_rule_is_refused() {
        let mut rules = Rules::parse_list("c *:* m\n").unwrap();
        let error = rules.apply(&rule(LinuxDeviceType::C, 1, 3, "rwm", false)).unwrap_err();
        assert!(
            error.to_string().contains("cannot punch hole in existing wildcard rule [c *:* m]"),
            "{error}"
        );
        rules.apply(&rule(LinuxDeviceType::C, 1, 3, "rw", false)).unwrap();
    }

    #[test]
    fn rules_without_access_or_of_odd_types_are_refused() {
        let empty: LinuxDeviceCgroup = serde_json::from_str(r#"{"allow":false}"#).unwrap();
        let error = Rule::from_spec(3, &empty).unwrap_err();
        assert_eq!(error.to_string(), "device access at 3 field cannot be empty");
        assert!(Rule::new(LinuxDeviceType::P, None, None, "rwm", true).is_err());
        assert!(Rule::new(LinuxDeviceType::C, Some(-7), None, "rwm", true).is_err());
        // An unknown letter is not an error in runc ("update devices" in its tests has one).
        assert_eq!(rule(LinuxDeviceType::C, 1, 11, "rwa", false).to_string(), "c 1:11 rw");
    }

    #[test]
    fn allow_all_forgets_earlier_rules() {
        let mut rules = Rules::parse_list("c 1:3 rwm\n").unwrap();
        rules.apply(&Rule::new(LinuxDeviceType::A, None, None, "rwm", true).unwrap()).unwrap();
        assert!(rules.default_allow);
        assert_eq!(rules.exceptions().count(), 0);
    }
}
