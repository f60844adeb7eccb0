//! The checklist in words: what was detected, a line a check, and the sum.

use std::fmt::Write;

use crate::cgroup::host::{HostSetup, Privilege};
use crate::verify::{Check, Mark, Report, Step};

/// What was detected of this host.
pub fn host(setup: &HostSetup) -> String {
    let privilege = match setup.privilege {
        Privilege::Root => "root",
        Privilege::RootlessDelegated => "rootless, memory delegated",
        Privilege::RootlessNotDelegated => "rootless, not delegated",
    };
    let mut text = format!("Host: cgroups {}, {privilege}\n", setup.layout);
    for controller in &setup.controllers {
        let _ = match (&controller.version, &controller.mount) {
            (Some(version), Some(mount)) => {
                let limiter = controller.limiter.as_deref().unwrap_or("no limit above");
                writeln!(text, "  {:<7} {version} at {}, {limiter}", controller.name, mount.display())
            }
            _ => writeln!(text, "  {:<7} none", controller.name),
        };
    }
    text
}

/// One check; `before` is the step of the check before, whose title need not be said again.
pub fn check(check: &Check, before: Option<Step>) -> String {
    let mut text = String::new();
    if before != Some(check.step) {
        let _ = writeln!(text, "{}", check.step.title());
    }
    let _ = writeln!(text, "  {} {}: {}", check.mark, check.name, check.why);
    if let Some(hint) = &check.hint {
        let _ = writeln!(text, "    hint: {hint}");
    }
    text
}

/// How many checks hold.
pub fn summary(report: &Report) -> String {
    let count = |mark| report.checks.iter().filter(|check| check.mark == mark).count();
    let (pass, fail, skip) = (count(Mark::Pass), count(Mark::Fail), count(Mark::Skip));
    if report.passed {
        return format!("All {pass} checks hold.\n");
    }
    format!("{pass} hold {}, {fail} do not {}, {skip} were not made {}\n", Mark::Pass, Mark::Fail, Mark::Skip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_said_once_and_a_hint_below() {
        let line = Check {
            step: Step::Within,
            name: "within",
            mark: Mark::Fail,
            why: "killed-early".into(),
            hint: Some("look".into()),
        };
        let first = check(&line, Some(Step::Monitoring));
        assert_eq!(first, "Test memory allocation within limits\n  ✗ within: killed-early\n    hint: look\n");
        assert!(!check(&line, Some(Step::Within)).contains("Test memory"));
    }
}
