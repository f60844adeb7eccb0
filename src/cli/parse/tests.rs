use std::time::Duration;

use super::*;
use crate::cli::{Command, Format, ListFormat, LogFormat, Rootless};

fn read(words: &[&str]) -> Result<Cli, Stop> {
    parse(std::iter::once("/usr/bin/rt").chain(words.iter().copied()).map(OsString::from))
}

fn line(line: &str) -> Cli {
    let words: Vec<_> = line.split_whitespace().collect();
    read(&words).unwrap_or_else(|stop| panic!("{line}: {stop:?}"))
}

fn refused(line: &str) -> (String, ExitStatus) {
    let words: Vec<_> = line.split_whitespace().collect();
    match read(&words) {
        Err(Stop::Usage { message, status, .. }) => (message, status),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn types_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn globals_stand_before_the_verb_and_are_found_behind_it() {
    let cli = line("--root /r --log l --log-format json --debug --systemd-cgroup --rootless True state c");
    assert_eq!(cli.global.root.as_deref(), Some(Path::new("/r")));
    assert_eq!(cli.global.log.as_deref(), Some(Path::new("l")));
    assert_eq!(cli.global.log_format, LogFormat::Json);
    assert_eq!(cli.global.rootless, Rootless::True);
    assert!(cli.global.debug && cli.global.systemd_cgroup);
    assert!(line("state c --debug").global.debug);
    assert_eq!(line("--rootless=0 list").global.rootless, Rootless::False);
    assert_eq!(line("--root a --root /b/../c/. list").global.root.as_deref(), Some(Path::new("/c")));
    let Command::Spec(args) = line("spec --rootless").command else { panic!() };
    assert!(args.rootless);
}

#[test]
fn root_must_not_be_the_root_of_everything() {
    for words in [["--root", "/", "list"], ["--root", "", "list"], ["--root", "/a/../..", "list"]] {
        let Err(Stop::Usage { message, .. }) = read(&words) else { panic!("{words:?}") };
        assert_eq!(message, "Option --root argument should not be set to /");
    }
}

#[test]
fn exec_leaves_the_command_alone() {
    let Command::Exec(args) = line("exec ctr sh -c -e --help -t").command else { panic!() };
    assert_eq!(args.command, ["sh", "-c", "-e", "--help", "-t"]);
    assert!(!args.tty && args.env.is_empty());
    let words = [
        "exec",
        "-t",
        "--env",
        "A=1",
        "-e",
        "B=-x",
        "-u",
        "1:2",
        "-g",
        "3",
        "--additional-gids=4",
        "--cap",
        "CAP_KILL",
        "-c",
        "CAP_CHOWN",
        "-d",
        "--pid-file",
        "p",
        "--preserve-fds=2",
        "ctr",
        "ls",
        "-la",
    ];
    let Command::Exec(args) = read(&words).unwrap().command else { panic!() };
    assert_eq!(args.command, ["ls", "-la"]);
    assert_eq!(args.env, ["A=1", "B=-x"]);
    assert_eq!(args.additional_gids, [3, 4]);
    assert_eq!(args.cap, ["CAP_KILL", "CAP_CHOWN"]);
    assert_eq!(
        (args.user.as_deref(), args.preserve_fds, args.detach, args.tty),
        (Some("1:2"), 2, true, true)
    );
    let Command::Exec(args) = line("exec --process p.json --detach ctr").command else { panic!() };
    assert!(args.command.is_empty() && args.process.is_some());
}

#[test]
fn kill_takes_a_signal_in_every_form() {
    for (text, signal) in [
        ("kill c", "SIGTERM"),
        ("kill c KILL", "KILL"),
        ("kill c 9", "9"),
        ("kill -a c 0", "0"),
        ("kill c -- -9", "-9"),
        ("kill --all c 15", "15"),
    ] {
        let Command::Kill(args) = line(text).command else { panic!() };
        assert_eq!(args.signal, signal, "{text}");
        assert_eq!(args.all, text.contains("-a"), "{text}");
    }
}

#[test]
fn update_takes_negative_values_and_a_dash() {
    let Command::Update(args) = line("update --resources=FILE ID").command else { panic!() };
    assert_eq!(args.resources.as_deref(), Some(Path::new("FILE")));
    let Command::Update(args) = line("update -r - ID").command else { panic!() };
    assert_eq!(args.resources.as_deref(), Some(Path::new("-")));
    let Command::Update(args) = line(
        "update ID --memory 60M --memory-swap -1 --cpu-quota=-1 --cpu-idle 1 --pids-limit -1 --cpu-rt-runtime 5",
    )
    .command
    else {
        panic!()
    };
    assert_eq!((args.memory, args.memory_swap, args.cpu_quota), (Some(60 << 20), Some(-1), Some(-1)));
    assert_eq!((args.cpu_idle, args.pids_limit, args.cpu_rt_runtime), (Some(1), Some(-1), Some(5)));
    assert_eq!(args.container_id, "ID");
}

#[test]
fn the_other_commands_read_as_in_runc() {
    let Command::Run(args) = line("run -d --pid-file p -b /b --console-socket s id").command else {
        panic!()
    };
    assert!(args.detach && !args.keep);
    assert_eq!(args.create.pid_file.as_deref(), Some(Path::new("p")));
    assert_eq!((args.create.container_id.as_str(), args.create.preserve_fds), ("id", 0));
    let Command::Ps(args) = line("ps ctr -e -x").command else { panic!() };
    assert_eq!(args.ps_args, ["-e", "-x"]);
    let Command::Ps(args) = line("ps --format json ctr").command else { panic!() };
    assert_eq!(args.format, ListFormat::Json);
    let Command::List(args) = line("list -q -f json").command else { panic!() };
    assert!(args.quiet && args.format == ListFormat::Json);
    let Command::Events(args) = line("events --interval 100ms c").command else { panic!() };
    assert_eq!(args.interval, Duration::from_millis(100));
    let Command::Delete(args) = line("delete c -f").command else { panic!() };
    assert!(args.force);
    let Command::Checkpoint(args) =
        line("checkpoint --work-path w --status-fd 5 --empty-ns network c").command
    else {
        panic!()
    };
    assert_eq!((args.status_fd, args.criu.empty_ns.as_slice()), (5, ["network".to_owned()].as_slice()));
    let Command::Restore(args) = line("restore -d -b . --lsm-profile a:b c").command else { panic!() };
    assert!(args.detach && args.lsm_profile.is_some());
}

#[test]
fn proof_commands_read_their_numbers() {
    let Command::TestMemory(args) =
        line("test-memory c 96 --strategy random,file --timeout 5s --dry-run").command
    else {
        panic!()
    };
    assert_eq!((args.container.as_deref(), args.mb), (Some("c"), Some(96)));
    assert_eq!(args.proving.strategy, ["random", "file"]);
    assert_eq!(args.timeout, Some(Duration::from_secs(5)));
    let Command::TestMemory(args) = line("test-memory --pid 7 96 --format json").command else { panic!() };
    assert_eq!(
        (args.container.as_deref(), args.mb, args.proving.pid, args.format),
        (Some("96"), None, Some(7), Format::Json)
    );
    let Command::Monitor(args) = line("monitor c 2.5 --interval 100ms").command else { panic!() };
    assert_eq!((args.seconds.as_deref(), args.interval), (Some("2.5"), Duration::from_millis(100)));
}

#[test]
fn wrong_usage_is_said_in_runcs_words() {
    for (text, message) in [
        ("state", "/usr/bin/rt: \"state\" requires exactly 1 argument(s)"),
        ("state a b", "/usr/bin/rt: \"state\" requires exactly 1 argument(s)"),
        ("list x", "/usr/bin/rt: \"list\" requires exactly 0 argument(s)"),
        ("exec", "/usr/bin/rt: \"exec\" requires a minimum of 1 argument(s)"),
        ("kill", "/usr/bin/rt: \"kill\" requires a minimum of 1 argument(s)"),
        ("kill a b c", "/usr/bin/rt: \"kill\" requires a maximum of 2 argument(s)"),
        ("list --nonsense", "flag provided but not defined: --nonsense"),
        ("--nonsense list", "flag provided but not defined: --nonsense"),
    ] {
        assert_eq!(refused(text), (message.to_owned(), ExitStatus::FAILURE), "{text}");
    }
    assert_eq!(refused("test-memory").1, ExitStatus::USAGE);
    assert!(refused("update --memory x c").0.contains("invalid size 'x'"));
    assert_eq!(refused("foo -h"), ("No help topic for 'foo'".to_owned(), ExitStatus(3)));
}

#[test]
fn a_wrong_line_still_says_where_to_log() {
    let words = ["--root", "/r", "--log", "/l", "--log-format=json", "--bad", "state"];
    let Err(Stop::Usage { global, .. }) = read(&words) else { panic!() };
    assert_eq!((global.log.as_deref(), global.log_format), (Some(Path::new("/l")), LogFormat::Json));
}

#[test]
fn help_and_version_come_first() {
    for words in [&["-h"][..], &["--help"], &["help"], &["h"], &[], &["--debug"]] {
        let Err(Stop::Help(text)) = read(words) else { panic!("{words:?}") };
        assert!(text.starts_with("NAME:\n   rt - Open Container Initiative runtime"), "{words:?}");
    }
    for words in [["state", "-h"], ["state", "--help"], ["help", "state"]] {
        let Err(Stop::Help(text)) = read(&words) else { panic!("{words:?}") };
        assert!(text.starts_with("NAME:\n   rt state - "), "{words:?}");
    }
    assert!(matches!(read(&["-v"]), Err(Stop::Version)));
    assert!(matches!(read(&["--version"]), Err(Stop::Version)));
}

#[test]
fn a_word_that_looks_like_a_command_is_not_taken_for_one() {
    assert!(matches!(line("--log create list").command, Command::List(_)));
    let Command::Ps(args) = line("ps create").command else { panic!() };
    assert_eq!(args.container_id, "create");
    let Command::Start(args) = line("--root exec start state").command else { panic!() };
    assert_eq!(args.container_id, "state");
}

#[test]
fn the_short_way_knows_what_the_long_one_knows() {
    let all = Cli::command();
    for name in ["create", "run", "exec", "start", "state", "kill", "delete"] {
        let one = types_for(&[name.into()]);
        assert_eq!(one.get_subcommands().count(), 1, "{name}");
        let ids = |types: &clap::Command| -> Vec<_> {
            let command = types.find_subcommand(name).unwrap();
            types.get_arguments().chain(command.get_arguments()).map(|arg| format!("{arg:?}")).collect()
        };
        let (mut one, mut all) = (ids(&one), ids(&all));
        one.retain(|arg| !arg.contains("\"version\""));
        all.retain(|arg| !arg.contains("\"version\""));
        assert_eq!(one, all, "{name}");
    }
}
