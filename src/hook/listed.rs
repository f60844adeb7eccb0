//! The hooks of a config.json that call `rt hook`: which they are, and where one of them stands.

use std::ffi::OsString;
use std::time::Duration;

use oci_spec::runtime::{Hook, Hooks};

use super::terms::{Kind, Stage};

/// The subcommand, as it stands among a hook's arguments.
pub const SUBCOMMAND: &str = "hook";

/// The stages that run inside the container, where a prover would be charged and killed with it.
pub const INSIDE: [&str; 2] = ["createContainer", "startContainer"];

/// One place of a hook in config.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// As config.json names it.
    pub stage: &'static str,
    pub timeout: Option<Duration>,
}

/// Every list of hooks, by its name.
pub fn lists(hooks: &Hooks) -> [(&'static str, &[Hook]); 6] {
    fn slice(hooks: &Option<Vec<Hook>>) -> &[Hook] {
        hooks.as_deref().unwrap_or_default()
    }
    [
        (Stage::Prestart.name(), slice(hooks.prestart())),
        (Stage::CreateRuntime.name(), slice(hooks.create_runtime())),
        (INSIDE[0], slice(hooks.create_container())),
        (INSIDE[1], slice(hooks.start_container())),
        (Stage::Poststart.name(), slice(hooks.poststart())),
        ("poststop", slice(hooks.poststop())),
    ]
}

/// What a hook calls `rt hook` for, and where in its arguments; `None` for any other hook.
pub fn kind_of(hook: &Hook) -> Option<(Kind, usize)> {
    let args = hook.args().as_deref()?;
    args.windows(2).enumerate().skip(1).find_map(|(at, pair)| {
        let kind = pair[1].parse().ok().filter(|_| pair[0] == SUBCOMMAND)?;
        Some((kind, at))
    })
}

/// Where the hook with these arguments stands. The name of the program may differ, and the same hook may stand in
/// several places.
pub fn places(hooks: &Hooks, argv: &[OsString]) -> Vec<Place> {
    let is_it = |hook: &Hook| {
        let args = hook.args().as_deref().unwrap_or_default();
        args.len() == argv.len() && args.iter().zip(argv).skip(1).all(|(theirs, own)| *own == **theirs)
    };
    let timeout = |hook: &Hook| hook.timeout().and_then(|seconds| u64::try_from(seconds).ok());
    lists(hooks)
        .into_iter()
        .flat_map(|(stage, list)| {
            list.iter().filter(|hook| is_it(hook)).map(move |hook| Place {
                stage,
                timeout: timeout(hook).filter(|seconds| *seconds > 0).map(Duration::from_secs),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(json: &str) -> Hooks {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_hook_is_found_by_its_arguments() {
        let hooks = hooks(
            r#"{"prestart":[{"path":"/x","args":["x","hook","test-memory"],"timeout":9}],
                "poststart":[{"path":"/rt","args":["rt","hook","test-memory","--mb","1"],"timeout":2},
                             {"path":"/rt"}]}"#,
        );
        let at = |line: &str| places(&hooks, &line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(at("/usr/bin/rt hook test-memory"), [Place { stage: "prestart", timeout: seconds(9) }]);
        assert_eq!(at("rt hook test-memory --mb 1"), [Place { stage: "poststart", timeout: seconds(2) }]);
        assert!(at("rt hook test-memory --mb 2").is_empty());
    }

    #[test]
    fn only_calls_of_the_subcommand_are_ours() {
        let kind = |args: &str| {
            let json = format!(r#"{{"path":"/usr/local/bin/rt","args":{args}}}"#);
            kind_of(&serde_json::from_str(&json).unwrap())
        };
        assert_eq!(kind(r#"["rt","hook","test-memory"]"#), Some((Kind::TestMemory, 1)));
        assert_eq!(
            kind(r#"["rt","--root","/r","hook","test-memory","--mb=9"]"#),
            Some((Kind::TestMemory, 3))
        );
        assert_eq!(kind(r#"["rt","state","hook"]"#), None);
        assert_eq!(kind(r#"["sh","-c","rt hook test-memory"]"#), None);
        assert_eq!(kind_of(&serde_json::from_str(r#"{"path":"/rt"}"#).unwrap()), None);
    }
}
