//! v1: the steps go to `devices.allow` and `devices.deny`, one write each.

use std::fs::File;
use std::path::Path;

use super::super::{CgroupError, Result, knob};
use super::rules::Rules;

pub(super) fn write(dir: &Path, target: &Rules, fresh: bool) -> Result<()> {
    let current = if fresh {
        // Whatever it took over from its parent: nobody is in it, so it can be reset.
        Rules::parse_list("a *:* rwm")
    } else {
        let list = knob::read(dir, "devices.list")?;
        Some(Rules::parse_list(&list).ok_or_else(|| CgroupError::parse(&dir.join("devices.list"), &list))?)
    };
    let current = current.unwrap_or_else(Rules::deny_all);
    let mut open: Option<(bool, File)> = None;
    for rule in current.transition(target) {
        let path = dir.join(if rule.allow { "devices.allow" } else { "devices.deny" });
        let mut file = match open.take() {
            Some((allow, file)) if allow == rule.allow => file,
            _ => knob::open_to_write(&path)?,
        };
        knob::write_to(&mut file, &path, &rule.to_string())?;
        open = Some((rule.allow, file));
    }
    Ok(())
}
