//! One file a subcommand: arguments in, a call into a domain, what is printed out.
//! Which command is run, and what its failure is worth as an exit code, is decided here.

pub mod checkpoint;
pub mod completions;
pub mod container_state;
pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod features;
pub mod hook;
pub mod init;
pub mod kill;
pub mod list;
mod making;
pub mod man;
pub mod monitor;
mod output;
pub mod pause;
pub mod proof_subject;
mod proving;
pub mod ps;
pub mod report;
pub mod restore;
pub mod resume;
pub mod run;
pub mod spec;
pub mod start;
pub mod state;
pub mod stress_memory;
pub mod test_memory;
pub mod update;
pub mod verify;
pub mod version;
pub mod why;
pub mod worker;

use std::io::{self, Write};

use anyhow::Context;

use crate::cli::{self, Cli, Command, Stop};
use crate::exit::ExitStatus;
use crate::log;
use crate::printable::printable;

/// Runs the command and says why it failed, if it did.
#[must_use]
pub fn run(cli: &Cli) -> ExitStatus {
    let done = log::init(&cli.global).map_err(anyhow::Error::from).and_then(|()| dispatch(cli));
    match done {
        Ok(status) => status,
        Err(error) if prints(&cli.command) && is_closed_pipe(&error) => ExitStatus::SUCCESS,
        Err(error) => {
            log::report(&error);
            failure(&cli.command)
        }
    }
}

/// What is said where there is no command to run.
#[must_use]
pub fn stop(stop: Stop) -> ExitStatus {
    match stop {
        Stop::Help(text) => status_of(print(&text)),
        Stop::Version => status_of(print(&version::text(&cli::program_name()))),
        Stop::Usage { message, help, status, global } => {
            if let Some(help) = help {
                // runc shows the page on stdout, and stderr has the one line that engines pass on.
                let _ = print(&format!("Incorrect Usage.\n\n{help}"));
            }
            // A log that cannot be opened must not hide what is wrong.
            let _ = log::init(&global);
            log::report(&anyhow::Error::msg(message));
            status
        }
    }
}

/// No command is inlined here: code that only another command needs would lie between this one's, and come into memory with it.
fn dispatch(cli: &Cli) -> anyhow::Result<ExitStatus> {
    let global = &cli.global;
    match &cli.command {
        Command::Checkpoint(args) => checkpoint::run(global, args),
        Command::Completions(args) => completions::run(global, args),
        Command::Create(args) => create::run(global, args).with_context(|| failed("create")),
        Command::Delete(args) => delete::run(global, args),
        Command::Events(args) => events::run(global, args),
        Command::Exec(args) => exec::run(global, args).context("exec failed"),
        Command::Features => features::run(global),
        Command::Hook(args) => hook::run(global, args),
        Command::Kill(args) => kill::run(global, args),
        Command::List(args) => list::run(global, args),
        Command::Man(args) => man::run(global, args),
        Command::Monitor(args) => monitor::run(global, args),
        Command::Pause(args) => pause::run(global, args),
        Command::Ps(args) => ps::run(global, args),
        Command::Restore(args) => restore::run(global, args),
        Command::Resume(args) => resume::run(global, args),
        Command::Run(args) => run::run(global, args).with_context(|| failed("run")),
        Command::Spec(args) => spec::run(global, args),
        Command::Start(args) => start::run(global, args),
        Command::State(args) => state::run(global, args),
        Command::StressMemory(args) => stress_memory::run(global, args),
        Command::TestMemory(args) => test_memory::run(global, args),
        Command::Update(args) => update::run(global, args),
        Command::Verify(args) => verify::run(global, args),
        Command::Report(args) => report::run(global, args),
        Command::Why(args) => why::run(global, args),
    }
}

/// What runc puts before the reason: engines show it, and runc's tests look for it.
fn failed(verb: &str) -> String {
    format!("{} {verb} failed", cli::program_name())
}

/// The exit code of a command that failed by itself.
fn failure(command: &Command) -> ExitStatus {
    match command {
        Command::Exec(_) => ExitStatus::RUN_FAILURE,
        Command::Hook(_) => ExitStatus::USAGE,
        Command::TestMemory(_) | Command::StressMemory(_) | Command::Monitor(_) | Command::Verify(_) => {
            ExitStatus::PROVER_FAILURE
        }
        _ => ExitStatus::FAILURE,
    }
}

/// Commands whose work is what they print: a reader that went away has seen enough.
fn prints(command: &Command) -> bool {
    matches!(
        command,
        Command::Completions(_)
            | Command::Events(_)
            | Command::Features
            | Command::List(_)
            | Command::Monitor(_)
            | Command::Ps(_)
            | Command::State(_)
            | Command::Report(_)
            | Command::Why(_)
    )
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref().map(io::Error::kind);
    error.chain().any(|cause| io(cause) == Some(io::ErrorKind::BrokenPipe))
}

/// Writes `text` to stdout at once, without anything that could command a terminal. Unlike `println!` it does not
/// panic where nobody reads.
///
/// # Errors
/// stdout cannot be written to.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(printable(text).as_bytes()).and_then(|()| out.flush()).context("cannot write to stdout")
}

fn status_of(printed: anyhow::Result<()>) -> ExitStatus {
    match printed {
        Err(error) if !is_closed_pipe(&error) => {
            log::report(&error);
            ExitStatus::FAILURE
        }
        _ => ExitStatus::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_found_under_contexts() {
        let error = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).context("cannot write");
        assert!(is_closed_pipe(&error));
        assert!(!is_closed_pipe(&anyhow::anyhow!("broken pipe")));
    }
}
