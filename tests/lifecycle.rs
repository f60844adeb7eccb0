//! create, start, state, kill, delete, run: statuses, exit codes, words that engines match.

mod common;

use std::fs;
use std::time::Duration;

use common::*;
use nix::sys::signal::Signal;
use serde_json::json;

const DOES_NOT_EXIST: &str = "container does not exist";

#[test]
fn a_container_goes_through_its_life() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.create(&mut bundle, "life");

    let state = sandbox.state(&id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], json!(id));
    assert_eq!(state["bundle"], json!(bundle.path));
    assert_eq!(
        state["rootfs"],
        json!(bundle.rootfs("")).as_str().map(|p| p.trim_end_matches('/')).unwrap_or_default()
    );
    assert!(state["pid"].as_i64().is_some_and(|pid| pid > 1));
    assert!(state["created"].as_str().is_some_and(|t| t.contains('T')));
    assert!(state.get("owner").is_some());

    sandbox.rt(["start", &id]).ok();
    assert_eq!(sandbox.status(&id), "running");
    sandbox.rt(["kill", &id, "KILL"]).ok();
    sandbox.wait_for_status(&id, "stopped");
    assert_eq!(sandbox.state(&id)["pid"], 0);
    sandbox.rt(["delete", &id]).ok();
    sandbox.rt(["state", &id]).run().fails_with(DOES_NOT_EXIST);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn an_unknown_container_is_named_as_engines_expect() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    for command in ["state", "start", "delete", "pause", "resume", "ps"] {
        sandbox.rt([command, "nobody"]).run().fails_with(DOES_NOT_EXIST);
    }
    sandbox.rt(["kill", "nobody", "KILL"]).run().fails_with(DOES_NOT_EXIST);
    let exec = sandbox.rt(["exec", "nobody", "true"]).run().fails_with(DOES_NOT_EXIST);
    assert_eq!(exec.code, 255);
    sandbox.rt(["delete", "--force", "nobody"]).ok();
}

#[test]
fn a_name_must_be_valid_and_free() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    for bad in ["", ".", "..", "../escape", "a/b", "white space", "new\nline", "q?"] {
        bundle.set("/linux/cgroupsPath", json!(format!("/{}", sandbox.id("bad"))));
        let run = sandbox.create_command(&mut bundle, bad).run();
        assert!(run.code > 0, "the name {bad:?} was taken: {run}");
    }
    assert!(!sandbox.path("escape").exists());
    bundle.unset("/linux/cgroupsPath");
    let id = sandbox.create(&mut bundle, "taken.A_b+c-1");
    sandbox.create_command(&mut bundle, &id).run().fails_with("exist");
    assert_eq!(sandbox.status(&id), "created");
}

#[test]
fn commands_refuse_a_wrong_status() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.start(&mut bundle, "status");
    sandbox.rt(["start", &id]).run().fails_with("");
    sandbox.rt(["delete", &id]).run().fails_with("");
    assert_eq!(sandbox.status(&id), "running");
    sandbox.rt(["kill", &id, "9"]).ok();
    sandbox.wait_for_status(&id, "stopped");
    sandbox.rt(["kill", &id, "9"]).run().fails_with("container not running");
    sandbox.rt(["start", &id]).run().fails_with("");
    sandbox.rt(["exec", &id, "true"]).run().fails_with("");
}

#[test]
fn a_container_that_is_being_made_is_not_started() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let (reached, go_on) = (sandbox.path("reached"), sandbox.path("go-on"));
    let script =
        format!("touch {}; until [ -e {} ]; do sleep 0.01; done", reached.display(), go_on.display());
    bundle.set("/hooks/createRuntime", json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]));
    let id = sandbox.id("made");
    let create = sandbox.create_command(&mut bundle, &id).spawn();
    wait_until("the hook", || reached.exists());
    let early = sandbox.rt(["start", &id]).time_limit(Duration::from_secs(20)).run();
    early.fails_with("cannot start a container in the creating state");
    fs::write(&go_on, "").expect("a file");
    create.wait(PATIENCE).succeeds();
    assert_eq!(sandbox.status(&id), "created");
    sandbox.rt(["start", &id]).ok();
    sandbox.delete(&id);
}

#[test]
fn a_start_that_cannot_be_finished_does_not_begin() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.create(&mut bundle, "begin");
    let (config, aside) = (sandbox.root().join(&id).join("config.json"), sandbox.path("aside"));
    fs::rename(&config, &aside).expect("the saved config");
    sandbox.rt(["start", &id]).run().fails_with("config.json: no such file or directory");
    assert_eq!(sandbox.status(&id), "created");
    fs::rename(&aside, &config).expect("the saved config");
    sandbox.rt(["start", &id]).ok();
    sandbox.delete(&id);
}

#[test]
fn a_program_gets_home_and_the_default_signals_without_an_environment() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.unset("/process/env").set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    bundle.args(&["/bin/sh", "-c", "/bin/grep ^SigIgn /proc/self/status; /bin/env"]);
    let out = sandbox.run_command(&mut bundle, "home").ok().stdout;
    assert!(out.contains("HOME=/home/wendy\n"), "{out}");
    let ignored = out.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a line");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a mask");
    // What the caller ignores is the program's to inherit; these two are rt's own.
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        assert_eq!(ignored & (1 << (signal - 1)), 0, "{out}");
    }
}

#[test]
fn a_limit_of_the_size_of_files_is_told_and_leaves_nothing() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.id("fsize");
    let path = sandbox.prepare(&mut bundle, &id);
    let root = sandbox.root().display().to_string();
    let script = "ulimit -f 1; exec \"$@\"";
    let rt = Sandbox::binary().display().to_string();
    let args = ["-c", script, "sh", &rt, "--root", &root, "create", "--bundle", &path, &id];
    Run::new("/bin/sh").args(args).run().fails_with("file too large");
    sandbox.assert_nothing_left(&id);
}

#[test]
fn kill_takes_names_and_numbers_and_never_changes_the_status() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.shell("trap 'echo usr1 >> /seen' USR1; trap 'echo term >> /seen' TERM; echo ready > /seen; while true; do sleep 0.02; done");
    let id = sandbox.create(&mut bundle, "kill");
    sandbox.rt(["kill", &id, "0"]).ok();
    assert_eq!(sandbox.status(&id), "created");
    sandbox.rt(["start", &id]).ok();
    let seen = bundle.rootfs("seen");
    let count = |n: usize| {
        wait_until(&format!("{n} lines in {}", seen.display()), || {
            std::fs::read_to_string(&seen).unwrap_or_default().lines().count() >= n
        });
    };
    count(1);
    for (number, signal) in ["USR1", "SIGUSR1", "10", "term", "15"].iter().enumerate() {
        sandbox.rt(["kill", &id, signal]).ok();
        count(number + 2);
        assert_eq!(sandbox.status(&id), "running");
    }
    sandbox.rt(["kill", &id, "NOSUCH"]).run().fails_with("NOSUCH");
    assert_eq!(std::fs::read_to_string(&seen).unwrap_or_default(), "ready\nusr1\nusr1\nusr1\nterm\nterm\n");
}

#[test]
fn delete_force_ends_a_container_in_any_status() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.shell("sleep 1000 & sleep 1000");
    let created = sandbox.create(&mut bundle, "created");
    sandbox.delete(&created);
    sandbox.assert_nothing_left(&created);
    let running = sandbox.start(&mut bundle, "running");
    sandbox.delete(&running);
    sandbox.assert_nothing_left(&running);
    let paused = sandbox.start(&mut bundle, "paused");
    sandbox.rt(["pause", &paused]).ok();
    assert_eq!(sandbox.status(&paused), "paused");
    sandbox.delete(&paused);
    sandbox.assert_nothing_left(&paused);
}

#[test]
fn a_paused_container_stands_still_until_resumed() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.shell("while true; do echo x >> /ticks; sleep 0.01; done");
    let id = sandbox.start(&mut bundle, "pause");
    let ticks = || std::fs::metadata(bundle.rootfs("ticks")).map_or(0, |m| m.len());
    wait_until("ticks", || ticks() > 4);
    sandbox.rt(["pause", &id]).ok();
    assert_eq!(sandbox.status(&id), "paused");
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(ticks(), before);
    sandbox.rt(["exec", &id, "true"]).run().fails_with("paused");
    sandbox.rt(["resume", &id]).ok();
    assert_eq!(sandbox.status(&id), "running");
    wait_until("more ticks", || ticks() > before);
}

#[test]
fn run_returns_the_status_of_its_process() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    for (script, code) in [("exit 0", 0), ("exit 42", 42), ("exec false", 1)] {
        let mut bundle = sandbox.bundle();
        bundle.shell(script);
        let outcome = sandbox.run_command(&mut bundle, &format!("code-{code}")).run();
        assert_eq!(outcome.code, code, "{outcome}");
    }
    let mut bundle = sandbox.bundle();
    bundle.shell("echo out; echo err >&2");
    let outcome = sandbox.run_command(&mut bundle, "output").ok();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn run_relays_a_signal_and_returns_128_and_its_number() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.program(
        "/bin/waiter",
        "#!/bin/sh\ntrap 'exit 17' TERM\necho ready\nwhile true; do sleep 0.02; done\n",
    );
    bundle.args(&["/bin/waiter"]);
    let running = sandbox.run_command(&mut bundle, "relay").spawn();
    wait_until("the script", || running.text().contains("ready"));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(PATIENCE).code, 17);

    let mut bundle = sandbox.bundle();
    let id = sandbox.id("signal");
    let path = sandbox.prepare(&mut bundle, &id);
    let running = sandbox.rt(["run", "--bundle", &path, &id]).spawn();
    wait_until("running", || sandbox.rt(["state", &id]).run().stdout.contains("\"running\""));
    sandbox.rt(["kill", &id, "KILL"]).ok();
    assert_eq!(running.wait(PATIENCE).code, 137);
    sandbox.assert_nothing_left(&id);
}

#[test]
fn run_never_hangs_on_a_process_that_ends_at_once() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.args(&["true"]);
    for round in 0..20 {
        let outcome = sandbox.run_command(&mut bundle, &format!("quick{round}")).run();
        assert_eq!(outcome.code, 0, "{outcome}");
    }
}

#[test]
fn run_detached_leaves_a_running_container_and_a_pid_file() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.id("detach");
    let path = sandbox.prepare(&mut bundle, &id);
    let pid_file = sandbox.path("pid");
    sandbox
        .rt(["run", "--detach", "--pid-file", pid_file.to_str().unwrap_or_default(), "--bundle", &path, &id])
        .ok();
    assert_eq!(sandbox.status(&id), "running");
    assert_eq!(std::fs::read_to_string(pid_file).expect("a pid file"), sandbox.pid(&id).to_string());
}

#[test]
fn a_pid_file_that_cannot_be_written_is_an_error_and_leaves_nothing() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.id("pidfile");
    let path = sandbox.prepare(&mut bundle, &id);
    sandbox
        .rt(["create", "--pid-file", "/nonexistent/folder/pid", "--bundle", &path, &id])
        .run()
        .fails_with("/nonexistent/folder");
    sandbox.assert_nothing_left(&id);
}

#[test]
fn a_program_that_is_missing_or_not_executable_is_told_apart() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    std::fs::write(bundle.rootfs("plain"), "no program").expect("a file");
    for (program, words) in [
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/plain", "permission denied"),
    ] {
        bundle.args(&[program]);
        let id = sandbox.id("program");
        sandbox.create_command(&mut bundle, &id).run().fails_with(words);
        sandbox.assert_nothing_left(&id);
    }
}

#[test]
fn a_broken_bundle_leaves_nothing_behind() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let id = sandbox.id("broken");
    let folder = sandbox.path("empty");
    std::fs::create_dir(&folder).expect("a folder");
    let text = folder.to_str().unwrap_or_default().to_owned();
    sandbox.rt(["create", "--bundle", &text, &id]).run().fails_with("config.json");
    for config in ["{", "[]", "{}", "{\"ociVersion\":\"1.0.2\"}"] {
        std::fs::write(folder.join("config.json"), config).expect("config.json");
        sandbox.rt(["create", "--bundle", &text, &id]).run().fails_with("");
        sandbox.assert_nothing_left(&id);
    }
    let mut bundle = sandbox.bundle();
    bundle.set("/root/path", json!("no-such-root"));
    sandbox.create_command(&mut bundle, &id).run().fails_with("no-such-root");
    sandbox.assert_nothing_left(&id);
}

#[test]
fn the_bundle_is_the_current_folder_unless_named() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let id = sandbox.id("cwd");
    sandbox.prepare(&mut bundle, &id);
    sandbox.rt(["create", &id]).cwd(&bundle.path).ok();
    assert_eq!(sandbox.state(&id)["bundle"], json!(bundle.path));
}

#[test]
fn list_shows_every_container_in_every_form() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    let first = sandbox.start(&mut bundle, "one");
    let second = sandbox.create(&mut bundle, "two");
    let table = sandbox.rt(["list"]).ok().stdout;
    let columns: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(columns, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(sandbox.rt(["list", "-q"]).ok().stdout, format!("{first}\n{second}\n"));
    let json = sandbox.rt(["list", "--format", "json"]).ok().json();
    assert_eq!(json[0]["id"], json!(first));
    assert_eq!(json[1]["status"], "created");
    sandbox.rt(["list", "--format", "nonsense"]).run().fails_with("");
}

#[test]
fn ps_lists_the_processes_of_a_container() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.shell("sleep 1000 & sleep 1000");
    let id = sandbox.start(&mut bundle, "ps");
    let pids = || sandbox.rt(["ps", "--format", "json", &id]).ok().json();
    wait_until("three processes", || pids().as_array().is_some_and(|list| list.len() >= 2));
    assert!(pids().as_array().is_some_and(|list| list.contains(&json!(sandbox.pid(&id)))));
    if std::path::Path::new("/bin/ps").exists() {
        assert!(sandbox.rt(["ps", &id]).ok().stdout.contains("sleep 1000"));
    }
}

#[test]
fn the_log_file_gets_one_json_line_an_error() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let log = sandbox.path("log.json");
    std::fs::write(&log, "{\"level\":\"info\",\"msg\":\"from another call\"}\n").expect("a log");
    let text = log.to_str().unwrap_or_default();
    sandbox.rt(["--log", text, "--log-format", "json", "state", "nobody"]).run().fails_with("");
    let lines = std::fs::read_to_string(&log).expect("a log");
    assert!(lines.starts_with("{\"level\":\"info\""), "the log was not appended to: {lines}");
    let last: serde_json::Value =
        serde_json::from_str(lines.lines().last().unwrap_or_default()).expect("JSON");
    assert_eq!(last["level"], "error");
    assert!(last["msg"].as_str().is_some_and(|m| m.contains(DOES_NOT_EXIST)), "{lines}");
    assert!(last["time"].as_str().is_some_and(|t| t.contains('T')), "{lines}");
}

#[test]
fn the_version_has_the_lines_that_dockerd_parses() {
    let sandbox = Sandbox::new();
    let text = sandbox.bare(["--version"]).ok().stdout;
    let first = text.lines().next().unwrap_or_default();
    assert!(first.contains(" version "), "{text}");
    assert!(text.lines().any(|line| line.starts_with("spec: ")), "{text}");
}

#[test]
fn wrong_usage_fails_and_says_so() {
    let sandbox = Sandbox::new();
    for args in [
        vec!["nonsense"],
        vec!["create"],
        vec!["create", "a", "b"],
        vec!["state"],
        vec!["start", "--no-such-flag", "x"],
    ] {
        let run = sandbox.rt(&args).run();
        assert!(run.code > 0, "{run}");
        assert!(!run.text().is_empty(), "{run}");
    }
}

#[test]
fn a_terminal_is_sent_over_the_console_socket() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle
        .set("/process/terminal", json!(true))
        .shell("test -t 0 && test -t 1 && echo it is a terminal; read line; echo got $line");
    let id = sandbox.id("tty");
    let path = sandbox.prepare(&mut bundle, &id);
    let socket = ConsoleSocket::new(&sandbox.path("console"));
    sandbox
        .rt(["create", "--console-socket", socket.path.to_str().unwrap_or_default(), "--bundle", &path, &id])
        .ok();
    let mut terminal = socket.receive();
    sandbox.rt(["start", &id]).ok();
    terminal.read_until("it is a terminal");
    terminal.write("hello\n");
    terminal.read_until("got hello");
}

#[test]
fn a_terminal_needs_a_console_socket_to_be_detached() {
    if !needs_root() {
        return;
    }
    let sandbox = Sandbox::new();
    let mut bundle = sandbox.bundle();
    bundle.set("/process/terminal", json!(true));
    let id = sandbox.id("notty");
    sandbox.create_command(&mut bundle, &id).run().fails_with("console");
    sandbox.assert_nothing_left(&id);
}
