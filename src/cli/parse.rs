//! From argv to [`Cli`], or to what is said instead: help, the version, or what is wrong.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use clap::error::{ContextKind, ErrorKind};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches};

use super::normalise::{Normalised, normalise};
use super::{
    Cli, ContainerArgs, CreateArgs, DeleteArgs, ExecArgs, Global, KillArgs, ListArgs, PsArgs, RunArgs,
    UpdateArgs, help,
};
use crate::exit::ExitStatus;

/// Why no command is run.
#[derive(Debug)]
pub enum Stop {
    /// Print this to stdout; all is well.
    Help(String),
    /// Print the version.
    Version,
    /// The command line is wrong.
    Usage {
        /// What is wrong.
        message: String,
        /// The help page to show with it.
        help: Option<String>,
        /// The exit code.
        status: ExitStatus,
        /// Where the message is logged, as far as it was understood.
        global: Box<Global>,
    },
}

/// Reads the command line, `argv[0]` included.
///
/// # Errors
/// A [`Stop`], where there is nothing to run.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Cli, Stop> {
    let mut argv = argv.into_iter();
    let arg0 = argv.next().unwrap_or_default();
    let program = Path::new(&arg0).file_name().and_then(OsStr::to_str).unwrap_or("rt").to_owned();
    let words: Vec<_> = argv.collect();
    let mut types = types_for(&words);
    let mut found = normalise(&types, words.iter().cloned());
    if found.verb.as_ref().is_none_or(|verb| types.find_subcommand(verb).is_none()) {
        types = Cli::command();
        found = normalise(&types, words.into_iter());
    }
    if let Some(stop) = help_or_version(&program, &types, &found) {
        return Err(stop);
    }
    let words = std::iter::once(OsString::from(&program)).chain(found.args.iter().cloned());
    let parsed = types.try_get_matches_from_mut(words).and_then(|matches| Cli::from_arg_matches(&matches));
    let mut cli = parsed.map_err(|error| usage(&arg0, &program, &types, &found, &error))?;
    settle(&mut cli).map_err(|message| Stop::Usage {
        message,
        help: None,
        status: ExitStatus::FAILURE,
        global: Box::new(Global { root: None, ..cli.global.clone() }),
    })?;
    Ok(cli)
}

/// The types of all commands, or of the one command that seems to be asked for where that is one that engines
/// call all the time: to build all of them is most of the work of parsing.
fn types_for(words: &[OsString]) -> clap::Command {
    type Augment = fn(clap::Command) -> clap::Command;
    let verb = words.iter().find_map(|word| {
        let hot: (&'static str, Augment) = match word.to_str()? {
            "create" => ("create", CreateArgs::augment_args),
            "run" => ("run", RunArgs::augment_args),
            "exec" => ("exec", ExecArgs::augment_args),
            "start" => ("start", ContainerArgs::augment_args),
            "state" => ("state", ContainerArgs::augment_args),
            "kill" => ("kill", KillArgs::augment_args),
            "delete" => ("delete", DeleteArgs::augment_args),
            "list" => ("list", ListArgs::augment_args),
            "ps" => ("ps", PsArgs::augment_args),
            "pause" => ("pause", ContainerArgs::augment_args),
            "resume" => ("resume", ContainerArgs::augment_args),
            "update" => ("update", UpdateArgs::augment_args),
            _ => return None,
        };
        Some(hot)
    });
    let Some((name, augment)) = verb else { return Cli::command() };
    let command = augment(clap::Command::new(name));
    let version = clap::Arg::new("version").long("version").short('v').action(ArgAction::SetTrue);
    let types = Global::augment_args(clap::Command::new("rt")).args_override_self(true).arg(version);
    types.disable_help_subcommand(true).subcommand_required(true).subcommand(command)
}

fn help_or_version(program: &str, types: &clap::Command, found: &Normalised) -> Option<Stop> {
    if found.version {
        return Some(Stop::Version);
    }
    let page = |verb: Option<&str>| help::page(program, verb).unwrap_or_default();
    let Some(verb) = found.verb.as_deref() else {
        let bare = found.args.iter().all(|word| option_is_known(types, word));
        return (found.help || bare).then(|| Stop::Help(page(None)));
    };
    let topic = match verb {
        "help" | "h" => found.positionals.first().map(|word| word.to_string_lossy().into_owned()),
        _ => Some(verb.to_owned()),
    };
    let Some(topic) = topic else { return Some(Stop::Help(page(None))) };
    let command = types.find_subcommand(&topic);
    if command.is_none() || (verb != topic && command.is_some_and(clap::Command::is_hide_set)) {
        return Some(Stop::Usage {
            message: format!("No help topic for '{topic}'"),
            help: None,
            // urfave/cli's code for this, seen in runc.
            status: ExitStatus(3),
            global: Box::default(),
        });
    }
    (found.help || verb != topic).then(|| Stop::Help(page(Some(&topic))))
}

/// Whether the normal form of an option is one of `types`' own.
fn option_is_known(types: &clap::Command, word: &OsStr) -> bool {
    let word = word.to_string_lossy();
    let name = word.trim_start_matches('-').split('=').next().unwrap_or_default();
    types.get_arguments().any(|arg| arg.get_long() == Some(name))
}

/// What clap complains about, in runc's words where it has some.
fn usage(
    arg0: &OsStr,
    program: &str,
    types: &clap::Command,
    found: &Normalised,
    error: &clap::Error,
) -> Stop {
    let verb = found.verb.as_deref().unwrap_or_default();
    let command = types.find_subcommand(verb);
    let message = command
        .and_then(|command| wrong_number(&arg0.to_string_lossy(), command, found.positionals.len()))
        .filter(|_| matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::UnknownArgument))
        .filter(|_| unknown_option(error).is_none())
        .unwrap_or_else(|| one_line(error));
    let proof =
        matches!(verb, "hook" | "test-memory" | "stress-memory" | "monitor" | "verify" | "report" | "why");
    Stop::Usage {
        message,
        help: help::page(program, command.map(clap::Command::get_name)),
        status: if proof { ExitStatus::USAGE } else { ExitStatus::FAILURE },
        global: Box::new(lenient_global(types, found)),
    }
}

/// runc's sentence for too few or too many words behind `command`.
fn wrong_number(arg0: &str, command: &clap::Command, given: usize) -> Option<String> {
    let name = command.get_name();
    let least = command.get_positionals().filter(|arg| arg.is_required_set()).count();
    let most = command.get_positionals().count();
    let open = command.get_positionals().any(clap::Arg::is_trailing_var_arg_set);
    let wanted = match (given < least, given > most && !open) {
        (false, false) => return None,
        _ if least == most => format!("exactly {least}"),
        (true, _) => format!("a minimum of {least}"),
        (_, true) => format!("a maximum of {most}"),
    };
    Some(format!("{arg0}: \"{name}\" requires {wanted} argument(s)"))
}

/// The option that clap does not know, if that is its complaint.
fn unknown_option(error: &clap::Error) -> Option<String> {
    let context = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    context.filter(|arg| error.kind() == ErrorKind::UnknownArgument && arg.starts_with('-'))
}

/// The first paragraph of clap's message on one line, without its own `error: `.
fn one_line(error: &clap::Error) -> String {
    if let Some(option) = unknown_option(error) {
        return format!("flag provided but not defined: {option}");
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text.lines().take_while(|line| !line.is_empty() && !line.starts_with("Usage"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// The log options of a command line that is wrong elsewhere: the engine that gave them reads that log.
fn lenient_global(types: &clap::Command, found: &Normalised) -> Global {
    let before_verb = found.args.iter().take_while(|word| word.as_encoded_bytes().starts_with(b"-"));
    let words: Vec<_> = before_verb.filter(|word| option_is_known(types, word)).cloned().collect();
    let command = <Global as clap::Args>::augment_args(clap::Command::new("rt").no_binary_name(true));
    let matches = command.ignore_errors(true).args_override_self(true).try_get_matches_from(words);
    matches.ok().and_then(|matches| Global::from_arg_matches(&matches).ok()).unwrap_or_default()
}

/// Makes of a parsed line what the commands may rely on.
fn settle(cli: &mut Cli) -> Result<(), String> {
    if let Some(root) = cli.global.root.take() {
        cli.global.root = Some(state_root(&root)?);
    }
    Ok(())
}

/// `root` as an absolute path without `.` and `..`, never `/` itself.
fn state_root(root: &Path) -> Result<PathBuf, String> {
    let current =
        if root.is_absolute() { PathBuf::new() } else { std::env::current_dir().unwrap_or_default() };
    let mut clean = PathBuf::from("/");
    for part in current.join(root).components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    if clean == Path::new("/") || root.as_os_str().is_empty() {
        return Err("Option --root argument should not be set to /".to_owned());
    }
    Ok(clean)
}

#[cfg(test)]
mod tests;
