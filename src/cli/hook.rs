//! Arguments of `hook`.

use clap::Args;

use crate::hook::{Kind, OnInconclusive, Policy};

/// Arguments of `hook`. What is not given here comes from the container's annotations.
#[derive(Debug, Clone, Args)]
pub struct HookArgs {
    /// what is made: test-memory or stress-memory
    pub proof: Kind,
    /// what a bad verdict means: record, or enforce (the container does not start; default: record)
    #[arg(long, value_name = "POLICY")]
    pub policy: Option<Policy>,
    /// what enforce makes of a proof that was refused or inconclusive: fail or record (default: fail)
    #[arg(long, value_name = "WHAT")]
    pub on_inconclusive: Option<OnInconclusive>,
    /// how much to ask for, in MiB (default: enough to cross the limit)
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..))]
    pub mb: Option<u64>,
    /// how long a proof may take, or a stress takes (default: 5, or 0.8 of the hook's own timeout if that is less)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// how memory is used: all, or some of sequential, pattern, random, file, shm, mlock, fork (default: sequential; a stress adds pattern and random)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub strategy: Vec<String>,
}
