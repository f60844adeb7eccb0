//! What `test-memory` and `stress-memory` are asked alike, in bytes and types.

use anyhow::{Context, anyhow};

use super::proof_subject::{self, Named};
use crate::cli::{Global, ProvingArgs};
use crate::proof::{Asked, Request, STEP_BYTES, Strategy};
use crate::units::{MIB, Ram};

/// The arguments, read; a mistake in them is exit 2.
#[derive(Debug)]
pub(super) struct Proving<'a> {
    args: &'a ProvingArgs,
    pub target_bytes: Option<u64>,
    up_to_bytes: Option<u64>,
    expect_bytes: Option<u64>,
    step_bytes: u64,
    pub strategies: Vec<Strategy>,
}

impl<'a> Proving<'a> {
    /// Reads the arguments; `mb` is the amount that was asked for.
    pub fn read(args: &'a ProvingArgs, mb: Option<u64>) -> anyhow::Result<Self> {
        Ok(Self {
            args,
            target_bytes: mib(mb, "MB")?,
            up_to_bytes: mib(args.up_to, "--up-to")?,
            expect_bytes: mib(args.expect, "--expect")?,
            step_bytes: step(args.step.as_deref())?,
            strategies: match args.strategy.as_slice() {
                [] => Strategy::DEFAULT.to_vec(),
                names => strategies(names)?,
            },
        })
    }

    /// The request for the container of that name, or what --pid or --cgroup name.
    pub fn request(&self, global: &Global, container: Option<&str>) -> anyhow::Result<Request> {
        let args = self.args;
        let named = Named { container, pid: args.pid, cgroup: args.cgroup.as_deref() };
        let (subject, asked) = proof_subject::of(global, named)?;
        let mut request = Request::new(subject, self.expect_bytes.map_or(asked, Asked::Limited));
        request.target_bytes = self.target_bytes;
        request.step_bytes = self.step_bytes;
        request.up_to_bytes = self.up_to_bytes;
        request.file_dir.clone_from(&args.file_dir);
        request.allow_kill_container = args.allow_kill_container;
        Ok(request)
    }
}

/// True where --pid or --cgroup stands in the place of a name.
pub(super) fn is_nameless(args: &ProvingArgs) -> bool {
    args.pid.is_some() || args.cgroup.is_some()
}

/// A `--step` in bytes.
fn step(text: Option<&str>) -> anyhow::Result<u64> {
    match text.map(str::parse).transpose().context("bad --step")? {
        None => Ok(STEP_BYTES),
        Some(Ram::Limited(bytes)) => Ok(bytes),
        Some(Ram::Unlimited) => Err(anyhow!("bad --step: max is no step")),
    }
}

/// The strategies that `--strategy` names.
pub(super) fn strategies(names: &[String]) -> anyhow::Result<Vec<Strategy>> {
    if names.iter().any(|name| name == "all") {
        return Ok(Strategy::ALL.to_vec());
    }
    names.iter().map(|name| name.parse()).collect::<Result<_, _>>().context("bad --strategy")
}

/// So many MiB in bytes; `name` is the argument's.
fn mib(value: Option<u64>, name: &str) -> anyhow::Result<Option<u64>> {
    let Some(value) = value else { return Ok(None) };
    let bytes = value.checked_mul(MIB).filter(|bytes| (1..=i64::MAX as u64).contains(bytes));
    bytes.map(Some).ok_or_else(|| anyhow!("bad {name}: '{value}' is no number of MiB that can be written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_found_before_anything_is_done() {
        let bad = |mb, change: fn(&mut ProvingArgs)| {
            let mut args = ProvingArgs::default();
            change(&mut args);
            Proving::read(&args, mb).map(|_| ()).unwrap_err().to_string()
        };
        assert!(bad(Some(0), |_| {}).contains("bad MB"));
        assert!(bad(Some(u64::MAX), |_| {}).contains("bad MB"));
        assert!(bad(None, |a| a.up_to = Some(0)).contains("bad --up-to"));
        assert!(bad(None, |a| a.expect = Some(0)).contains("bad --expect"));
        assert!(bad(None, |a| a.step = Some("x".into())).contains("--step"));
        assert!(bad(None, |a| a.step = Some("max".into())).contains("--step"));
        assert!(bad(None, |a| a.strategy = vec!["x".into()]).contains("--strategy"));
    }

    #[test]
    fn without_a_name_the_usual_strategies_are_taken() {
        let args = ProvingArgs::default();
        assert_eq!(Proving::read(&args, None).unwrap().strategies, Strategy::DEFAULT);
        assert_eq!(strategies(&["random".into(), "all".into()]).unwrap(), Strategy::ALL);
        assert_eq!(strategies(&["shm".into(), "shm".into()]).unwrap(), [Strategy::Shm, Strategy::Shm]);
    }
}
