//! The bundle of a container made from nothing: an embedded config.json, and a root file system that holds nothing
//! but rt's own binary as init. And what `--ram` and `--cpu` change in any bundle's config.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};
use oci_spec::runtime::{LinuxBuilder, LinuxCpuBuilder, LinuxMemoryBuilder, LinuxResourcesBuilder, Spec};
use serde_json::{Value, json};

use crate::units::{CPU_PERIOD_US, CpuShare, Ram};

/// bundles/default/config.json.
pub const CONFIG: &str = include_str!("../../bundles/default/config.json");

/// Where rt's binary is inside the container.
pub const INIT: &str = "/rt";

/// The folder made under a container's state folder.
pub const FOLDER: &str = "bundle";

/// Folders of the root file system that things are mounted on; the root itself is read-only.
const MOUNT_POINTS: [&str; 3] = ["dev", "proc", "sys"];

/// Why a default bundle could not be made, or limits not be set.
#[derive(Debug, thiserror::Error)]
pub enum DefaultBundleError {
    #[error("cannot make the default bundle's '{}'", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the embedded config.json is not what it should be")]
    Config(#[from] serde_json::Error),
    #[error("cannot set the limits in the container's config")]
    Spec(#[from] oci_spec::OciSpecError),
}

/// Writes a bundle for container `id` into a new folder of `dir` (its state folder) and says where. `binary` is rt as
/// the host sees it at create time. Fails where the folder is there already; the caller removes `dir` on failure.
pub fn materialize(dir: &Path, id: &str, binary: &Path) -> Result<PathBuf, DefaultBundleError> {
    let bundle = dir.join(FOLDER);
    let rootfs = bundle.join("rootfs");
    for folder in [bundle.clone(), rootfs.clone()].into_iter().chain(MOUNT_POINTS.map(|p| rootfs.join(p))) {
        // Only the rootfs and what is in it are the container's to see.
        let mode = if folder == bundle { 0o700 } else { 0o755 };
        fs::DirBuilder::new()
            .mode(mode)
            .create(&folder)
            .map_err(|source| DefaultBundleError::Write { path: folder, source })?;
    }
    write_new(&rootfs.join(INIT.trim_start_matches('/')), 0o755, &[])?;
    let mut config = serde_json::to_vec(&config_for(id, binary, Uid::effective(), Gid::effective())?)?;
    config.push(b'\n');
    write_new(&bundle.join("config.json"), 0o600, &config)?;
    Ok(bundle)
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), DefaultBundleError> {
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(mode).open(path);
    opened
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|source| DefaultBundleError::Write { path: path.to_owned(), source })
}

/// The embedded config with this container's name and binary; for a user without root in a user namespace.
fn config_for(id: &str, binary: &Path, uid: Uid, gid: Gid) -> Result<Value, serde_json::Error> {
    let mut config: Value = serde_json::from_str(CONFIG)?;
    config["hostname"] = json!(hostname(id));
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == INIT {
            mount["source"] = json!(binary);
        }
    }
    if !uid.is_root() {
        let linux = &mut config["linux"];
        if let Some(namespaces) = linux["namespaces"].as_array_mut() {
            namespaces.push(json!({"type": "user"}));
        }
        let map = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 1}]);
        linux["uidMappings"] = map(uid.as_raw());
        linux["gidMappings"] = map(gid.as_raw());
        // One group is mapped, so no other can own a terminal; device rules need root.
        linux["resources"] = json!({});
        for mount in config["mounts"].as_array_mut().into_iter().flatten() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
    }
    Ok(config)
}

/// The id as a host name: at most 63 of the characters a host name may have.
fn hostname(id: &str) -> String {
    let name: String =
        id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).take(63).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "rt".to_owned() } else { name.to_owned() }
}

/// Sets the limits of `--ram` and `--cpu` in a config, whichever bundle it is from.
pub fn apply_overrides(
    spec: &mut Spec,
    ram: Option<Ram>,
    cpu: Option<CpuShare>,
) -> Result<(), DefaultBundleError> {
    if ram.is_none() && cpu.is_none() {
        return Ok(());
    }
    let mut linux = match spec.linux().clone() {
        Some(linux) => linux,
        None => LinuxBuilder::default().build()?,
    };
    let mut resources = match linux.resources().clone() {
        Some(resources) => resources,
        None => LinuxResourcesBuilder::default().build()?,
    };
    if let Some(ram) = ram {
        let mut memory = match resources.memory() {
            Some(memory) => *memory,
            None => LinuxMemoryBuilder::default().build()?,
        };
        let limit = ram.as_spec_limit();
        memory.set_swap(swap_beside(limit, memory.limit(), memory.swap())).set_limit(Some(limit));
        resources.set_memory(Some(memory));
    }
    if let Some(share) = cpu {
        let mut cpu = match resources.cpu().clone() {
            Some(cpu) => cpu,
            None => LinuxCpuBuilder::default().build()?,
        };
        cpu.set_quota(Some(share.as_spec_quota()));
        cpu.set_period(Some(CPU_PERIOD_US));
        // A burst allowance belongs to the quota that was replaced.
        cpu.set_burst(None);
        resources.set_cpu(Some(cpu));
    }
    linux.set_resources(Some(resources));
    spec.set_linux(Some(linux));
    Ok(())
}

/// Memory and swap together, where `limit` takes the place of a bundle's own: the swap beside the old limit is kept, so that
/// a bundle without swap stays without it.
fn swap_beside(limit: i64, old: Option<i64>, swap: Option<i64>) -> Option<i64> {
    let Some(total) = swap.filter(|swap| *swap > 0) else { return swap };
    Some(match old.filter(|old| *old > 0) {
        _ if limit < 0 => limit,
        Some(old) => limit.saturating_add((total - old).max(0)),
        None => total.max(limit),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    fn spec() -> Spec {
        serde_json::from_str(CONFIG).unwrap()
    }

    #[test]
    fn the_bundles_are_valid_and_give_nothing_away() {
        let limited = include_str!("../../bundles/limited-128m/config.json");
        for text in [CONFIG, limited] {
            let spec: Spec = serde_json::from_str(text).unwrap();
            let process = spec.process().as_ref().unwrap();
            let capabilities = process.capabilities().as_ref().unwrap();
            assert!(capabilities.bounding().as_ref().is_none_or(|set| set.is_empty()));
            assert_eq!(process.no_new_privileges(), Some(true));
            assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
            assert_eq!(spec.linux().as_ref().unwrap().namespaces().as_ref().unwrap().len(), 6);
            assert!(!spec.linux().as_ref().unwrap().masked_paths().as_ref().unwrap().is_empty());
        }
        let spec: Spec = serde_json::from_str(limited).unwrap();
        let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
        assert_eq!(resources.memory().unwrap().limit(), Some(128 << 20));
    }

    #[test]
    fn a_bundle_is_written_once_with_its_own_names() {
        let tmp = tempfile::tempdir().unwrap();
        let bundle = materialize(tmp.path(), "my_box", Path::new("/opt/rt")).unwrap();
        let spec = Spec::load(bundle.join("config.json")).unwrap();
        assert_eq!(spec.hostname().as_deref(), Some("my-box"));
        let mount =
            spec.mounts().as_ref().unwrap().iter().find(|m| m.destination() == Path::new(INIT)).unwrap();
        assert_eq!(mount.source().as_deref(), Some(Path::new("/opt/rt")));
        assert!(mount.options().as_ref().unwrap().contains(&"ro".to_owned()));
        for name in ["rt", "dev", "proc", "sys"] {
            assert!(bundle.join("rootfs").join(name).exists(), "{name}");
        }
        assert!(materialize(tmp.path(), "my_box", Path::new("/opt/rt")).is_err());
    }

    #[test]
    fn without_root_the_container_gets_a_user_namespace() {
        let config = config_for("x", Path::new("/opt/rt"), Uid::from_raw(1000), Gid::from_raw(100)).unwrap();
        let text = config.to_string();
        assert!(
            text.contains(r#"{"containerID":0,"hostID":1000,"size":1}"#) && !text.contains("gid=5"),
            "{text}"
        );
        serde_json::from_value::<Spec>(config).unwrap();
    }

    #[test]
    fn overrides_replace_the_limits_of_a_bundle() {
        let mut changed = spec();
        let cpu = "25".parse().unwrap();
        apply_overrides(&mut changed, Some(Ram::Limited(128 * MIB)), Some(cpu)).unwrap();
        let resources = changed.linux().as_ref().unwrap().resources().clone().unwrap();
        assert_eq!(resources.memory().unwrap().limit(), Some(128 << 20));
        assert_eq!(resources.cpu().as_ref().unwrap().quota(), Some(25_000));
        assert_eq!(resources.cpu().as_ref().unwrap().period(), Some(100_000));
        assert!(resources.devices().is_some(), "the rest of the bundle stays");
        let mut same = spec();
        apply_overrides(&mut same, None, None).unwrap();
        assert_eq!(same, spec());
    }

    #[test]
    fn the_swap_beside_the_limit_is_kept() {
        let overridden = |ram, memory: &str| {
            let mut spec = spec();
            let mut linux = spec.linux().clone().unwrap();
            let mut resources = linux.resources().clone().unwrap();
            resources.set_memory(serde_json::from_str(memory).unwrap());
            linux.set_resources(Some(resources));
            spec.set_linux(Some(linux));
            apply_overrides(&mut spec, Some(ram), None).unwrap();
            let memory = spec.linux().as_ref().unwrap().resources().as_ref().unwrap().memory().unwrap();
            (memory.limit().unwrap(), memory.swap())
        };
        let mib = |n| Ram::Limited(n * MIB);
        for (ram, memory, expected) in [
            // No swap stays no swap.
            (32, "64 64", (32, Some(32))),
            (128, "64 64", (128, Some(128))),
            (32, "64 96", (32, Some(64))),
            (128, "64 96", (128, Some(160))),
            (32, "64 -1", (32, Some(-1))),
            (32, "64 0", (32, Some(0))),
            // Without a limit of memory beside it: raised where the kernel would refuse it.
            (32, "0 96", (32, Some(96))),
            (128, "-1 96", (128, Some(128))),
        ] {
            let bytes = |word: &str| word.parse::<i64>().map(|n| if n > 0 { n << 20 } else { n }).unwrap();
            let (limit, swap) = memory.split_once(' ').unwrap();
            let text = format!(r#"{{"limit": {}, "swap": {}}}"#, bytes(limit), bytes(swap));
            let scale = |n: i64| if n > 0 { n << 20 } else { n };
            let expected = (scale(expected.0), expected.1.map(scale));
            assert_eq!(overridden(mib(ram), &text), expected, "{ram} over {memory}");
        }
        assert_eq!(overridden(mib(32), r#"{"limit": 67108864}"#), (32 << 20, None));
        assert_eq!(overridden(Ram::Unlimited, r#"{"limit": 67108864, "swap": 67108864}"#), (-1, Some(-1)));
    }

    #[test]
    fn host_names_are_made_of_any_id() {
        assert_eq!(hostname("a_b+c"), "a-b-c");
        assert_eq!(hostname("---"), "rt");
        assert_eq!(hostname(&"x".repeat(100)).len(), 63);
    }
}
