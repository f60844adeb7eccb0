//! v2 io: weights, of BFQ where it is there. Throttling goes through the crate.

use std::path::Path;

use oci_spec::runtime::LinuxBlockIo;

use super::super::{Result, knob};

const BFQ: &str = "io.bfq.weight";

/// The part that the crate writes: rates by device.
pub(super) fn throttling(io: &LinuxBlockIo) -> Option<LinuxBlockIo> {
    let mut throttling = io.clone();
    throttling.set_weight(None).set_leaf_weight(None).set_weight_device(None);
    (!super::is_empty(&throttling)).then_some(throttling)
}

pub(super) fn write_weights(dir: &Path, io: &LinuxBlockIo) -> Result<()> {
    if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
        if dir.join(BFQ).exists() {
            knob::write(dir, BFQ, &weight.to_string())?;
        } else {
            knob::write(dir, "io.weight", &convert_weight(weight).to_string())?;
        }
    }
    // Weights by device exist only in BFQ (Linux 5.4): without it the missing file is the error.
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            knob::write(dir, BFQ, &format!("{}:{} {weight}", device.major(), device.minor()))?;
        }
    }
    Ok(())
}

/// Linearly from the spec's 10–1000 to io.weight's 1–10000, as runc does.
fn convert_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_converted_as_in_runc() {
        assert_eq!(convert_weight(10), 1);
        assert_eq!(convert_weight(750), 7475);
        assert_eq!(convert_weight(1000), 10000);
    }

    #[test]
    fn bfq_takes_the_weight_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(BFQ), "").unwrap();
        let io: LinuxBlockIo = serde_json::from_str(r#"{"weight": 750}"#).unwrap();
        write_weights(dir.path(), &io).unwrap();
        assert_eq!(knob::read(dir.path(), BFQ).unwrap(), "750");
    }
}
