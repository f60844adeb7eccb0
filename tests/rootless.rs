//! rt as an ordinary user: with cgroups that were delegated, and without.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use common::*;
use serde_json::json;

const MIB: i64 = 1 << 20;
/// Of nobody in particular, and of bundles/rootless.
const UID: u32 = 1000;

fn systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// A user's place: a folder of their own with rt in it.
struct User {
    sandbox: Sandbox,
    home: PathBuf,
}

impl User {
    fn new() -> Option<Self> {
        if !needs_root() || !needs_rt() {
            return None;
        }
        let sandbox = Sandbox::new();
        let home = sandbox.path("home");
        fs::create_dir(&home).expect("a folder");
        let binary = home.join("rt");
        fs::copy(Sandbox::binary(), &binary).expect("a copy of rt");
        fs::create_dir(home.join("run")).expect("a folder");
        chown_all(&home);
        if systemd() {
            Run::new("systemctl").args(["start", &format!("user@{UID}.service")]).ok();
        }
        Some(Self { sandbox, home })
    }

    /// A command as this user. `delegated`: where cgroups are the user's.
    fn run(&self, delegated: bool, args: &[&str]) -> Run {
        let uid = UID.to_string();
        let runtime =
            if systemd() { PathBuf::from(format!("/run/user/{UID}")) } else { self.home.join("run") };
        let join = if delegated { self.delegated() } else { String::new() };
        let script = format!("{join} exec setpriv --reuid {uid} --regid {uid} --clear-groups \"$@\"");
        let (key, value) = self.sandbox.mark().split_once('=').expect("a mark");
        Run::new("sh")
            .args(["-c", &script, "sh"])
            .args(args)
            .env(key, value)
            .env("HOME", self.home.to_str().expect("UTF-8"))
            .env("XDG_RUNTIME_DIR", &runtime)
            .cwd(&self.home)
    }

    fn rt(&self, delegated: bool, args: &[&str]) -> Run {
        self.run(delegated, &["./rt", "--root", "state"]).args(args)
    }

    /// Makes cgroups that belong to the user, and returns the shell's command that goes there.
    fn delegated(&self) -> String {
        let name = self.sandbox.id("user");
        let mut join = String::new();
        let mut give = |folder: &Path, leaf: &Path| {
            fs::create_dir_all(leaf).expect("a cgroup");
            chown_all(folder);
            join += &format!("echo $$ >{}/cgroup.procs &&", leaf.display());
        };
        let root = Path::new("/sys/fs/cgroup");
        if root.join("cgroup.controllers").exists() {
            let _ = fs::write(root.join("cgroup.subtree_control"), "+memory +pids +cpu");
            give(&root.join(&name), &root.join(&name).join("shell"));
        } else {
            for controller in ["memory", "pids", "cpu", "freezer"] {
                let folder = root.join(controller).join(&name);
                give(&folder, &folder);
            }
        }
        join
    }

    fn memory_limit(&self, id: &str) -> String {
        let state = self.rt(false, &["state", id]).ok().json();
        Cgroup::of(state["pid"].as_i64().expect("a pid"), "memory").expect("a cgroup").memory_limit()
    }
}

fn chown_all(folder: &Path) {
    chown(folder, Some(UID), Some(UID)).expect("a folder of the user");
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            chown_all(&entry.path());
        } else {
            chown(entry.path(), Some(UID), Some(UID)).expect("a file of the user");
        }
    }
}

#[test]
fn a_container_without_limits_needs_no_permission() {
    let Some(user) = User::new() else { return };
    let mut bundle = user.sandbox.bundle();
    chown_root(&bundle);
    without_root(&mut bundle);
    bundle.shell("id -u; echo hello");
    bundle.unset("/linux/resources").save();
    let id = user.sandbox.id("plain");
    let outcome = user.rt(false, &["run", "--bundle", bundle.path.to_str().unwrap(), &id]).ok();
    assert_eq!(outcome.stdout, "0\nhello\n");
    assert!(!outcome.stderr.contains("cgroup"), "{outcome}");
}

#[test]
fn without_a_cgroup_of_its_own_a_container_sees_none_of_the_host() {
    let Some(user) = User::new() else { return };
    let mut bundle = user.sandbox.bundle();
    chown_root(&bundle);
    without_root(&mut bundle);
    let mounts = bundle.config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| mount["destination"] != "/sys");
    mounts
        .push(json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"] }));
    mounts.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" }));
    bundle.set("/linux/namespaces/-", json!({ "type": "cgroup" }));
    bundle.shell("find /sys/fs/cgroup -name cgroup.procs; echo looked");
    bundle.unset("/linux/resources").save();
    let id = user.sandbox.id("masked");
    let seen = user.rt(false, &["run", "--bundle", bundle.path.to_str().unwrap(), &id]).ok();
    assert_eq!(seen.stdout, "looked\n");
}

fn without_root(bundle: &mut Bundle) {
    let map = json!([{ "containerID": 0, "hostID": UID, "size": 1 }]);
    bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    bundle.set("/linux/namespaces/-", json!({ "type": "user" }));
    for mount in bundle.config["mounts"].as_array_mut().expect("mounts") {
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| option != "gid=5");
        }
    }
}

fn chown_root(bundle: &Bundle) {
    chown(&bundle.path, Some(UID), Some(UID)).expect("a bundle of the user");
    chown(bundle.rootfs("/"), Some(UID), Some(UID)).expect("a root of the user");
}

#[test]
fn a_limit_that_cannot_be_enforced_is_refused_and_the_hint_gives_the_permission() {
    let Some(user) = User::new() else { return };
    let id = user.sandbox.id("denied");
    // One shell stays, tries, waits for what root does, and tries again.
    let script = "./rt --root state create $1 --ram=64 --cpu=50 >out 2>&1; echo $? >status; \
                  while [ ! -e go ]; do sleep 0.05; done; sh -e go >out2 2>&1; echo $? >status2; \
                  while [ -e go ]; do sleep 0.05; done";
    let mut shell = user.run(false, &["sh", "-c", script, "sh", &id]).spawn();
    let file = |name: &str| fs::read_to_string(user.home.join(name)).unwrap_or_default();
    wait_until("the first try", || !file("status").trim().is_empty());
    let out = file("out");
    assert_eq!(file("status").trim(), "1", "{out}");
    assert!(out.contains("limits of cpu, memory cannot be enforced: not delegated to user 1000"), "{out}");
    assert!(user.rt(false, &["list", "-q"]).ok().stdout.is_empty());
    let hint =
        out.lines().find_map(|line| line.strip_prefix("hint: ")).unwrap_or_else(|| panic!("no hint: {out}"));
    let again = match hint.strip_prefix("as root: ") {
        Some(commands) => {
            Run::new("sh").args(["-ec", commands]).ok();
            format!("./rt --root state create {id} --ram=64 --cpu=50")
        }
        None => hint.to_owned(),
    };
    fs::write(user.home.join("go"), again).unwrap();
    wait_until("the second try", || !file("status2").trim().is_empty());
    assert_eq!(file("status2").trim(), "0", "{hint}\n{}", file("out2"));
    assert_eq!(user.memory_limit(&id), (64 * MIB).to_string());
    user.rt(false, &["delete", "--force", &id]).ok();
    fs::remove_file(user.home.join("go")).unwrap();
    wait_until("the end of the shell", || !shell.is_running());
    left_by_hint();
    user.sandbox.assert_nothing_left(&id);
}

#[test]
fn a_namespaces_root_is_told_as_the_user_who_made_it() {
    let Some(user) = User::new() else { return };
    let id = user.sandbox.id("inner");
    // As podman without root calls it.
    let podman = ["unshare", "--user", "--map-root-user", "--mount", "./rt", "--root", "state"];
    let outcome = user.run(false, &podman).args(["create", &id, "--ram=64"]).run();
    outcome.fails_with("limits of memory cannot be enforced: not delegated to user 1000");
}

/// What the commands of the hint made for root.
fn left_by_hint() {
    let root = Path::new("/sys/fs/cgroup");
    let mut folders = vec![root.to_owned()];
    folders.extend(fs::read_dir(root).expect("cgroups").flatten().map(|entry| entry.path()));
    for folder in folders {
        let folder = folder.join(format!("user-{UID}"));
        let _ = fs::remove_dir(folder.join("shell"));
        let _ = fs::remove_dir(folder);
    }
}

#[test]
fn what_is_not_enforced_is_said_when_that_is_accepted() {
    let Some(user) = User::new() else { return };
    let id = user.sandbox.id("ignored");
    let args = ["create", "--rootless-cgroup=ignore", "--ram=64", &id];
    let outcome = user.rt(false, &args).ok();
    let words = "limits of memory cannot be enforced: not delegated to user 1000";
    assert!(outcome.stderr.contains(words) && outcome.stderr.contains("warning"), "{outcome}");
    user.rt(false, &["start", &id]).ok();
    // The prover says it again.
    let proof = user.rt(false, &["test-memory", &id]).run().fails_with("limit-not-applied");
    assert_eq!(proof.code, 1, "{proof}");
    user.rt(false, &["delete", "--force", &id]).ok();
    user.rt(false, &["create", "--rootless-cgroup=maybe", "--ram=64", &id])
        .run()
        .fails_with("invalid value 'maybe'");
}

#[test]
fn delegated_limits_are_enforced_and_proved_without_root() {
    let Some(user) = User::new() else { return };
    let id = user.sandbox.id("delegated");
    user.rt(true, &["create", &id, "--ram=64", "--cpu=50"]).ok();
    assert_eq!(user.memory_limit(&id), (64 * MIB).to_string());
    user.rt(true, &["start", &id]).ok();
    let args = ["test-memory", &id, "--strategy", "sequential", "--format", "json"];
    let proof = user.rt(true, &args).ok().json();
    assert_eq!(
        (&proof["verdict"], &proof["cgroup"]["limit_bytes"]),
        (&json!("enforced"), &json!(64 * MIB)),
        "{proof}"
    );
    // The hooks of podman without root are root of the user's namespace.
    let inner = ["unshare", "--user", "--map-root-user", "./rt", "--root", "state"];
    let proof = user.run(true, &inner).args(args).ok().json();
    assert_eq!(proof["verdict"], json!("enforced"), "{proof}");
    user.rt(true, &["update", "--memory", &(48 * MIB).to_string(), &id]).ok();
    assert_eq!(user.memory_limit(&id), (48 * MIB).to_string());
    user.rt(true, &["pause", &id]).ok();
    user.rt(true, &["resume", &id]).ok();
    user.rt(true, &["delete", "--force", &id]).ok();
    user.sandbox.assert_nothing_left(&id);
}

#[test]
fn a_process_that_may_not_join_the_cgroup_is_told_of_and_counted_nowhere() {
    let Some(user) = User::new() else { return };
    let id = user.sandbox.id("outside");
    user.rt(true, &["create", &id, "--ram=64"]).ok();
    user.rt(true, &["start", &id]).ok();
    let json = |command: &[&str]| user.rt(false, command).arg(&id).ok().json();
    let init = json(&["state"])["pid"].as_i64().expect("a pid");
    let own = Cgroup::of(init, "memory").expect("a cgroup").path;
    // As on v2 for one who comes from outside of what is delegated.
    for folder in fs::read_to_string(format!("/proc/{init}/cgroup")).expect("cgroups").lines() {
        let controller = folder.split([':', ',']).nth(1).expect("a controller");
        let Some(cgroup) = Cgroup::of(init, controller) else { continue };
        for file in ["cgroup.procs", "tasks"].map(|name| cgroup.path.join(name)) {
            assert!(!file.exists() || chown(&file, Some(0), Some(0)).is_ok());
        }
    }
    let before = json(&["state"]);
    let exec = ["exec", "--detach", "--pid-file", "pid", &id, "/rt", "__init"];
    let warned = user.rt(false, &exec).ok();
    let pid: i64 = fs::read_to_string(user.home.join("pid")).unwrap().trim().parse().unwrap();
    assert!(
        warned.stderr.contains(&format!("the container's limits do not hold for process {pid}")),
        "{warned}"
    );
    assert_ne!(Cgroup::of(pid, "memory").expect("a cgroup").path, own);
    assert_eq!(json(&["ps", "--format", "json"]), json!([init]));
    assert_eq!(json(&["state"]), before);
    user.rt(true, &["delete", "--force", &id]).ok();
    wait_until("its end, with the pid namespace", || Cgroup::of(pid, "memory").is_none());
    user.sandbox.assert_nothing_left(&id);
}

#[test]
fn the_rootless_bundle_runs_where_its_limits_are_delegated() {
    let Some(user) = User::new() else { return };
    let bundle = user.home.join("bundle");
    fs::create_dir_all(bundle.join("rootfs")).unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("bundles/rootless/config.json");
    fs::copy(config, bundle.join("config.json")).unwrap();
    // As bundles/README.md says.
    fs::copy(Sandbox::binary(), bundle.join("rootfs/rt")).unwrap();
    fs::set_permissions(bundle.join("rootfs/rt"), PermissionsExt::from_mode(0o755)).unwrap();
    chown_all(&bundle);
    let id = user.sandbox.id("bundle");
    let create = |delegated| user.rt(delegated, &["create", "--bundle", "bundle", &id]);
    create(false).run().fails_with("limits of memory, pids cannot be enforced");
    create(true).ok();
    assert_eq!(user.memory_limit(&id), (128 * MIB).to_string());
    user.rt(true, &["start", &id]).ok();
    user.rt(true, &["exec", &id, "/rt", "--version"]).ok();
    user.rt(true, &["kill", &id, "TERM"]).ok();
    wait_until("the end", || user.rt(true, &["state", &id]).ok().json()["status"] == "stopped");
    user.rt(true, &["delete", &id]).ok();
    user.sandbox.assert_nothing_left(&id);
}

#[test]
fn the_users_own_systemd_enforces_limits() {
    let Some(user) = User::new() else { return };
    if !systemd() || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return skip("systemd on cgroup v2");
    }
    let id = user.sandbox.id("unit");
    user.rt(false, &["--systemd-cgroup", "create", &id, "--ram=64", "--cpu=25"]).ok();
    assert_eq!(user.memory_limit(&id), (64 * MIB).to_string());
    let show = user.run(false, &["systemctl", "--user", "show", "--value", "--property", "MemoryMax"]);
    assert_eq!(show.arg(format!("rt-{id}.scope")).ok().stdout.trim(), (64 * MIB).to_string());
    user.rt(false, &["start", &id]).ok();
    let args = ["test-memory", &id, "--strategy", "sequential", "--format", "json"];
    assert_eq!(user.rt(false, &args).ok().json()["verdict"], "enforced");
    user.rt(false, &["update", "--memory", &(48 * MIB).to_string(), &id]).ok();
    assert_eq!(user.memory_limit(&id), (48 * MIB).to_string());
    // A process from outside of what is the user's.
    let inside = user.rt(false, &["exec", "--detach", "--pid-file", "pid", &id, "/rt", "__init"]);
    inside.ok();
    let pid = fs::read_to_string(user.home.join("pid")).unwrap().trim().parse().unwrap();
    assert_eq!(Cgroup::of(pid, "memory").unwrap().memory_limit(), (48 * MIB).to_string());
    // A controller that systemd does not delegate by default.
    let mut bundle = user.sandbox.bundle();
    chown_root(&bundle);
    without_root(&mut bundle);
    bundle.set("/linux/resources", json!({ "blockIO": { "weight": 100 } })).save();
    let path = bundle.path.to_str().unwrap();
    let other = user.sandbox.id("io");
    let outcome = user
        .rt(false, &["--systemd-cgroup", "run", "--bundle", path, &other])
        .run()
        .fails_with("limits of io");
    assert!(
        outcome.stderr.contains("delegate.conf") && outcome.stderr.contains("Delegate=cpu io memory pids"),
        "{outcome}"
    );
    user.rt(false, &["delete", "--force", &id]).ok();
    user.sandbox.assert_nothing_left(&id);
}
