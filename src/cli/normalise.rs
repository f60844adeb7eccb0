//! Brings Go's way of writing options, which engines and scripts for runc rely on, into the one form that
//! clap reads without doubt: `rt [--global…] verb [--option…] -- positional…`.
//!
//! Go takes `-bundle` for `--bundle`, `--debug=false`, `--memory -1` and an empty value for none; `exec` and
//! `ps` stop looking for options at the first positional, the other commands go on.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Arg, Command};

/// The arguments in one form, and what parsing needs to know of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Normalised {
    /// Without argv\[0\].
    pub args: Vec<OsString>,
    /// The first word that is no option, whether a command or not.
    pub verb: Option<String>,
    /// How many words follow the verb that are no options.
    pub positionals: Vec<OsString>,
    /// `-h` or `--help` stood where an option can stand.
    pub help: bool,
    /// `-v` or `--version` stood before the verb.
    pub version: bool,
}

/// Commands whose further arguments belong to somebody else as soon as the container is named.
const STOP_AT_POSITIONAL: [&str; 2] = ["exec", "ps"];

/// Sorts `words` (without argv\[0\]) by what `cli` knows as options.
pub(super) fn normalise(cli: &Command, words: impl Iterator<Item = OsString>) -> Normalised {
    let mut words = words.peekable();
    let mut found = Normalised::default();
    let mut globals = Vec::new();
    while let Some(word) = words.next() {
        match option_name(&word) {
            None => {
                found.verb = Some(word.to_string_lossy().into_owned());
                break;
            }
            Some("h" | "help") => found.help = true,
            Some("v" | "version") => found.version = true,
            Some(name) => match find(cli, name) {
                Some(arg) => globals.extend(canonical(arg, &word, &mut words)),
                None => globals.push(word),
            },
        }
    }
    let verb = found.verb.clone().unwrap_or_default();
    let command = cli.find_subcommand(&verb);
    if command.is_some_and(Command::is_hide_set) {
        found.positionals.extend(words);
        found.args = [vec![OsString::from(verb)], found.positionals.clone()].concat();
        return found;
    }
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        if word == "--" {
            found.positionals.extend(words);
            break;
        }
        let known = option_name(&word).and_then(|name| {
            let own = command.and_then(|command| find(command, name)).map(|arg| (arg, true));
            own.or_else(|| find(cli, name).map(|arg| (arg, false)))
        });
        match (option_name(&word), known) {
            (Some("h" | "help"), _) => found.help = true,
            (_, Some((arg, true))) => options.extend(canonical(arg, &word, &mut words)),
            (_, Some((arg, false))) => globals.extend(canonical(arg, &word, &mut words)),
            // Go looks at the words behind the first positional only for options it knows.
            (Some(_), None) if found.positionals.is_empty() => options.push(word),
            _ => {
                found.positionals.push(word);
                if STOP_AT_POSITIONAL.contains(&verb.as_str()) {
                    found.positionals.extend(words);
                    break;
                }
            }
        }
    }
    found.args = globals;
    found.args.extend(found.verb.as_ref().map(OsString::from));
    found.args.append(&mut options);
    if !found.positionals.is_empty() {
        found.args.push("--".into());
        found.args.extend(found.positionals.iter().cloned());
    }
    found
}

/// The name in `-name`, `--name` or `--name=value`; none for `-`, `--` and everything else.
fn option_name(word: &OsStr) -> Option<&str> {
    let bytes = word.as_bytes();
    let name = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-"))?;
    let name = name.split(|&byte| byte == b'=').next()?;
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty())
}

/// The option that is called `name`, by its long or its short name.
fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_short().is_some_and(|short| name.chars().eq([short]))
    })
}

/// `word`, an occurrence of `arg`, as `--name` or `--name=value`; nothing where it says nothing.
fn canonical(arg: &Arg, word: &OsStr, rest: &mut impl Iterator<Item = OsString>) -> Option<OsString> {
    let name = format!("--{}", arg.get_long()?);
    let bytes = word.as_bytes();
    let inline = bytes.iter().position(|&byte| byte == b'=').map(|at| OsStr::from_bytes(&bytes[at + 1..]));
    if arg.get_action().takes_values() {
        let value = match inline.map(OsStr::to_owned).or_else(|| rest.next()) {
            Some(value) => value,
            None => return Some(name.into()),
        };
        // An empty value is Go's default of a string; an empty root must be refused, not ignored.
        if value.is_empty() && arg.get_id() != "root" {
            return None;
        }
        return Some(OsString::from_vec([name.as_bytes(), b"=", value.as_bytes()].concat()));
    }
    match inline.map(OsStr::to_string_lossy).as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Some(name.into()),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => None,
        Some(_) => Some(word.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn normal(line: &str) -> String {
        let words = line.split_whitespace().map(|word| OsString::from(word.trim_matches('\'')));
        let found = normalise(&Cli::command(), words);
        found.args.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_come_first_and_positionals_behind_two_dashes() {
        for (line, expected) in [
            ("state c", "state -- c"),
            ("delete c --force", "delete --force -- c"),
            ("--root /r delete -f c", "--root=/r delete --force -- c"),
            ("update c --memory -1", "update --memory=-1 -- c"),
            ("run -bundle /b --d c", "run --bundle=/b --detach -- c"),
            ("run --detach=false --keep=true c", "run --keep -- c"),
            ("run --pid-file '' c", "run -- c"),
            ("--root '' state c", "--root= state -- c"),
            ("update -r - c", "update --resources=- -- c"),
            ("list --debug", "--debug list"),
            ("spec --rootless", "spec --rootless"),
            ("kill c -9", "kill -- c -9"),
            ("kill c -- -9", "kill -- c -9"),
            ("list --nonsense", "list --nonsense"),
        ] {
            assert_eq!(normal(line), expected, "{line}");
        }
    }

    #[test]
    fn words_behind_the_container_belong_to_exec_and_ps() {
        for (line, expected) in [
            ("exec -t c ls -t --debug -h", "exec --tty -- c ls -t --debug -h"),
            ("exec c -- ls", "exec -- c -- ls"),
            ("exec -e A=-b=c c env", "exec --env=A=-b=c -- c env"),
            ("ps -f json c", "ps --format=json -- c"),
            ("ps c -f x", "ps -- c -f x"),
        ] {
            assert_eq!(normal(line), expected, "{line}");
        }
    }
}
