//! Every record that a test here causes is what docs/record.schema.json says.

use std::sync::OnceLock;

use jsonschema::Validator;
use rt::proof::run::RunSummary;
use rt::proof::stress::StressVerdict;
use rt::proof::{Outcome, Reason, Request, Strategy, Verdict};
use serde::Serialize;
use serde_json::Value;

const SCHEMA: &str = include_str!("../../docs/record.schema.json");

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// Makes the proof and says its outcome, whose record is valid.
#[track_caller]
pub fn proved(request: &Request) -> Outcome {
    let outcome = crate::cgroup::proved(request);
    assert_valid(&outcome.record);
    assert_valid(&RunSummary::of(&[&outcome.record]).unwrap());
    outcome
}

#[track_caller]
pub fn assert_valid(record: &impl Serialize) {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    let validator = VALIDATOR
        .get_or_init(|| jsonschema::options().should_validate_formats(true).build(&schema()).unwrap());
    let value = serde_json::to_value(record).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:?} in {value}");
}

#[test]
fn the_schema_knows_every_name() {
    let schema = schema();
    let names = |at: &str| -> Vec<String> {
        let list = schema.pointer(at).unwrap().as_array().unwrap();
        list.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("/$defs/proof/properties/strategy/enum"), Strategy::ALL.map(Strategy::name));
    let verdicts: Vec<_> = std::iter::once("in-progress").chain(Verdict::ALL.map(Verdict::name)).collect();
    assert_eq!(names("/$defs/proof/properties/verdict/enum"), verdicts);
    let verdicts: Vec<_> =
        std::iter::once("in-progress").chain(StressVerdict::ALL.map(StressVerdict::name)).collect();
    assert_eq!(names("/$defs/stress/properties/verdict/enum"), verdicts);
    assert_eq!(names("/$defs/refusal/properties/reason/enum"), Reason::ALL.map(Reason::name));
}

#[test]
fn a_field_that_the_schema_does_not_name_is_found() {
    let mut record: Value =
        serde_json::from_str(include_str!("../../src/proof/history/enforced.json")).unwrap();
    let validator = jsonschema::validator_for(&schema()).unwrap();
    assert!(validator.is_valid(&record));
    record["counters_after"]["new"] = 1.into();
    assert!(!validator.is_valid(&record));
}
