//! What `create` and `run` have in common: from the arguments to a container whose init waits to be started.

use std::env;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::cli::{CreateArgs, Global, RootlessCgroup};
use crate::log::Hint;
use crate::runtime::cgroups::OnDenied;
use crate::runtime::create::{CreateRequest, Source, create};
use crate::runtime::foreground::Foreground;
use crate::runtime::node::Node;
use crate::runtime::process::descriptors::Passed;
use crate::runtime::{Container, Launched, RuntimeError, Store, connect, seal};
use crate::units::{CpuShare, Ram};

/// A container that waits to be started.
pub struct Made {
    /// Where it is.
    pub store: Store,
    pub container: Container,
    pub launched: Launched,
    /// `None` for a detached one.
    pub foreground: Option<Foreground>,
}

/// Makes the container. Nothing of it is left after an error.
///
/// # Errors
/// In runc's words.
pub fn make(global: &Global, args: &CreateArgs, detach: bool, subreaper: bool) -> anyhow::Result<Made> {
    let passed = Passed::from_caller(args.preserve_fds)?;
    let store = Store::open(global)?;
    seal::ensure(store.ensure_root()?)?;
    let node = Node::read(global)?;
    let (ram, cpu) = limits(args)?;
    let pid_file = args.pid_file.as_deref().map(std::path::absolute).transpose()?;
    let pidfd_path = args.pidfd_socket.as_deref().map(std::path::absolute).transpose()?;
    let console_path = args.console_socket.as_deref().map(std::path::absolute).transpose()?;
    let bundle = enter_bundle(args.bundle.as_deref())?;
    let source =
        Source::read(&bundle, ram.is_some() || cpu.is_some()).map_err(|error| with_hint(error, args))?;
    let terminal = source.process()?.terminal().unwrap_or(false);
    check_terminal(detach, terminal, console_path.is_some())?;
    let socket = console_path.as_deref().map(connect).transpose()?;
    let pidfd_socket = pidfd_path.as_deref().map(connect).transpose()?;
    // What the caller leaked reaches neither the container nor a hook. Until here a path may have named it.
    passed.close_leaked()?;
    let mut foreground = if detach { None } else { Some(Foreground::prepare(terminal, subreaper)?) };
    let console: Option<&OwnedFd> = match &foreground {
        Some(foreground) => foreground.console(),
        None => socket.as_ref(),
    };
    let request = CreateRequest {
        id: &args.container_id,
        bundle: &bundle,
        ram,
        cpu,
        console,
        pidfd_socket: pidfd_socket.as_ref(),
        pid_file: pid_file.as_deref(),
        no_pivot: args.no_pivot,
        no_new_keyring: args.no_new_keyring,
        on_denied: match args.rootless_cgroup {
            RootlessCgroup::Require => OnDenied::Refuse,
            RootlessCgroup::Ignore => OnDenied::Warn,
        },
        passed,
        node: &node,
    };
    let (container, launched) = create(&store, source, &request).map_err(with_remedy)?;
    if let Some(foreground) = &mut foreground
        && let Err(error) = foreground.attach()
    {
        crate::runtime::delete::destroy(&container)?;
        return Err(error.into());
    }
    Ok(Made { store, container, launched, foreground })
}

fn with_hint(error: RuntimeError, args: &CreateArgs) -> anyhow::Error {
    let nothing_named = args.bundle.is_none();
    let missing = matches!(error, RuntimeError::NoConfig(_));
    let error = anyhow::Error::from(error);
    if missing && nothing_named {
        let hint = "name a bundle with --bundle, or make a container from nothing with --ram=128 --cpu=25";
        return error.context(Hint(hint.to_owned()));
    }
    error
}

/// A user who lacks permission is told how to get it, or to do without.
fn with_remedy(error: RuntimeError) -> anyhow::Error {
    let remedy = match &error {
        RuntimeError::NotDelegated { remedy: Some(remedy), .. } => remedy.clone(),
        RuntimeError::NotDelegated { remedy: None, .. } => "--rootless-cgroup=ignore does without".to_owned(),
        _ => return error.into(),
    };
    anyhow::Error::from(error).context(Hint(remedy))
}

fn limits(args: &CreateArgs) -> anyhow::Result<(Option<Ram>, Option<CpuShare>)> {
    let ram = args.ram.as_deref().map(str::parse).transpose().context("bad --ram")?;
    let cpu = args.cpu.as_deref().map(str::parse).transpose().context("bad --cpu")?;
    Ok((ram, cpu))
}

/// Goes to the bundle, so that relative paths in its config are relative to it.
fn enter_bundle(bundle: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(bundle) = bundle {
        env::set_current_dir(bundle).with_context(|| format!("chdir {}", bundle.display()))?;
    }
    env::current_dir().context("cannot find the current directory")
}

/// A terminal needs somebody to take it, and the other way round.
///
/// # Errors
/// In runc's words.
pub fn check_terminal(detach: bool, terminal: bool, console_socket: bool) -> anyhow::Result<()> {
    ensure!(
        !detach || !terminal || console_socket,
        "cannot allocate tty if rt will detach without setting console socket"
    );
    ensure!(
        (detach && terminal) || !console_socket,
        "cannot use console socket if rt will not detach or allocate tty"
    );
    Ok(())
}
