//! States, annotations and hook lists from any text.

use std::time::Duration;

use proptest::prelude::*;

use super::{Annotations, OnInconclusive, Policy, Stage, State, annotations, deadline};

proptest! {
    #[test]
    fn any_input_is_a_state_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = State::parse(&bytes);
    }

    #[test]
    fn a_state_is_read_whatever_else_is_in_it(id in any::<String>(), pid in 1.., status in any::<String>(), bundle in "/\\PC{0,20}") {
        let text = serde_json::json!({ "id": id, "pid": pid, "status": status, "bundle": bundle, "x": [id] });
        let state = State::parse(text.to_string().as_bytes()).unwrap();
        prop_assert_eq!(state, State { id, pid, bundle: bundle.into() });
    }

    #[test]
    fn an_annotation_is_understood_or_named(name in "rt\\.memory\\.[a-z-]{0,20}|rt.memory.(test|mb|policy)", value in any::<String>()) {
        if let Err(error) = Annotations::read([(name.as_str(), value.as_str())]) {
            prop_assert!(error.to_string().contains(&name));
        }
    }

    #[test]
    fn numbers_are_what_they_say(mb in 1..=u32::MAX, seconds in 1..=u32::MAX) {
        let (mb, seconds) = (mb.to_string(), seconds.to_string());
        let read = Annotations::read([(annotations::MB, mb.as_str()), (annotations::SECONDS, seconds.as_str())]).unwrap();
        prop_assert_eq!((read.mb, read.seconds), (mb.parse().ok(), seconds.parse().ok()));
    }

    #[test]
    fn words_are_themselves_or_nothing(word in any::<String>()) {
        prop_assert!(word.parse::<Stage>().map_or(true, |stage| stage.name() == word));
        prop_assert!(word.parse::<Policy>().map_or(true, |policy| policy.name() == word));
        prop_assert!(word.parse::<OnInconclusive>().map_or(true, |what| what.name() == word));
    }

    #[test]
    fn a_deadline_never_passes_the_hooks_own(seconds in any::<Option<u64>>(), timeout in proptest::option::of(1..=u64::MAX)) {
        let timeout = timeout.map(Duration::from_secs);
        if let Ok(found) = deadline::of(seconds, timeout) {
            prop_assert!(found < timeout.unwrap_or(Duration::from_secs(6)));
        }
        let _ = deadline::timeout_for(seconds.unwrap_or(0));
    }
}
