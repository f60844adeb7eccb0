//! The program: reads the command line, runs one command, and ends with its exit code.
#![no_main]

use std::io::Write;

use rt::{cli, commands, sys};

/// The C library's entry. Rust's own would first look for the stack's guard page in /proc/self/maps and set up handlers for
/// its overflow, with more system calls than `state` needs in all; what of it matters is done here.
#[expect(unsafe_code, reason = "the symbol has the name and the type that the C library calls")]
#[unsafe(no_mangle)]
extern "C" fn main() -> i32 {
    sys::process::prepare_as_program();
    let status = match commands::worker::intercept(std::env::args_os()) {
        Some(status) => status,
        None => match cli::parse(std::env::args_os()) {
            Ok(cli) => commands::run(&cli),
            Err(stop) => commands::stop(stop),
        },
    };
    // Whatever a command left in the buffer; who has to know that it failed has flushed it already.
    let _ = std::io::stdout().flush();
    i32::from(status.0)
}
