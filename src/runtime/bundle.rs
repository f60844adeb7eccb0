//! Reads config.json, process.json and resources as runc does: with Go's JSON ([`crate::json`]), which is more tolerant than
//! oci-spec's types, and with the words of errors that users know.

mod rules;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::Deserialize;

use super::error::{Result, RuntimeError};
use crate::json::{self, JsonError};
use rules::SpecRules;

/// The name of a bundle's configuration.
pub const CONFIG: &str = "config.json";

/// Reads `config.json` in the folder `bundle`.
///
/// # Errors
/// There is none, it is no JSON, or it is not what the spec says.
pub fn load(bundle: &Path) -> Result<Spec> {
    let path = bundle.join(CONFIG);
    match fs::read(&path) {
        Ok(text) => parse(&text, &path),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(RuntimeError::NoConfig(CONFIG.into())),
        Err(error) => Err(RuntimeError::File { doing: "open", path, error }),
    }
}

/// Reads the text of a config.json; `path` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &[u8], path: &Path) -> Result<Spec> {
    let rules = SpecRules::default();
    let mut spec = read(text, path, &rules)?;
    rules.finish(&mut spec)?;
    Ok(spec)
}

/// Reads the process of `exec --process`.
///
/// # Errors
/// The file cannot be read or is not what the spec says.
pub fn load_process(path: &Path) -> Result<Process> {
    let text = fs::read(path).map_err(RuntimeError::file("open", path))?;
    let rules = SpecRules::default();
    let process = read(&text, path, &rules)?;
    rules.finish_process();
    Ok(process)
}

/// Reads resources, as `update` takes them; `path` is for messages.
///
/// # Errors
/// The text is not what the spec says of `linux.resources`.
pub fn parse_resources(text: &[u8], path: &Path) -> Result<LinuxResources> {
    let rules = SpecRules::default();
    let mut resources = read(text, path, &rules)?;
    rules.finish_resources(&mut resources)?;
    Ok(resources)
}

fn read<'de, T: Deserialize<'de>>(text: &'de [u8], path: &Path, rules: &SpecRules) -> Result<T> {
    json::from_slice(text, rules).map_err(|error| match error {
        JsonError::Form(cause) => RuntimeError::Parse { path: path.to_owned(), cause },
        JsonError::Refused(why) => RuntimeError::Invalid(why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(linux: &str, process: &str) -> Result<Spec> {
        let text = format!(
            r#"{{"ociVersion":"1.2.0","root":{{"path":"rootfs"}},"hostname":null,"process":{process},"linux":{linux}}}"#
        );
        parse(text.as_bytes(), Path::new("config.json"))
    }

    #[test]
    fn a_pids_limit_of_zero_is_a_limit_since_version_1_3_of_the_specification() {
        for (version, limited) in [
            ("1.0.2-dev", false),
            ("1.2.1", false),
            ("1.3.0", true),
            ("1.3.0-rc.1", true),
            ("1.10.0", true),
            ("2.0.0", true),
            ("", true),
        ] {
            for limit in [0, 5] {
                let text = format!(
                    r#"{{"ociVersion":"{version}","root":{{"path":"r"}},"linux":{{"resources":{{"pids":{{"limit":{limit}}}}}}}}}"#
                );
                let spec = parse(text.as_bytes(), Path::new("config.json")).unwrap();
                let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
                assert_eq!(resources.pids().is_some(), limited || limit != 0, "{version}: {limit}");
            }
        }
    }

    #[test]
    fn gos_tolerance_is_ours() {
        let spec = read(
            r#"{"namespaces":[{"type":"pid","path":""}],"seccomp":{"defaultAction":""},"resources":{"pids":{}}}"#,
            r#"{"cwd":"/","args":["a"],"env":null,"capabilities":{"bounding":["CAP_KILL","CAP_NONE"]},
                "execCPUAffinity":{"initial":"0, 1","final":""},
                "scheduler":{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_RESET_ON_FORK"]}}"#,
        )
        .unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.user().uid(), 0);
        assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 1);
        let linux = spec.linux().as_ref().unwrap();
        assert!(linux.seccomp().is_none() && linux.resources().as_ref().unwrap().pids().is_none());
        assert!(linux.namespaces().as_ref().unwrap()[0].path().is_none());
    }

    #[test]
    fn keys_are_read_in_any_case_and_nulls_are_nothing() {
        let spec = read(
            r#"{"SECCOMP":{"DefaultAction":"SCMP_ACT_ERRNO","\u017fyscall\u017f":[{"names":null,"action":"SCMP_ACT_ALLOW",
                "args":[{"op":"SCMP_CMP_EQ"}]}]},"maskedPaths":[null],"resources":{"Pids":{"LIMIT":9},"memory":null,
                "devices":[{"allow":true,"type":""}]}}"#,
            r#"{"CWD":"/","args":["a",null],"USER":{"UID":7}}"#,
        )
        .unwrap();
        let linux = spec.linux().as_ref().unwrap();
        let resources = linux.resources().as_ref().unwrap();
        assert_eq!(resources.pids().unwrap().limit(), 9);
        assert!(resources.devices().as_ref().unwrap()[0].typ().is_none());
        let seccomp = linux.seccomp().as_ref().unwrap();
        assert_eq!(seccomp.default_action(), oci_spec::runtime::LinuxSeccompAction::ScmpActErrno);
        assert!(seccomp.syscalls().as_ref().unwrap()[0].names().is_empty());
        let process = spec.process().as_ref().unwrap();
        assert_eq!((process.user().uid(), process.args().as_ref().unwrap()[1].as_str()), (7, ""));
        assert_eq!(linux.masked_paths().as_deref(), Some([String::new()].as_slice()));
    }

    #[test]
    fn a_security_field_of_another_shape_is_refused_by_its_path() {
        let refused = |linux: &str, process: &str| {
            let error = read(linux, process).unwrap_err().to_string();
            error
                .strip_prefix("cannot read config.json: ")
                .unwrap()
                .split(" at line")
                .next()
                .unwrap()
                .to_owned()
        };
        for (value, found) in
            [("\"x\"", "a string"), ("[]", "an array"), ("7", "a number"), ("true", "a boolean")]
        {
            for field in ["seccomp", "resources", "intelRdt", "personality", "memoryPolicy"] {
                let expected = format!("linux.{field}: expected an object, found {found}");
                assert_eq!(refused(&format!(r#"{{"{field}":{value}}}"#), "{}"), expected);
            }
            let expected = format!("linux.resources.pids: expected an object, found {found}");
            assert_eq!(refused(&format!(r#"{{"resources":{{"pids":{value}}}}}"#), "{}"), expected);
        }
        assert_eq!(
            refused("{}", r#"{"user":[1000,1000]}"#),
            "process.user: expected an object, found an array"
        );
        assert_eq!(
            refused("{}", r#"{"capabilities":[]}"#),
            "process.capabilities: expected an object, found an array"
        );
        assert_eq!(
            refused("{}", r#"{"capabilities":{"bounding":[1]}}"#),
            "process.capabilities.bounding[0]: expected a string, found a number"
        );
        assert_eq!(
            refused(r#"{"namespaces":{}}"#, "{}"),
            "linux.namespaces: expected an array, found an object"
        );
        assert_eq!(
            refused(r#"{"sysctl":{"a.b":1}}"#, "{}"),
            r#"linux.sysctl["a.b"]: expected a string, found a number"#
        );
        assert_eq!(refused("{}", r#"{"user":{"uid":1,"UID":0}}"#), r#"process.user: "uid" is given twice"#);
        assert_eq!(refused(r#"{"sysctl":{"a":"","a":""}}"#, "{}"), r#"linux.sysctl: "a" is given twice"#);
        let hooks = parse(br#"{"root":{"path":"r"},"hooks":[]}"#, Path::new("c")).unwrap_err().to_string();
        assert!(hooks.contains("hooks: expected an object, found an array"), "{hooks}");
        let action = read(r#"{"seccomp":{"syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW"}]}}"#, "{}");
        assert_eq!(action.unwrap_err().to_string(), "string  is not a valid action for seccomp");
        let priority = read("{}", r#"{"ioPriority":{"priority":1}}"#).unwrap_err().to_string();
        assert_eq!(priority, "invalid ioPriority.Class: \"\"");
        let priority = read("{}", r#"{"ioPriority":{"class":"IOPRIO_CLASS_WOW"}}"#).unwrap_err().to_string();
        assert_eq!(priority, "invalid ioPriority.Class: \"IOPRIO_CLASS_WOW\"");
    }

    #[test]
    fn resources_of_an_update_are_read_by_the_same_rules() {
        let read = |text: &str| parse_resources(text.as_bytes(), Path::new("r"));
        let resources = read(
            r#"{"CPU":{"Cpus":"1","quota":null},"hugepageLimits":[{"pagesize":"2MB","limit":5}],
                "pids":{},"devices":null,"unified":{"Memory.min":"1"}}"#,
        )
        .unwrap();
        assert_eq!(resources.cpu().as_ref().unwrap().cpus().as_deref(), Some("1"));
        assert_eq!(resources.hugepage_limits().as_ref().unwrap()[0].page_size(), "2MB");
        assert!(resources.pids().is_none());
        assert!(resources.unified().as_ref().unwrap().contains_key("Memory.min"));
        assert!(
            read(r#"{"memory":{"limit":"x"}}"#)
                .unwrap_err()
                .to_string()
                .contains("memory.limit: expected a number")
        );
        assert!(read(r#"{"pids":[5]}"#).unwrap_err().to_string().contains("pids: expected an object"));
    }

    #[test]
    fn a_device_rule_is_never_wider_than_it_says() {
        let rules = |text: &str| {
            let resources = parse_resources(text.as_bytes(), Path::new("r"));
            resources.map(|resources| {
                let rules = resources.devices().iter().flatten();
                rules.map(ToString::to_string).collect::<Vec<_>>().join(", ")
            })
        };
        let both =
            rules(r#"{"devices":[{"access":"rwm"},{"allow":true,"major":1,"minor":-1,"access":"r"}]}"#);
        assert_eq!(both.unwrap(), "a *:* rwm, c 1:-1 r, b 1:-1 r");
        let any = rules(r#"{"devices":[{"allow":true,"type":"a","major":-1,"access":"rwm"}]}"#);
        assert_eq!(any.unwrap(), "a -1:* rwm");
        let error = rules(r#"{"devices":[{"type":"c","major":4294967295}]}"#).unwrap_err().to_string();
        assert_eq!(error, "linux.resources.devices[0]: invalid device number 4294967295");
        assert!(rules(r#"{"devices":[{"type":"c","minor":-2}]}"#).is_err());
    }

    #[test]
    fn what_runc_refuses_is_refused_in_its_words() {
        let error = |linux: &str, process: &str| read(linux, process).unwrap_err().to_string();
        assert_eq!(error(r#"{"namespaces":[{"type":"x"}]}"#, "{}"), r#"namespace "x" does not exist"#);
        assert_eq!(
            error(r#"{"namespaces":[{"type":"pid"},{"type":"pid"}]}"#, "{}"),
            r#"malformed spec file: duplicated ns "pid""#
        );
        assert!(error(r#"{"memoryPolicy":{"mode":"x"}}"#, "{}").contains("memory policy"));
        let none = parse(b"{}", Path::new("c")).unwrap_err().to_string();
        assert_eq!(none, "root must be specified");
        assert!(parse(b"{", Path::new("c")).unwrap_err().to_string().starts_with("cannot read c: "));
        let missing = load(Path::new("/nonexistent")).unwrap_err().to_string();
        assert_eq!(missing, "JSON specification file config.json not found");
    }
}
