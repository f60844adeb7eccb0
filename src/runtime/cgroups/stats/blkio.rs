//! Block I/O counters: v1's files (of BFQ, CFQ or throttling, whichever the kernel has), and v2's io.stat.

use std::path::Path;

use super::super::{CgroupError, Result, knob};
use super::{Blkio, BlkioEntry};

/// A v1 counter: the end of its file's name, and where it goes.
type Field = (&'static str, fn(&mut Blkio) -> &mut Vec<BlkioEntry>);

const ALL: [Field; 8] = [
    ("sectors_recursive", |io| &mut io.sectors_recursive),
    ("io_service_time_recursive", |io| &mut io.io_service_time_recursive),
    ("io_wait_time_recursive", |io| &mut io.io_wait_time_recursive),
    ("io_merged_recursive", |io| &mut io.io_merged_recursive),
    ("io_queued_recursive", |io| &mut io.io_queued_recursive),
    ("time_recursive", |io| &mut io.io_time_recursive),
    ("io_serviced_recursive", |io| &mut io.io_serviced_recursive),
    ("io_service_bytes_recursive", |io| &mut io.io_service_bytes_recursive),
];
const BASIC: [Field; 2] = [ALL[6], ALL[7]];
const NOT_RECURSIVE: [Field; 2] = [
    ("io_serviced", |io| &mut io.io_serviced_recursive),
    ("io_service_bytes", |io| &mut io.io_service_bytes_recursive),
];

/// The sets of files in runc's order: the first whose first file has a line is taken.
const SETS: [(&str, &[Field]); 5] = [
    ("blkio.bfq.", &ALL),
    ("blkio.bfq.", &BASIC),
    ("blkio.", &ALL),
    ("blkio.throttle.", &BASIC),
    ("blkio.throttle.", &NOT_RECURSIVE),
];

pub(super) fn read_v1(dir: &Path) -> Result<Blkio> {
    let mut io = Blkio::default();
    for (prefix, fields) in SETS {
        for (position, (name, field)) in fields.iter().enumerate() {
            let entries = read_entries(dir, &format!("{prefix}{name}"))?;
            if entries.is_empty() && position == 0 {
                break;
            }
            *field(&mut io) = entries;
            if position + 1 == fields.len() {
                return Ok(io);
            }
        }
    }
    Ok(io)
}

fn read_entries(dir: &Path, name: &str) -> Result<Vec<BlkioEntry>> {
    let text = match knob::read(dir, name) {
        Err(error) if error.is_gone() => return Ok(Vec::new()),
        text => text?,
    };
    text.lines()
        .filter(|line| !line.starts_with("Total"))
        .map(|line| parse_entry(line).ok_or_else(|| CgroupError::parse(&dir.join(name), line)))
        .collect()
}

/// `8:0 Read 1282048`, or without the word.
fn parse_entry(line: &str) -> Option<BlkioEntry> {
    let mut fields = line.split([' ', ':']).filter(|field| !field.is_empty());
    let (major, minor) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let (third, fourth) = (fields.next()?, fields.next());
    let (op, value) = match fourth {
        Some(value) => (third, value),
        None => ("", third),
    };
    Some(BlkioEntry { major, minor, op: op.to_owned(), value: value.parse().ok()? })
}

pub(super) fn read_v2(dir: &Path) -> Result<Blkio> {
    let text = knob::read(dir, "io.stat")?;
    let mut io = Blkio::default();
    for line in text.lines() {
        // "254:0 rbytes=4096 wbytes=0 rios=1 …"; a device without I/O has no more than its number.
        let Some((device, counters)) = line.split_once(' ') else { continue };
        let Some((major, minor)) = device.split_once(':') else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for counter in counters.split_whitespace() {
            let Some((key, value)) = counter.split_once('=') else { continue };
            let (list, op) = match key {
                "rbytes" => (&mut io.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut io.io_service_bytes_recursive, "Write"),
                "rios" => (&mut io.io_serviced_recursive, "Read"),
                "wios" => (&mut io.io_serviced_recursive, "Write"),
                _ => continue,
            };
            let value = value.parse().map_err(|_| CgroupError::parse(&dir.join("io.stat"), line))?;
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    Ok(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttling_counters_are_the_last_resort_on_v1() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("blkio.bfq.io_serviced_recursive", "Total 0\n");
        write("blkio.throttle.io_serviced_recursive", "8:0 Read 4\n8:0 Total 4\nTotal 4\n");
        write("blkio.throttle.io_service_bytes_recursive", "8:0 Read 4096\n");
        let io = read_v1(dir.path()).unwrap();
        assert_eq!(io.io_serviced_recursive.len(), 2);
        assert_eq!(io.io_service_bytes_recursive[0].value, 4096);
        assert!(io.sectors_recursive.is_empty());
    }

    #[test]
    fn io_stat_is_put_into_v1s_tables() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("io.stat"),
            "254:0 rbytes=4096 wbytes=8 rios=1 wios=2 dbytes=0 dios=0\n7:0\n",
        )
        .unwrap();
        let io = read_v2(dir.path()).unwrap();
        let write = &io.io_serviced_recursive[1];
        assert_eq!((write.major, write.op.as_str(), write.value), (254, "Write", 2));
        assert_eq!(io.io_service_bytes_recursive[0].value, 4096);
    }
}
