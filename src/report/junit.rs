//! The checklist as JUnit's XML, which CI systems show: a suite, a case a check.

use std::fmt::Write;
use std::time::Duration;

use super::markup::Escaped;
use crate::verify::{Check, Mark, Report};

/// The whole document.
pub fn document(report: &Report) -> String {
    let count = |mark| report.checks.iter().filter(|check| check.mark == mark).count();
    let (tests, failures, skipped) = (report.checks.len(), count(Mark::Fail), count(Mark::Skip));
    let time = seconds(report.checks.iter().map(|check| check.took_us).sum());
    let counts = format!(
        "tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{time}\""
    );
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(text, "<testsuites {counts}>");
    let _ = writeln!(text, "  <testsuite name=\"rt verify\" {counts}>");
    let runtime = report.runtime.to_string_lossy();
    text += "    <properties>\n";
    for (name, value) in [("runtime", &*runtime), ("kernel", &report.kernel)] {
        let _ = writeln!(text, "      <property name=\"{name}\" value=\"{}\"/>", Escaped(value));
    }
    text += "    </properties>\n";
    for check in &report.checks {
        text += &case(check);
    }
    text + "  </testsuite>\n</testsuites>\n"
}

fn case(check: &Check) -> String {
    let (class, name) = (Escaped(check.step.title()), Escaped(check.name));
    let time = seconds(check.took_us);
    let why = Escaped(&check.why);
    let inner = match check.mark {
        Mark::Pass => format!("<system-out>{why}</system-out>"),
        Mark::Skip => format!("<skipped message=\"{why}\"/>"),
        Mark::Fail => {
            let hint = check.hint.as_deref().unwrap_or_default();
            format!("<failure message=\"{why}\">{}</failure>", Escaped(hint))
        }
    };
    format!("    <testcase classname=\"{class}\" name=\"{name}\" time=\"{time}\">{inner}</testcase>\n")
}

fn seconds(us: u64) -> String {
    format!("{:.3}", Duration::from_micros(us).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::verify::tests::report;

    #[test]
    fn every_check_is_a_case_and_every_tag_is_closed() {
        let text = document(&report());
        assert!(
            text.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"0.004\""),
            "{text}"
        );
        assert!(text.contains("<failure message=\"&lt;broken&gt;\">look</failure>"), "{text}");
        assert!(text.contains("<skipped message=\"not here\"/>"), "{text}");
        let mut open: Vec<&str> = Vec::new();
        for tag in text.split('<').skip(2).filter_map(|part| part.split('>').next()) {
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop(), Some(name), "{text}");
            } else if !tag.ends_with('/') {
                open.push(tag.split(' ').next().unwrap_or_default());
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }
}
