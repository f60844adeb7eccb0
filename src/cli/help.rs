//! Help pages in the layout of runc's (NAME, USAGE, …), made from the clap types.

use std::ffi::OsStr;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::Cli;

/// What the program is called: the last part of argv\[0\], so that a link named `runc` answers to that name.
#[must_use]
pub fn program_name() -> String {
    let arg0 = std::env::args_os().next().unwrap_or_default();
    Path::new(&arg0).file_name().and_then(OsStr::to_str).unwrap_or("rt").to_owned()
}

/// The help page of the command `verb`, or of the program; none if there is no such command.
#[must_use]
pub fn page(program: &str, verb: Option<&str>) -> Option<String> {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let Some(verb) = verb else {
        return Some(render(program_page(program, cli)));
    };
    let command = cli.find_subcommand(verb).filter(|command| !command.is_hide_set())?.clone();
    Some(render(command_page(&format!("{program} {verb}"), command)))
}

fn render(mut command: Command) -> String {
    let text = command.render_help().to_string();
    format!("{}\n", text.trim_end())
}

fn program_page(program: &str, cli: Command) -> Command {
    cli.help_template(format!(
        "NAME:\n   {program} - {{about}}\n\n\
         USAGE:\n   {program} [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {}\n\n\
         COMMANDS:\n{{subcommands}}\n\n\
         GLOBAL OPTIONS:\n{{options}}",
        env!("CARGO_PKG_VERSION")
    ))
}

fn command_page(name: &str, command: Command) -> Command {
    let mut usage = format!("{name} [command options]");
    for positional in command.get_positionals() {
        let value = positional.get_id().as_str().replace('_', "-");
        let many = if positional.is_trailing_var_arg_set() { "..." } else { "" };
        let (open, close) = if positional.is_required_set() { ('<', '>') } else { ('[', ']') };
        usage.push_str(&format!(" {open}{value}{close}{many}"));
    }
    let arguments =
        if command.get_positionals().next().is_some() { "ARGUMENTS:\n{positionals}\n\n" } else { "" };
    command.help_template(format!(
        "NAME:\n   {name} - {{about}}\n\nUSAGE:\n   {usage}\n\n{arguments}OPTIONS:\n{{options}}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_laid_out_as_runcs() {
        let text = page("runc", None).unwrap();
        assert!(text.starts_with("NAME:\n   runc - Open Container Initiative runtime\n"), "{text}");
        assert!(text.contains("\n  update "), "{text}");
        assert!(!text.contains("__init"), "{text}");
        let text = page("rt", Some("update")).unwrap();
        assert!(text.starts_with("NAME:\n   rt update - update container resource"), "{text}");
        assert!(text.contains("--memory-swap <SIZE>"), "{text}");
        assert!(!text.contains("kernel-memory"), "{text}");
        assert!(page("rt", Some("exec")).unwrap().contains("<container-id> [command]..."));
    }

    #[test]
    fn unknown_and_hidden_commands_have_no_page() {
        assert_eq!(page("rt", Some("foo")), None);
        assert_eq!(page("rt", Some("__init")), None);
    }
}
