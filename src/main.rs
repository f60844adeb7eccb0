//! The program: reads the command line, runs one command, and ends with its exit code.

use std::process::ExitCode;

use rt::{cli, commands};

fn main() -> ExitCode {
    if let Some(status) = commands::worker::intercept(std::env::args_os()) {
        return status.into();
    }
    match cli::parse(std::env::args_os()) {
        Ok(cli) => commands::run(&cli),
        Err(stop) => commands::stop(stop),
    }
    .into()
}
