//! Reads config.json and process.json as runc does: Go's JSON is more tolerant than oci-spec's types, and the words of
//! its errors are known to users. Each deviation is put right on the JSON text, before the types see it.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use oci_spec::runtime::{Process, Spec};
use serde_json::{Map, Value, json};

use super::cgroups::normalise_resources;
use super::error::{Result, RuntimeError};
use super::process::capabilities::{NAMES, warn_unknown};
use super::process::{id_list, memory_policy, personality, rlimits};

/// The name of a bundle's configuration.
pub const CONFIG: &str = "config.json";

/// The namespaces of the spec, with the names of oci-spec.
const NAMESPACES: [&str; 8] = ["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"];

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
    let bad =
        |cause: serde_json::Error| RuntimeError::Parse { path: path.to_owned(), cause: cause.to_string() };
    let mut config: Value = serde_json::from_slice(text).map_err(bad)?;
    drop_nulls(&mut config);
    if let Some(process) = config.get_mut("process") {
        normalise_process(process)?;
    }
    if let Some(linux) = config.get_mut("linux") {
        normalise_linux(linux)?;
    }
    let root = config.get("root").and_then(Value::as_object);
    if !root.is_some_and(|root| root.contains_key("path")) && config.is_object() {
        config["root"] = match root {
            Some(root) => {
                let mut root = root.clone();
                root.insert("path".to_owned(), json!(""));
                Value::Object(root)
            }
            None => return Err(RuntimeError::Invalid("root must be specified".to_owned())),
        };
    }
    if let Value::Object(config) = &mut config {
        config.entry("ociVersion").or_insert_with(|| json!(""));
    }
    serde_json::from_value(config).map_err(bad)
}

/// Reads the process of `exec --process`.
///
/// # Errors
/// The file cannot be read or is not what the spec says.
pub fn load_process(path: &Path) -> Result<Process> {
    let text = fs::read(path).map_err(RuntimeError::file("open", path))?;
    let bad =
        |cause: serde_json::Error| RuntimeError::Parse { path: path.to_owned(), cause: cause.to_string() };
    let mut process: Value = serde_json::from_slice(&text).map_err(bad)?;
    drop_nulls(&mut process);
    normalise_process(&mut process)?;
    serde_json::from_value(process).map_err(bad)
}

/// Go reads null as "not given" everywhere.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        _ => {}
    }
}

fn normalise_process(process: &mut Value) -> Result<()> {
    let Value::Object(process) = process else { return Ok(()) };
    process.entry("cwd").or_insert_with(|| json!(""));
    let user = process.entry("user").or_insert_with(|| json!({}));
    if let Value::Object(user) = user {
        user.entry("uid").or_insert_with(|| json!(0));
        user.entry("gid").or_insert_with(|| json!(0));
    }
    known_capabilities(process.get_mut("capabilities"));
    for limit in process.get("rlimits").and_then(Value::as_array).into_iter().flatten() {
        rlimits::parse(text(limit, "type")).map_err(RuntimeError::invalid)?;
    }
    let flags = process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags"));
    for flag in flags.and_then(Value::as_array_mut).into_iter().flatten() {
        // oci-spec 0.10 derived these names wrongly.
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = json!("SCHED_RESET_ON_FORK"),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = json!("SCHED_FLAG_D_L_OVERRUN"),
            _ => {}
        }
    }
    if let Some(Value::Object(affinity)) = process.get_mut("execCPUAffinity") {
        // oci-spec takes no spaces and no empty list.
        for (field, name) in [("initial", "Initial"), ("final", "Final")] {
            let Some(list) = affinity.get(field).and_then(Value::as_str) else { continue };
            id_list::IdSet::parse(list)
                .map_err(|reason| RuntimeError::Invalid(format!("bad CPUAffinity.{name}: {reason}")))?;
            let list: String = list.split_whitespace().collect();
            if list.is_empty() {
                affinity.remove(field);
            } else {
                affinity.insert(field.to_owned(), json!(list));
            }
        }
    }
    Ok(())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Capabilities that nobody knows are left out with a warning, as in runc.
fn known_capabilities(sets: Option<&mut Value>) {
    let mut unknown = BTreeSet::new();
    for set in sets.and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        if let Some(names) = set.as_array_mut() {
            names.retain(|name| {
                let known = name.as_str().is_none_or(|name| NAMES.contains(&name));
                if !known {
                    unknown.extend(name.as_str().map(str::to_owned));
                }
                known
            });
        }
    }
    warn_unknown(&unknown);
}

fn normalise_linux(linux: &mut Value) -> Result<()> {
    let Value::Object(linux) = linux else { return Ok(()) };
    if let Some(resources) = linux.get_mut("resources") {
        normalise_resources(resources);
    }
    let mut seen = BTreeSet::new();
    for namespace in linux.get("namespaces").and_then(Value::as_array).into_iter().flatten() {
        let kind = text(namespace, "type");
        if !NAMESPACES.contains(&kind) {
            return Err(RuntimeError::Invalid(format!("namespace {kind:?} does not exist")));
        }
        if !seen.insert(kind.to_owned()) {
            return Err(RuntimeError::Invalid(format!("malformed spec file: duplicated ns {kind:?}")));
        }
    }
    for namespace in linux.get_mut("namespaces").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(namespace) = namespace
            && namespace.get("path").and_then(Value::as_str) == Some("")
        {
            namespace.remove("path");
        }
    }
    if let Some(domain) = linux.get("personality").map(|personality| text(personality, "domain")) {
        personality::parse(domain).map_err(RuntimeError::invalid)?;
    }
    if let Some(policy) = linux.get("memoryPolicy") {
        let flags = policy.get("flags").and_then(Value::as_array).into_iter().flatten();
        memory_policy::MemoryPolicy::parse(
            text(policy, "mode"),
            text(policy, "nodes"),
            flags.filter_map(Value::as_str),
        )
        .map_err(RuntimeError::invalid)?;
    }
    let filters_nothing = linux.get("seccomp").is_some_and(|seccomp| {
        text(seccomp, "defaultAction").is_empty()
            && seccomp.get("syscalls").and_then(Value::as_array).is_none_or(Vec::is_empty)
    });
    if filters_nothing {
        linux.remove("seccomp");
    }
    Ok(())
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
