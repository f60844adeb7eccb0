//! Hooks run as real processes.

use std::time::Instant;

use super::*;

fn hooks(json: &str) -> Vec<Hook> {
    serde_json::from_str(json).unwrap()
}

fn run(json: &str) -> Result<(), String> {
    run_with(json, &HookRun { name: "createRuntime", cwd: None, default_env: None })
}

fn run_with(json: &str, how: &HookRun<'_>) -> Result<(), String> {
    run_all(&hooks(json), b"{\"id\":\"x\"}", how).map_err(|error| error.to_string())
}

#[test]
fn the_failing_hook_is_named_and_ends_the_list() {
    assert_eq!(
        run(r#"[{"path":"/bin/true"},{"path":"/bin/false"},{"path":"/nonexistent"}]"#),
        Err("error running createRuntime hook #1: exit status 1, stdout: , stderr: ".to_owned())
    );
    assert_eq!(
        run(r#"[{"path":"/nonexistent"}]"#),
        Err("error running createRuntime hook #0: fork/exec /nonexistent: no such file or directory"
            .to_owned())
    );
}

#[test]
fn output_and_signals_are_told() {
    assert_eq!(
        run(r#"[{"path":"/bin/sh","args":["sh","-c","echo out; echo err >&2; kill -9 $$"]}]"#),
        Err("error running createRuntime hook #0: signal: killed, stdout: out\n, stderr: err\n".to_owned())
    );
}

#[test]
fn arguments_and_state_arrive_as_they_are() {
    assert_eq!(
        run(r#"[{"path":"/bin/sh","args":["zero","-c","echo $0,$1; cat; exit 3","one","two"]}]"#),
        Err("error running createRuntime hook #0: exit status 3, stdout: one,two\n{\"id\":\"x\"}, stderr: "
            .to_owned())
    );
    assert_eq!(
        run(r#"[{"path":"/bin/sh","args":["a name","-c","tr '\\0' ' ' < /proc/$$/cmdline; exit 1"]}]"#)
            .unwrap_err()
            .split("stdout: ")
            .nth(1)
            .unwrap()
            .split(' ')
            .take(2)
            .collect::<Vec<_>>(),
        ["a", "name"]
    );
}

#[test]
fn the_environment_is_the_hooks_own_or_the_default() {
    let default = [("FOO".into(), "bar".into())];
    let how = HookRun { name: "startContainer", cwd: Some("/tmp".as_ref()), default_env: Some(&default) };
    let script = r#""path":"/bin/sh","args":["sh","-c","echo $FOO,$ONE,$PWD; exit 1"]"#;
    for (env, printed) in
        [(r#","env":["ONE=two"]"#, ",two,/tmp"), ("", "bar,,/tmp"), (r#","env":[]"#, "bar,,/tmp")]
    {
        let error = run_with(&format!("[{{{script}{env}}}]"), &how).unwrap_err();
        assert!(error.contains(&format!("stdout: {printed}\n")), "{error}");
    }
}

#[test]
fn a_large_state_and_a_deaf_hook_do_not_block() {
    let how = HookRun { name: "poststart", cwd: None, default_env: None };
    let large = vec![b'x'; 1 << 20];
    run_all(&hooks(r#"[{"path":"/bin/true"}]"#), &large, &how).unwrap();
    let counted = hooks(r#"[{"path":"/bin/sh","args":["sh","-c","wc -c; exit 1"]}]"#);
    let error = run_all(&counted, &large, &how).unwrap_err().to_string();
    assert!(error.contains("stdout: 1048576\n"), "{error}");
}

#[test]
fn a_timeout_kills_the_whole_process_group() {
    let begun = Instant::now();
    let error =
        run(r#"[{"path":"/bin/sh","args":["sh","-c","sleep 60 & echo $!; wait"],"timeout":1}]"#).unwrap_err();
    assert_eq!(error, "error running createRuntime hook #0: hook ran past specified timeout of 1.0s");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_process_left_behind_is_not_waited_for() {
    let begun = Instant::now();
    run(r#"[{"path":"/bin/sh","args":["sh","-c","sleep 5 & exit 0"]}]"#).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4));
}
