//! From a container's name to what the prover and the monitor need of it.

use oci_spec::runtime::LinuxResources;

use crate::cli::Global;
use crate::proof::{Asked, Subject};

/// The container as a subject, and the limit that was asked for it (the config saved at create, and later updates).
pub fn of_container(_global: &Global, id: &str) -> anyhow::Result<(Subject, Asked)> {
    anyhow::bail!("container '{id}' cannot be loaded")
}

/// The memory limit in a container's resources: the spec's absent, 0 and −1 all mean none.
pub fn asked(resources: Option<&LinuxResources>) -> Asked {
    let limit = resources.and_then(|resources| *resources.memory()).and_then(|memory| memory.limit());
    match limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0) {
        Some(bytes) => Asked::Limited(bytes),
        None => Asked::Unlimited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_limit_is_the_specs() {
        let of = |json: &str| asked(Some(&serde_json::from_str(json).unwrap()));
        assert_eq!(of(r#"{"memory":{"limit":67108864}}"#), Asked::Limited(64 << 20));
        assert_eq!(of(r#"{"memory":{"limit":-1}}"#), Asked::Unlimited);
        assert_eq!(of(r#"{"memory":{"limit":0}}"#), Asked::Unlimited);
        assert_eq!(of("{}"), Asked::Unlimited);
        assert_eq!(asked(None), Asked::Unlimited);
    }
}
