//! State files, receipts and names from any text.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::cgroups::Cgroup;
use super::oci_state::OciState;
use super::receipts;
use super::record::{FORMAT, Record, Unreadable};
use super::status::{ProcessId, Status};
use super::store::check_id;
use crate::receipt::{Baseline, End};

fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("\\PC{0,12}|[a-z.]{1,20}", any::<String>(), 0..5)
}

fn record() -> impl Strategy<Value = Record> {
    let words = ("[a-zA-Z0-9_+.-]{1,20}", any::<String>(), "/\\PC{0,20}", "/\\PC{0,20}");
    let init = any::<Option<(i32, u64)>>();
    let end = prop_oneof![
        Just(None),
        any::<u8>().prop_map(|code| Some(End::Exit(code))),
        any::<i32>().prop_map(|signal| Some(End::Signal(signal)))
    ];
    let limit = any::<Option<i64>>();
    (words, annotations(), any::<[bool; 2]>(), init, end, limit, any::<Option<u64>>()).prop_map(
        |((id, version, bundle, rootfs), annotations, flags, init, end, limit, baseline)| Record {
            format: FORMAT,
            rt_version: "1".into(),
            cgroup: Cgroup::plan(Some(Path::new("/box")), &id, false, false).unwrap(),
            id,
            oci_version: version,
            bundle: bundle.into(),
            rootfs: rootfs.into(),
            created: "2026-01-01T00:00:00Z".into(),
            annotations,
            ready: flags[0],
            init: init.map(|(pid, start_time)| ProcessId { pid, start_time }),
            asked: limit.map(|limit| {
                serde_json::from_value(serde_json::json!({ "memory": { "limit": limit } })).unwrap()
            }),
            undo: None,
            rdt: None,
            no_new_keyring: flags[1],
            baseline: baseline.map(|oom_kills| Baseline { oom_kills, ..Baseline::default() }),
            end,
            saved: None,
            more: serde_json::Map::new(),
        },
    )
}

proptest! {
    #[test]
    fn a_state_is_read_back(record in record()) {
        let text = serde_json::to_vec(&record).unwrap();
        let again = Record::parse(&text).unwrap();
        prop_assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&record).unwrap());
        prop_assert_eq!((again.init, again.end, again.annotations), (record.init, record.end, record.annotations));
    }

    #[test]
    fn a_cut_state_is_damaged(record in record(), at in any::<prop::sample::Index>()) {
        let text = serde_json::to_vec(&record).unwrap();
        let cut = Record::parse(&text[..at.index(text.len())]);
        prop_assert!(matches!(cut, Err(Unreadable::Damaged(_))));
    }

    #[test]
    fn a_changed_byte_does_not_panic(record in record(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut text = serde_json::to_vec(&record).unwrap();
        let at = at.index(text.len());
        text[at] = byte;
        if let Ok(read) = Record::parse(&text) {
            prop_assert!(read.format <= FORMAT);
        }
    }

    #[test]
    fn any_bytes_are_damaged_or_newer(text in vec(any::<u8>(), 0..200), format in (FORMAT + 1)..=u32::MAX) {
        prop_assert!(Record::parse(&text).is_err());
        let newer = Record::parse(format!(r#"{{"format":{format},"id":"box","what":[]}}"#).as_bytes());
        prop_assert!(matches!(newer, Err(Unreadable::Newer(head)) if head.format == format));
    }

    #[test]
    fn annotations_reach_hooks_as_they_are(annotations in annotations(), pid in any::<i32>()) {
        let state = OciState {
            oci_version: "1.0".into(),
            id: "box".into(),
            status: String::new(),
            pid,
            bundle: "/b".into(),
            annotations: annotations.clone(),
        };
        let json: serde_json::Value = serde_json::from_slice(&state.at(Status::Created, pid)).unwrap();
        prop_assert_eq!(json.get("pid").is_some(), pid != 0);
        let read: BTreeMap<String, String> = json.get("annotations").map_or_else(BTreeMap::new, |all| {
            serde_json::from_value(all.clone()).unwrap()
        });
        prop_assert_eq!(read, annotations);
    }

    #[test]
    fn a_name_is_one_folder_of_the_root(id in "\\PC{0,20}|[a-z./+-]{0,8}|[.]?[a-z-]{1,16}|a{250,260}") {
        if check_id(&id).is_ok() {
            let parts: Vec<_> = Path::new(&id).components().collect();
            prop_assert!(matches!(parts.as_slice(), [Component::Normal(name)] if *name == id.as_str()), "{:?}", id);
            prop_assert!(id.len() <= 255 && id.is_ascii() && id != ".receipts" && id != ".seccomp-cache");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_receipt_of_any_bytes_is_an_error(text in vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(receipts::FILE), text).unwrap();
        prop_assert!(receipts::read(dir.path()).is_err());
    }
}
