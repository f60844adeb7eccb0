//! `completions`: a script for a shell, made from the clap types.

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArgs, Global};
use crate::exit::ExitStatus;

/// Prints the script for the asked shell.
#[inline(never)]
pub fn run(_: &Global, args: &CompletionsArgs) -> anyhow::Result<ExitStatus> {
    super::print(&script(args.shell))?;
    Ok(ExitStatus::SUCCESS)
}

fn script(shell: clap_complete::Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rt", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    #[test]
    fn every_shell_learns_commands_and_flags() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = script(shell);
            for word in ["checkpoint", "memory-swap", "console-socket"] {
                assert!(text.contains(word), "{shell} {word}");
            }
            assert!(!text.contains("__init"), "{shell}");
        }
    }
}
