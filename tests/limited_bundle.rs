//! The bundle `bundles/limited-128m` of this repository runs with its limit.

mod common;

use std::fs;
use std::path::Path;

use common::*;

#[test]
fn the_limited_bundle_runs_within_its_limit() {
    if !needs_root() || !needs_rt() {
        return;
    }
    let sandbox = Sandbox::new();
    let bundle = sandbox.path("limited");
    fs::create_dir_all(bundle.join("rootfs")).expect("a bundle");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/limited-128m/config.json");
    fs::copy(config, bundle.join("config.json")).expect("the config of the repository");
    // As bundles/README.md says.
    fs::copy(Sandbox::binary(), bundle.join("rootfs/rt")).expect("rt as the init");
    let id = sandbox.id("limited");
    sandbox.rt(["create", "--bundle", &bundle.display().to_string(), &id]).ok();
    assert_eq!(sandbox.cgroup(&id, "memory").memory_limit(), (128 << 20).to_string());
    sandbox.rt(["start", &id]).ok();
    assert_eq!(sandbox.status(&id), "running");
    sandbox.rt(["kill", &id, "TERM"]).ok();
    sandbox.wait_for_status(&id, "stopped");
    sandbox.rt(["delete", &id]).ok();
    sandbox.assert_nothing_left(&id);
}
