//! `ps`: the processes of a container, as ps(1) of the host shows them.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use nix::unistd::Pid;

use crate::cli::{Global, ListFormat, PsArgs};
use crate::exit::ExitStatus;
use crate::runtime::{Container, Status, Store};

/// Prints the processes as a table or as a JSON array of pids.
#[inline(never)]
pub fn run(global: &Global, args: &PsArgs) -> anyhow::Result<ExitStatus> {
    let container = Store::open(global)?.load(&args.container_id)?;
    let pids = pids(&container)?;
    let text = match args.format {
        ListFormat::Json => json(&pids)?,
        ListFormat::Table => table(&ps(&args.ps_args)?, &pids)?,
    };
    super::print(&text)?;
    Ok(ExitStatus::SUCCESS)
}

/// A stopped container whose cgroup is gone has no processes.
fn pids(container: &Container) -> anyhow::Result<Vec<Pid>> {
    match container.cgroup().pids(true) {
        Err(error) if error.is_gone() && container.status()? == Status::Stopped => Ok(Vec::new()),
        pids => pids.context("unable to get all container pids"),
    }
}

/// Go prints an empty list as null, and clients read it as such.
fn json(pids: &[Pid]) -> anyhow::Result<String> {
    if pids.is_empty() {
        return Ok("null\n".to_owned());
    }
    let numbers: Vec<i32> = pids.iter().map(|pid| pid.as_raw()).collect();
    Ok(serde_json::to_string(&numbers)? + "\n")
}

/// The output of the host's ps(1), of all processes.
fn ps(options: &[String]) -> anyhow::Result<String> {
    let mut command = Command::new("ps");
    match options {
        [] => command.arg("-ef"),
        options => command.args(options),
    };
    let output = command.stdin(Stdio::null()).output().context("cannot run ps")?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{}: {}", output.status, String::from_utf8_lossy(&said));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Of ps's lines the title and those of the given processes.
fn table(output: &str, pids: &[Pid]) -> anyhow::Result<String> {
    let mut lines = output.lines().filter(|line| !line.is_empty());
    let title = lines.next().unwrap_or_default();
    let column = title
        .split_whitespace()
        .position(|name| name == "PID")
        .context("couldn't find PID field in ps output")?;
    let mut text = format!("{title}\n");
    for line in lines {
        let field = line.split_whitespace().nth(column).unwrap_or_default();
        let pid = field.parse().with_context(|| format!("unable to parse pid {field:?}"))?;
        if pids.contains(&Pid::from_raw(pid)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_are_kept() {
        let output =
            "UID   PID  PPID CMD\nroot    1     0 init\nroot   77     1 sleep 1 77\nroot   78    77 sh\n";
        let text = table(output, &[Pid::from_raw(77)]).unwrap();
        assert_eq!(text, "UID   PID  PPID CMD\nroot   77     1 sleep 1 77\n");
        assert!(table("NAME\nx\n", &[]).is_err());
    }

    #[test]
    fn json_is_what_containerd_reads() {
        assert_eq!(json(&[Pid::from_raw(5), Pid::from_raw(9)]).unwrap(), "[5,9]\n");
        assert_eq!(json(&[]).unwrap(), "null\n");
    }
}
