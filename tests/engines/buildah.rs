//! buildah: a container from scratch, filled and run.

use crate::common::{Run, Sandbox, needs_engine, needs_root};
use crate::engine::{ENGINE_PATIENCE, Engine};

#[test]
fn buildah_runs_commands_in_a_container_from_scratch() {
    if !needs_root() || !needs_engine("buildah") {
        return;
    }
    let engine = Engine::new();
    let (root, run) = (engine.text("buildah-root"), engine.text("buildah-run"));
    let conf = engine.file("containers.conf", "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\ncgroup_manager = \"cgroupfs\"\n");
    let (key, value) = engine.sandbox.mark().split_once('=').expect("a mark");
    let buildah = |args: &[&str]| {
        Run::new("buildah")
            .args(["--storage-driver", "vfs", "--root", &root, "--runroot", &run])
            .args(args)
            .env("CONTAINERS_CONF", &conf)
            .env(key, value)
            .time_limit(ENGINE_PATIENCE)
    };
    let name = buildah(&["from", "scratch"]).ok().stdout.trim().to_owned();
    buildah(&["add", &name, &engine.root_archive().display().to_string(), "/"]).ok();
    let runtime = Sandbox::binary().display().to_string();
    let isolated = ["run", "--runtime", &runtime, "--isolation", "oci", "--network", "none"];
    let outcome =
        buildah(&isolated).args([&name, "--", "/bin/sh", "-c", "echo from buildah > /file; cat /file"]).ok();
    assert_eq!(outcome.stdout, "from buildah\n");
    let outcome = buildah(&isolated).args([&name, "--", "/bin/sh", "-c", "exit 9"]).run();
    assert_eq!(outcome.code, 9, "{outcome}");
    buildah(&["rm", &name]).ok();
}
