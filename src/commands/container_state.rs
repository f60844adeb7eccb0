//! What `state` and `list` show of a container: runc's fields, in runc's order and layout.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Serialize;

use crate::printable::printable_line;

/// One container as it is shown.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerState {
    /// Version of the specification that its config.json names.
    pub oci_version: String,
    /// Its name.
    pub id: String,
    /// Pid of its init; 0 if it is stopped.
    pub pid: i32,
    /// `created`, `running`, `paused` or `stopped`.
    pub status: &'static str,
    /// Its bundle, an absolute path.
    pub bundle: String,
    /// Its root file system, an absolute path.
    pub rootfs: String,
    /// When it was created: RFC 3339 with fractions of a second.
    pub created: String,
    /// What its config.json says of it, and what rt found out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Who owns its state folder; `state` leaves it empty, as runc does.
    pub owner: String,
}

/// Column titles of `list`.
const TITLES: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
/// Columns are at least this wide, and at least [`GAP`] wider than what is in them (Go's tabwriter in runc).
const LEAST_WIDTH: usize = 12;
const GAP: usize = 3;

/// The table of `list`, titles included.
#[must_use]
pub fn table(states: &[ContainerState]) -> String {
    let of_engine: Vec<_> =
        states.iter().map(|state| (state.pid.to_string(), printable_line(&state.bundle))).collect();
    let cells = |(state, of_engine)| -> [&str; TITLES.len()] {
        let ContainerState { id, status, created, owner, .. }: &ContainerState = state;
        let (pid, bundle): &(String, Cow<'_, str>) = of_engine;
        [id, pid, status, bundle, created, owner]
    };
    let rows = || std::iter::once(TITLES).chain(states.iter().zip(&of_engine).map(cells));
    let mut widths = [LEAST_WIDTH; TITLES.len()];
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + GAP);
        }
    }
    let mut text = String::new();
    for row in rows() {
        for (n, (cell, width)) in row.into_iter().zip(widths).enumerate() {
            text.push_str(cell);
            let blanks = if n + 1 < row.len() { width - cell.chars().count() } else { 0 };
            text.extend(std::iter::repeat_n(' ', blanks));
        }
        text.push('\n');
    }
    text
}

/// One JSON array on a line; `null` where there is none, as Go has it.
///
/// # Errors
/// None that can be expected.
pub fn json_array(states: &[ContainerState]) -> serde_json::Result<String> {
    let text = if states.is_empty() { "null".to_owned() } else { serde_json::to_string(states)? };
    Ok(text + "\n")
}

/// Names of users by uid, from the host's /etc/passwd and without libc's name service. Read when first asked.
#[derive(Debug, Default)]
pub struct Owners(Option<Vec<(u32, String)>>);

/// A larger file is read up to here.
const MAX_PASSWD: u64 = 16 << 20;

impl Owners {
    /// The user's name, or `#uid` if it has none.
    pub fn name(&mut self, uid: u32) -> String {
        let users = self.0.get_or_insert_with(|| users(Path::new("/etc/passwd")));
        let found = users.iter().find(|(known, _)| *known == uid);
        found.map_or_else(|| format!("#{uid}"), |(_, name)| name.clone())
    }
}

fn users(passwd: &Path) -> Vec<(u32, String)> {
    let Ok(file) = File::open(passwd) else { return Vec::new() };
    let lines = BufReader::new(file.take(MAX_PASSWD)).split(b'\n').map_while(Result::ok);
    lines.filter_map(|line| user(&String::from_utf8_lossy(&line))).collect()
}

/// uid and name of a line `name:password:uid:…`.
fn user(line: &str) -> Option<(u32, String)> {
    let mut fields = line.trim().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let uid = fields.nth(1)?.parse().ok()?;
    Some((uid, name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(id: &str) -> ContainerState {
        ContainerState {
            oci_version: "1.3.0".into(),
            id: id.into(),
            pid: 4711,
            status: "running",
            bundle: "/tmp/bundle-with-a-name".into(),
            rootfs: "/tmp/bundle-with-a-name/rootfs".into(),
            created: "2026-01-02T03:04:05.678901234Z".into(),
            annotations: BTreeMap::new(),
            owner: "root".into(),
        }
    }

    #[test]
    fn an_empty_list_is_runcs() {
        let titles = "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n";
        assert_eq!(table(&[]), titles);
        assert_eq!(json_array(&[]).unwrap(), "null\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_and_three() {
        let text = table(&[sample("c1"), sample("a-longer-name")]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0].find("PID"), Some("a-longer-name".len() + 3));
        assert_eq!(lines[1].find("running"), lines[0].find("STATUS"));
        assert_eq!(lines[2].find("root"), lines[2].rfind("root"));
        assert!(lines.iter().all(|line| !line.ends_with(' ')), "{text}");
    }

    #[test]
    fn a_bundle_makes_no_row_of_its_own() {
        let text = table(&[ContainerState { bundle: "/a\nweb  1  running\x1b[2J".into(), ..sample("c1") }]);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("/a\\u000aweb  1  running\\u001b[2J"), "{text}");
    }

    #[test]
    fn json_has_runcs_order_and_no_empty_annotations() {
        let text = json_array(&[sample("c1")]).unwrap();
        let expected = r#"[{"ociVersion":"1.3.0","id":"c1","pid":4711,"status":"running","bundle":"#;
        assert!(text.starts_with(expected), "{text}");
        assert!(text.ends_with("678901234Z\",\"owner\":\"root\"}]\n"), "{text}");
    }

    #[test]
    fn users_come_from_the_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwd");
        let text = b"root:x:0:0:root:/root:/bin/sh\n# c:x:5\n\nbroken\nu\xff:x:7:7::/:\nbad:x:-1:0\n:x:9:\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(users(&path), [(0, "root".to_owned()), (7, "u\u{fffd}".to_owned())]);
        assert!(users(&path.join("none")).is_empty());
        let mut owners = Owners(Some(vec![(5, "five".into())]));
        assert_eq!((owners.name(5), owners.name(6)), ("five".into(), "#6".into()));
    }
}
