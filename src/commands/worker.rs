//! `__worker`: the prover's worker, and the shortcut by which hidden subcommands skip the command line's parser.

use std::ffi::OsString;

use super::init;
use crate::exit::ExitStatus;
use crate::proof::{scratch, worker};
use crate::verify::burner;

/// Runs a hidden subcommand; `None` where `args` (with the program's name) ask for none. The parser would cost such a
/// process more memory than all it does itself.
pub fn intercept(mut args: impl Iterator<Item = OsString>) -> Option<ExitStatus> {
    let subcommand = args.nth(1)?;
    if subcommand == worker::SUBCOMMAND {
        return Some(worker::run(&args.collect::<Vec<_>>()));
    }
    if subcommand == scratch::SUBCOMMAND {
        return Some(scratch::run(&args.collect::<Vec<_>>()));
    }
    if subcommand == burner::SUBCOMMAND {
        return Some(burner::run(&args.collect::<Vec<_>>()));
    }
    (subcommand == init::SUBCOMMAND).then(init::run)
}
