//! v1 blkio: weights (of BFQ where the plain file is gone, Linux 5.0) and throttling by device.

use std::path::Path;

use oci_spec::runtime::LinuxBlockIo;

use super::super::{Result, knob};

pub(super) fn write(dir: &Path, io: &LinuxBlockIo) -> Result<()> {
    write_weights(dir, io)?;
    for (name, devices) in [
        ("blkio.throttle.read_bps_device", io.throttle_read_bps_device()),
        ("blkio.throttle.write_bps_device", io.throttle_write_bps_device()),
        ("blkio.throttle.read_iops_device", io.throttle_read_iops_device()),
        ("blkio.throttle.write_iops_device", io.throttle_write_iops_device()),
    ] {
        for device in devices.iter().flatten() {
            let line = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            knob::write(dir, name, &line)?;
        }
    }
    Ok(())
}

fn write_weights(dir: &Path, io: &LinuxBlockIo) -> Result<()> {
    let weight = io.weight().filter(|weight| *weight != 0);
    let devices = io.weight_device().as_deref().unwrap_or_default();
    if weight.is_some() || !devices.is_empty() {
        let plain = dir.join("blkio.weight").exists();
        let prefix = if plain { "blkio" } else { "blkio.bfq" };
        if let Some(weight) = weight {
            knob::write(dir, &format!("{prefix}.weight"), &weight.to_string())?;
        }
        for device in devices {
            let number = format!("{}:{}", device.major(), device.minor());
            if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
                knob::write(dir, &format!("{prefix}.weight_device"), &format!("{number} {weight}"))?;
            }
            if let Some(weight) = device.leaf_weight().filter(|weight| *weight != 0) {
                knob::write(dir, "blkio.leaf_weight_device", &format!("{number} {weight}"))?;
            }
        }
    }
    match io.leaf_weight().filter(|weight| *weight != 0) {
        Some(weight) => knob::write(dir, "blkio.leaf_weight", &weight.to_string()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bfq_files_are_used_where_the_plain_ones_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let io: LinuxBlockIo = serde_json::from_str(
            r#"{"weight":333,"weightDevice":[{"major":7,"minor":1,"weight":444}],
                "throttleReadBpsDevice":[{"major":7,"minor":1,"rate":1024}]}"#,
        )
        .unwrap();
        for name in ["blkio.bfq.weight", "blkio.bfq.weight_device", "blkio.throttle.read_bps_device"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        write(dir.path(), &io).unwrap();
        let read = |name| knob::read(dir.path(), name).unwrap();
        assert_eq!(read("blkio.bfq.weight"), "333");
        assert_eq!(read("blkio.bfq.weight_device"), "7:1 444");
        assert_eq!(read("blkio.throttle.read_bps_device"), "7:1 1024");
    }
}
