//! The checklist in words: what was detected, a line a check, and the sum.

use crate::cgroup::host::{HostSetup, Privilege};
use crate::printable::put_line;
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
        let line = match (&controller.version, &controller.mount) {
            (Some(version), Some(mount)) => {
                let limiter = controller.limiter.as_deref().unwrap_or("no limit above");
                format!("  {:<7} {version} at {}, {limiter}", controller.name, mount.display())
            }
            _ => format!("  {:<7} none", controller.name),
        };
        put_line(&mut text, &line);
    }
    text
}

/// One check; `before` is the step of the check before, whose title need not be said again.
pub fn check(check: &Check, before: Option<Step>) -> String {
    let mut text = String::new();
    if before != Some(check.step) {
        put_line(&mut text, check.step.title());
    }
    put_line(&mut text, &format!("  {} {}: {}", check.mark, check.name, check.why));
    if let Some(hint) = &check.hint {
        put_line(&mut text, &format!("    hint: {hint}"));
    }
    text
}

/// How many checks hold.
pub fn summary(report: &Report) -> String {
    let count = |mark| report.checks.iter().filter(|check| check.mark == mark).count();
    let (pass, fail, skip) = (count(Mark::Pass), count(Mark::Fail), count(Mark::Skip));
    match (report.passed, skip) {
        (true, 0) => format!("All {pass} checks hold.\n"),
        (true, _) => format!("All {pass} checks hold that apply here; {skip} do not apply {}.\n", Mark::Skip),
        (false, _) => format!(
            "{pass} hold {}, {fail} do not {}, {skip} were not made {}\n",
            Mark::Pass,
            Mark::Fail,
            Mark::Skip
        ),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::cgroup::host::Layout;

    /// A report with one check of each mark.
    pub(crate) fn report() -> Report {
        let check = |step, name, mark, why: &str| Check {
            step,
            name,
            mark,
            why: why.into(),
            hint: (mark == Mark::Fail).then(|| "look".into()),
            took_us: 1500,
        };
        Report {
            runtime: "/usr/bin/runc".into(),
            kernel: "6.18".into(),
            host: HostSetup { layout: Layout::V2, privilege: Privilege::Root, controllers: Vec::new() },
            checks: vec![
                check(Step::Within, "within", Mark::Pass, "fits"),
                check(Step::Within, "again", Mark::Fail, "<broken>"),
                check(Step::Above, "above", Mark::Skip, "not here"),
            ],
            passed: false,
        }
    }

    #[test]
    fn a_title_is_said_once_and_a_hint_below() {
        let line = &report().checks[1];
        let first = check(line, Some(Step::Monitoring));
        assert_eq!(first, "Test memory allocation within limits\n  ✗ again: <broken>\n    hint: look\n");
        assert!(!check(line, Some(Step::Within)).contains("Test memory"));
    }

    #[test]
    fn the_sum_says_what_did_not_hold_and_what_does_not_apply() {
        let mut report = report();
        assert_eq!(summary(&report), "1 hold ✓, 1 do not ✗, 1 were not made –\n");
        report.checks.remove(1);
        report.passed = true;
        assert_eq!(summary(&report), "All 1 checks hold that apply here; 1 do not apply –.\n");
    }
}
