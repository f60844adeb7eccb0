use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Ship {
    name: String,
    tons: u32,
    sails: bool,
    crew: Vec<String>,
    ports: BTreeMap<String, u8>,
    flag: Option<Flag>,
    kind: Option<Kind>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Flag {
    #[serde(default)]
    colour: String,
    stripes: i64,
}

#[derive(Debug, PartialEq, Deserialize)]
enum Kind {
    Brig,
}

fn read(text: &str) -> Result<Ship, String> {
    from_slice(text.as_bytes(), &Plain).map_err(|error| error.to_string())
}

fn wrong(text: &str) -> String {
    let error = read(text).unwrap_err();
    error.split(" at line").next().unwrap_or_default().to_owned()
}

#[test]
fn null_is_the_zero_value_everywhere() {
    let nulls = r#"{"name":null,"tons":null,"sails":null,"crew":null,"ports":null,"flag":null,"kind":null}"#;
    assert_eq!(read(nulls), Ok(Ship::default()));
    assert_eq!(read("null"), Ok(Ship::default()));
    assert_eq!(read(r#"{"crew":[null],"ports":{"a":null}}"#).unwrap().crew, [""]);
    assert_eq!(wrong(r#"{"flag":{}}"#), "flag: missing field `stripes`");
}

#[test]
fn keys_are_found_as_go_finds_them() {
    let ship = read(
        "{\"NAME\":\"a\",\"Ton\u{17f}\":7,\"\u{212a}ind\":\"Brig\",\"other\":[{\"x\":1}],\"ports\":{\"A\":1,\"a\":2}}",
    );
    let ship = ship.unwrap();
    assert_eq!((ship.name.as_str(), ship.tons, ship.kind), ("a", 7, Some(Kind::Brig)));
    assert_eq!(ship.ports.len(), 2);
    assert_eq!(wrong(r#"{"tons":1,"Tons":2}"#), "\"tons\" is given twice");
    assert_eq!(wrong(r#"{"ports":{"":1,"":1}}"#), "ports: \"\" is given twice");
}

#[test]
fn a_wrong_shape_is_told_with_its_path() {
    assert_eq!(wrong("[]"), "expected an object, found an array");
    assert_eq!(wrong(r#"{"flag":["red",3]}"#), "flag: expected an object, found an array");
    assert_eq!(wrong(r#"{"crew":["a",["b"]]}"#), "crew[1]: expected a string, found an array");
    assert_eq!(wrong(r#"{"ports":{"x.y":"1"}}"#), r#"ports["x.y"]: expected a number, found a string"#);
    assert_eq!(wrong(r#"{"tons":4294967296}"#), "tons: invalid value: integer `4294967296`, expected u32");
    assert_eq!(wrong(r#"{"tons":1.5}"#), "tons: invalid type: floating point `1.5`, expected u32");
    assert_eq!(wrong(r#"{"kind":{"Brig":null}}"#), "kind: expected a string, found an object");
    assert_eq!(wrong(r#"{"kind":"brig"}"#), "kind: unknown variant `brig`, expected `Brig`");
    assert_eq!(wrong("{} {}"), "trailing characters");
}
