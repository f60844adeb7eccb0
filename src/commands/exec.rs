//! `exec`: another process in a container.

use std::path::Path;

use anyhow::{bail, ensure};
use oci_spec::runtime::{Capabilities, Process};
use serde_json::Value;

use super::making::check_terminal;
use crate::cli::{ExecArgs, Global};
use crate::exit::ExitStatus;
use crate::runtime::cgroups::SubCgroups;
use crate::runtime::exec::{ExecRequest, check, exec};
use crate::runtime::foreground::Foreground;
use crate::runtime::process::capabilities::{NAMES, warn_unknown};
use crate::runtime::process::descriptors::Passed;
use crate::runtime::{Container, Store, bundle, connect, seal, userdb};

/// Runs the process; in the foreground the exit code is its own.
#[inline(never)]
pub fn run(global: &Global, args: &ExecArgs) -> anyhow::Result<ExitStatus> {
    let passed = Passed::from_caller(args.preserve_fds)?;
    let store = Store::open(global)?;
    let container = store.load(&args.container_id)?;
    seal::ensure(container.directory())?;
    check(&container, args.ignore_paused)?;
    let process = match &args.process {
        Some(path) => bundle::load_process(path)?,
        None => from_options(&container, args)?,
    };
    let sub_cgroups = SubCgroups::parse(&args.cgroup)?;
    let terminal = process.terminal().unwrap_or(false);
    check_terminal(args.detach, terminal, args.console_socket.is_some())?;
    let path = |path: &Option<std::path::PathBuf>| path.as_deref().map(connect).transpose();
    let socket = path(&args.console_socket)?;
    let pidfd_socket = path(&args.pidfd_socket)?;
    // What the caller leaked does not reach the container. Until here a path may have named it.
    passed.close_leaked()?;
    let mut foreground = if args.detach { None } else { Some(Foreground::prepare(terminal, false)?) };
    let request = ExecRequest {
        process,
        sub_cgroups,
        console: match &foreground {
            Some(foreground) => foreground.console(),
            None => socket.as_ref(),
        },
        pidfd_socket: pidfd_socket.as_ref(),
        pid_file: args.pid_file.as_deref(),
        passed,
    };
    let launched = exec(&container, &request)?;
    match &mut foreground {
        Some(attached) => attached.attach()?,
        None => return Ok(ExitStatus::SUCCESS),
    }
    match foreground {
        Some(foreground) => Ok(foreground.wait(&launched)?.into()),
        None => Ok(ExitStatus::SUCCESS),
    }
}

/// The container's process, changed by the options.
fn from_options(container: &Container, args: &ExecArgs) -> anyhow::Result<Process> {
    ensure!(!args.command.is_empty(), "exec args cannot be empty");
    let Some(mut process) = container.spec()?.process().clone() else {
        bail!("process property must not be empty");
    };
    process.set_args(Some(args.command.clone()));
    if let Some(cwd) = args.cwd.as_deref().filter(|cwd| !cwd.is_empty()) {
        process.set_cwd(Path::new(cwd).to_owned());
    }
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(profile) = given(&args.apparmor) {
        process.set_apparmor_profile(Some(profile));
    }
    if let Some(label) = given(&args.process_label) {
        process.set_selinux_label(Some(label));
    }
    add_capabilities(&mut process, &args.cap);
    if !args.env.is_empty() {
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(args.env.iter().cloned());
        process.set_env(Some(env));
    }
    process.set_terminal(Some(args.tty));
    // Sizes are those of the terminal that the process is given now.
    process.set_console_size(None);
    if args.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    let mut user = process.user().clone();
    if let Some(text) = given(&args.user) {
        let (uid, gid) = userdb::parse_user(&text)?;
        user.set_uid(uid);
        if let Some(gid) = gid {
            user.set_gid(gid);
        }
    }
    if !args.additional_gids.is_empty() {
        let mut gids = user.additional_gids().clone().unwrap_or_default();
        gids.extend(&args.additional_gids);
        user.set_additional_gids(Some(gids));
    }
    process.set_user(user);
    Ok(process)
}

/// As in runc: to every set, but to the ambient one only if something is inheritable.
fn add_capabilities(process: &mut Process, names: &[String]) {
    let (known, unknown): (Vec<_>, Vec<_>) = names.iter().partition(|name| NAMES.contains(&name.as_str()));
    warn_unknown(&unknown.into_iter().cloned().collect());
    let added: Capabilities =
        known.iter().filter_map(|name| serde_json::from_value(Value::String((*name).clone())).ok()).collect();
    if added.is_empty() {
        return;
    }
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let more = |set: &Option<Capabilities>| {
        Some(set.iter().flatten().chain(&added).copied().collect::<Capabilities>())
    };
    let (bounding, effective, permitted) =
        (more(sets.bounding()), more(sets.effective()), more(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    if sets.inheritable().is_some() {
        let ambient = more(sets.ambient());
        sets.set_ambient(ambient);
    }
    process.set_capabilities(Some(sets));
}
