//! Tests on the host's real cgroups. They need root and skip without it (or without the layout they are about).

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use super::lab::fixture;
use super::{Cgroup, Entered, Hierarchy, OomEvent, SubCgroups, Version};
use crate::sys::process::pidfd_open;

/// A cgroup with processes in it; all of it goes away at the end.
struct Lab {
    cgroup: Cgroup,
    children: Vec<Child>,
    /// On cgroup2: the controllers that were enabled below the mount point.
    enabled: Option<String>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
        }
        let _ = self.cgroup.thaw();
        for child in &mut self.children {
            let _ = child.wait();
        }
        if let Err(error) = self.cgroup.delete() {
            eprintln!("left behind: {error}");
        }
        let Some(before) = &self.enabled else { return };
        let mount = self.cgroup.hierarchies[0].mount.join("cgroup.subtree_control");
        for controller in fs::read_to_string(&mount).unwrap_or_default().split_whitespace() {
            if !before.split_whitespace().any(|known| known == controller) {
                let _ = fs::write(&mount, format!("-{controller}"));
            }
        }
    }
}

impl Lab {
    /// A unique path on a v1 or hybrid host.
    fn v1(name: &str) -> Option<Self> {
        let cgroup = Self::plan(name)?;
        if cgroup.version() == Version::V2 {
            eprintln!("SKIP: needs cgroup v1");
            return None;
        }
        Some(Self { cgroup, children: Vec::new(), enabled: None })
    }

    fn plan(name: &str) -> Option<Cgroup> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIP: needs root");
            return None;
        }
        let path = format!("/rt-test-{}-{name}", std::process::id());
        Some(Cgroup::plan(Some(Path::new(&path)), "unused", false, false).unwrap())
    }

    /// The same on cgroup2: the whole of a v2 host, or the cgroup2 part of a hybrid one (without controllers).
    fn v2(name: &str) -> Option<Self> {
        let planned = Self::plan(name)?;
        let Some(dir) = planned.path_of("").map(Path::to_path_buf) else {
            eprintln!("SKIP: needs cgroup2");
            return None;
        };
        let mount = dir.parent().unwrap().to_path_buf();
        let enabled = Some(fs::read_to_string(mount.join("cgroup.subtree_control")).unwrap());
        let hierarchy = Hierarchy { controllers: Vec::new(), mount, dir };
        Some(Self { cgroup: fixture(Version::V2, vec![hierarchy]), children: Vec::new(), enabled })
    }

    fn create(&mut self, resources: &str) -> super::Result<()> {
        let resources: LinuxResources = serde_json::from_str(resources).unwrap();
        self.cgroup.create(Some(&resources), &BTreeMap::new())
    }

    fn run(&mut self, command: &mut Command) -> Pid {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        self.children.push(child);
        self.cgroup.join(pid, Entered::default()).unwrap().verify(pid).unwrap();
        pid
    }

    fn sleeper(&mut self) -> Pid {
        self.run(Command::new("sleep").arg("60"))
    }

    fn wait(&mut self) {
        for child in &mut self.children {
            child.wait().unwrap();
        }
    }

    fn dir(&self, controller: &str) -> PathBuf {
        self.cgroup.path_of(controller).unwrap().to_path_buf()
    }

    fn read(&self, controller: &str, name: &str) -> String {
        fs::read_to_string(self.dir(controller).join(name)).unwrap().trim_end().to_owned()
    }
}

#[test]
fn v1_limits_are_in_force_before_and_after_joining() {
    let Some(mut lab) = Lab::v1("limits") else { return };
    lab.create(
        r#"{"memory":{"limit":33554432,"swap":67108864,"reservation":25165824,"kernel":0,"swappiness":10},
            "cpu":{"shares":100,"quota":500000,"period":1000000,"cpus":"0"},"pids":{"limit":20},
            "devices":[{"allow":false,"access":"rwm"}]}"#,
    )
    .unwrap();
    assert_eq!(lab.read("memory", "memory.limit_in_bytes"), "33554432");
    assert_eq!(lab.read("memory", "memory.memsw.limit_in_bytes"), "67108864");
    assert_eq!(lab.read("memory", "memory.soft_limit_in_bytes"), "25165824");
    assert_eq!(lab.read("cpu", "cpu.cfs_quota_us"), "500000");
    assert_eq!(lab.read("cpuset", "cpuset.cpus"), "0");
    assert!(!lab.read("cpuset", "cpuset.mems").is_empty());
    assert_eq!(lab.read("pids", "pids.max"), "20");
    let devices = lab.read("devices", "devices.list");
    assert!(devices.contains("c 1:3 rwm") && !devices.contains("a *:*") && !devices.contains("c 5:1"));

    let pid = lab.sleeper();
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let elsewhere: Vec<_> = membership.lines().filter(|line| !line.contains("rt-test-")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    assert_eq!(lab.cgroup.pids(true).unwrap(), [pid]);
    let stats = lab.cgroup.stats().unwrap();
    assert_eq!((stats.memory.usage.limit, stats.pids.current, stats.pids.limit), (33_554_432, 1, 20));
    assert_eq!(stats.cpuset.cpus, [0]);
}

#[test]
fn v1_update_changes_only_what_is_given() {
    let Some(mut lab) = Lab::v1("update") else { return };
    lab.create(r#"{"memory":{"limit":33554432,"swap":67108864},"cpu":{"shares":100},"pids":{"limit":20}}"#)
        .unwrap();
    lab.sleeper();
    let list = lab.read("devices", "devices.list");
    lab.cgroup.freeze().unwrap();
    let update = |lab: &Lab, json: &str| {
        let change = serde_json::from_str(json).unwrap();
        lab.cgroup.update(&lab.cgroup.plan_update(&change, &LinuxResources::default())?)
    };
    // Beyond the old swap limit, and back below it.
    update(&lab, r#"{"memory":{"limit":100663296,"swap":134217728,"reservation":0,"kernel":0}}"#).unwrap();
    assert_eq!(lab.read("memory", "memory.memsw.limit_in_bytes"), "134217728");
    update(&lab, r#"{"memory":{"limit":33554432,"swap":33554432},"cpu":{"shares":0,"quota":0}}"#).unwrap();
    assert_eq!(lab.read("memory", "memory.limit_in_bytes"), "33554432");
    assert_eq!(lab.read("cpu", "cpu.shares"), "100");
    update(&lab, r#"{"memory":{"limit":-1}}"#).unwrap();
    assert_eq!(lab.read("memory", "memory.memsw.limit_in_bytes"), "9223372036854771712");
    assert!(lab.cgroup.is_frozen().unwrap());
    assert_eq!(lab.read("devices", "devices.list"), list);
    let error = update(&lab, r#"{"unified":{"memory.min":"1"}}"#).unwrap_err();
    assert!(error.to_string().starts_with("invalid configuration: "));
}

#[test]
fn v1_limits_are_set_back_in_the_order_that_the_kernel_takes() {
    let Some(mut lab) = Lab::v1("back") else { return };
    lab.create(r#"{"memory":{"limit":33554432,"swap":67108864},"cpu":{"shares":100}}"#).unwrap();
    lab.sleeper();
    let asked = LinuxResources::default();
    let said = |lab: &Lab| {
        ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.oom_control", "memory.swappiness"]
            .map(|name| lab.read("memory", name))
            .into_iter()
            .chain(["cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"].map(|name| lab.read("cpu", name)))
            .chain([lab.read("pids", "pids.max"), lab.read("cpuset", "cpuset.cpus")])
            .collect::<Vec<_>>()
    };
    let before = said(&lab);
    for change in [
        r#"{"memory":{"limit":134217728,"swap":134217728,"disableOOMKiller":true,"swappiness":3},"cpu":{"shares":7}}"#,
        r#"{"memory":{"limit":16777216,"swap":16777216},"cpu":{"quota":9000,"period":20000},"pids":{"limit":9}}"#,
        r#"{"memory":{"limit":-1},"cpu":{"cpus":"0"}}"#,
    ] {
        let planned = lab.cgroup.plan_update(&serde_json::from_str(change).unwrap(), &asked).unwrap();
        let files = lab.cgroup.before(&planned);
        lab.cgroup.update(&planned).unwrap();
        lab.cgroup.set_back(&files, &asked).unwrap();
        assert_eq!(said(&lab), before, "{change}");
    }
}

#[test]
fn a_refused_limit_leaves_no_directory_behind() {
    let Some(mut lab) = Lab::v1("refused") else { return };
    assert!(lab.create(r#"{"cpu":{"period":100}}"#).is_err());
    assert!(!lab.cgroup.exists().unwrap());
    assert!(!lab.dir("memory").exists() && !lab.dir("cpuset").exists());
    // Nothing made at all is fine to delete, too.
    lab.cgroup.delete().unwrap();
}

#[test]
fn somebody_elses_cgroup_is_refused() {
    let Some(mut lab) = Lab::v1("foreign") else { return };
    lab.create("{}").unwrap();
    let mut second = lab.cgroup.clone();
    second.create(None, &BTreeMap::new()).unwrap();
    assert!(second.was_preexisting() && !lab.cgroup.was_preexisting());
    lab.sleeper();
    let error = second.create(None, &BTreeMap::new()).unwrap_err();
    assert_eq!(error.to_string(), "container's cgroup is not empty: 1 process(es) found");
    lab.cgroup.signal_all(libc::SIGKILL).unwrap();
    lab.wait();
    lab.cgroup.freeze().unwrap();
    let error = second.create(None, &BTreeMap::new()).unwrap_err();
    assert_eq!(error.to_string(), "container's cgroup unexpectedly frozen");
}

#[test]
fn frozen_processes_die_by_signal_all_and_the_cgroup_goes() {
    for lab in [Lab::v1("kill1"), Lab::v2("kill2")] {
        let Some(mut lab) = lab else { continue };
        lab.create("{}").unwrap();
        lab.sleeper();
        lab.sleeper();
        lab.cgroup.freeze().unwrap();
        assert!(lab.cgroup.is_frozen().unwrap());
        lab.cgroup.signal_all(libc::SIGKILL).unwrap();
        for child in &mut lab.children {
            let end = child.wait().unwrap();
            assert_eq!(end.signal(), Some(libc::SIGKILL));
        }
        lab.cgroup.thaw().unwrap();
        assert!(!lab.cgroup.is_frozen().unwrap());
        lab.cgroup.delete().unwrap();
        assert!(!lab.cgroup.exists().unwrap());
        assert!(lab.cgroup.pids(true).unwrap_err().is_gone());
        assert!(!lab.cgroup.is_frozen().unwrap());
    }
}

#[test]
fn a_handled_signal_reaches_every_process() {
    let Some(mut lab) = Lab::v1("signal") else { return };
    lab.create("{}").unwrap();
    lab.sleeper();
    lab.sleeper();
    lab.cgroup.signal_all(libc::SIGTERM).unwrap();
    for child in &mut lab.children {
        let end = child.wait().unwrap();
        assert_eq!(end.signal(), Some(libc::SIGTERM));
    }
}

#[test]
fn v1_sub_cgroups_are_joined_and_removed() {
    let Some(mut lab) = Lab::v1("sub") else { return };
    lab.create("{}").unwrap();
    let pid = lab.sleeper();
    fs::create_dir(lab.dir("memory").join("inner")).unwrap();
    let join = |sub: &str| {
        let sub = SubCgroups::parse(&[sub.to_owned()]).unwrap();
        lab.cgroup.join_sub(pid, &sub, None, Entered::default()).map_err(|error| error.to_string())
    };
    let inner = join("memory:inner").unwrap();
    inner.verify(pid).unwrap();
    let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert!(membership.contains("-sub/inner\n"));
    join("/").unwrap().verify(pid).unwrap();
    let error = inner.verify(pid).unwrap_err().to_string();
    assert!(error.starts_with(&format!("process {pid} is not in the container's cgroup ")), "{error}");
    assert!(!fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap().contains("inner"));
    assert_eq!(join("whaaat:/").unwrap_err(), "unknown controller whaaat in SubCgroupPaths");
    assert_eq!(join("..").unwrap_err(), "bad sub cgroup path: ..");
    let error = join("cpu:nonexistent").unwrap_err();
    assert!(error.starts_with(&format!("error adding pid {pid} to cgroups: ")), "{error}");
    assert!(error.ends_with(": no such file or directory"), "{error}");
    let _ = join("memory:inner").unwrap();
    assert_eq!(lab.cgroup.pids(true).unwrap(), [pid]);
}

#[test]
fn v1_oom_kill_is_announced() {
    let Some(mut lab) = Lab::v1("oom") else { return };
    lab.create(r#"{"memory":{"limit":16777216,"swap":16777216}}"#).unwrap();
    let mut watch = lab.cgroup.watch_oom().unwrap();
    // tail keeps a line without an end in memory; it starts when it is in the cgroup.
    let go = lab.dir("memory").join("cgroup.procs");
    let script = format!("until grep -qw $$ {}; do :; done; head -c 64M /dev/zero | tail", go.display());
    lab.run(Command::new("sh").args(["-c", &script]).stderr(Stdio::null()));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < deadline, "no event");
        poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::from(1000_u16)).unwrap();
        match watch.take().unwrap() {
            OomEvent::Oom => break,
            OomEvent::Nothing => {}
            OomEvent::Gone => panic!("cgroup gone"),
        }
    }
    lab.wait();
    assert!(lab.cgroup.oom_kills().unwrap() >= 1);
    lab.cgroup.delete().unwrap();
    poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::from(5000_u16)).unwrap();
    let mut last = watch.take().unwrap();
    while last == OomEvent::Oom {
        last = watch.take().unwrap();
    }
    assert_eq!(last, OomEvent::Gone);
}

#[test]
fn v2_device_filter_denies_and_is_replaced() {
    let Some(mut lab) = Lab::v2("devices") else { return };
    lab.create(r#"{"devices":[{"allow":false,"access":"rwm"}]}"#).unwrap();
    let read = |device: &str| {
        // Opening is what is filtered. The shell opens the device only after it has been moved (its input is our go).
        let mut shell = Command::new("sh")
            .args(["-c", &format!("read go; : < {device}")])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _ =
            lab.cgroup.join(Pid::from_raw(i32::try_from(shell.id()).unwrap()), Entered::default()).unwrap();
        drop(shell.stdin.take());
        shell.wait().unwrap().success()
    };
    assert!(read("/dev/zero"));
    assert!(!read("/dev/kmsg"));
    let allow = r#"{"devices":[{"allow":false,"access":"rwm"},
        {"allow":true,"type":"c","major":1,"minor":11,"access":"r"},
        {"allow":true,"type":"c","major":1,"minor":11,"access":"w"}]}"#;
    let mut again = lab.cgroup.clone();
    again.create(Some(&serde_json::from_str(allow).unwrap()), &BTreeMap::new()).unwrap();
    assert!(read("/dev/kmsg"));
}

#[test]
fn a_process_for_a_v2_cgroup_that_is_gone_goes_where_init_is() {
    let Some(mut lab) = Lab::v2("gone") else { return };
    lab.create("{}").unwrap();
    let init = lab.sleeper();
    let none = SubCgroups::default();
    let mut moved = lab.cgroup.clone();
    moved.hierarchies[0].dir.set_file_name("rt-test-gone");
    let pidfd = pidfd_open(init.as_raw()).unwrap();
    let beside = Some((init, pidfd.as_fd()));
    let missing = SubCgroups::parse(&["nonexistent".to_owned()]).unwrap();
    let error = moved.join_sub(init, &missing, beside, Entered::default()).unwrap_err().to_string();
    assert!(error.contains("no such file"), "{error}");
    let other = lab.sleeper();
    moved.join_sub(other, &none, beside, Entered::default()).unwrap().verify(other).unwrap();
    assert_eq!(lab.cgroup.pids(false).unwrap().len(), 2);

    // Of an init that has ended, and that nobody has waited for, the kernel says that it is in the root.
    kill(init, Signal::SIGKILL).unwrap();
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(5000_u16)).unwrap();
    assert!(moved.join_sub(other, &none, beside, Entered::default()).is_err());
    let kernel = fs::read_to_string(format!("/proc/{other}/cgroup")).unwrap();
    assert!(kernel.contains("-gone\n"), "{kernel}");
}
