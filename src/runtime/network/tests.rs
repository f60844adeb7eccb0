//! Devices moved between real namespaces (veth pairs, as root).

use std::process::Command;

use nix::sched::unshare;

use super::*;
use crate::sys::testing::succeeds_in_child;

fn devices(json: &str) -> HashMap<String, LinuxNetDevice> {
    serde_json::from_str(json).unwrap()
}

fn namespaces(json: &str) -> Vec<LinuxNamespace> {
    serde_json::from_str(json).unwrap()
}

/// Whether this process may make network namespaces and devices.
fn is_able() -> bool {
    let able = nix::unistd::geteuid().is_root() && Command::new("ip").arg("-V").output().is_ok();
    if !able {
        println!("SKIP: needs root and ip(8)");
    }
    able
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn devices_need_a_namespace_rights_and_names() {
    let error = |json: &str, spaces: &str, rootless| {
        validate(&devices(json), &namespaces(spaces), rootless).unwrap_err().to_string()
    };
    let net = r#"[{"type":"network"}]"#;
    assert_eq!(
        error(r#"{"eth0":{}}"#, "[]", false),
        "unable to move network devices without a NET namespace"
    );
    assert_eq!(
        error(r#"{"eth0":{}}"#, net, true),
        "network devices are not supported for rootless containers"
    );
    for name in ["", "..", "a/b", "a:b", "a b", "sixteen-letters!"] {
        let json = format!(r#"{{"{name}":{{}}}}"#);
        assert_eq!(error(&json, net, false), format!("invalid network device name {name:?}"));
    }
    assert_eq!(error(r#"{"eth0":{"name":"a/b"}}"#, net, false), "invalid network device name \"a/b\"");
    assert_eq!(validate(&devices(r#"{"eth0":{"name":""}}"#), &namespaces(net), false), Ok(()));
    assert_eq!(validate(&HashMap::new(), &[], true), Ok(()));
}

#[test]
fn loopback_comes_up_in_a_new_namespace() {
    if !is_able() {
        return;
    }
    succeeds_in_child(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        assert!(!ip("link show lo").contains(",UP"));
        loopback_up().unwrap();
        assert!(ip("link show lo").contains("LOOPBACK,UP"));
    });
}

#[test]
fn a_device_moves_with_name_addresses_mtu_and_hardware_address() {
    if !is_able() {
        return;
    }
    // All in a namespace of its own: nothing of the host is touched.
    succeeds_in_child(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link add rt0 type veth peer name rt1");
        ip("link set mtu 1400 dev rt0");
        ip("link set address 00:11:22:33:44:55 dev rt0");
        ip("address add 169.254.169.77/32 dev rt0");
        ip("address add 10.9.8.7/24 broadcast 10.9.8.255 dev rt0");
        ip("address add fd00::7/64 dev rt0");
        ip("address add 127.0.0.33 dev rt0");
        ip("link set up dev rt0");

        let mut container = Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
        let pid = i32::try_from(container.id()).unwrap();
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = format!("/proc/{pid}/ns/net");
        while std::fs::read_link(&theirs).is_ok_and(|link| link == own) {
            std::thread::yield_now();
        }
        let moved = move_devices(&devices(r#"{"rt0":{"name":"ctr0"}}"#), pid);
        let missing = move_devices(&devices(r#"{"rt9":{}}"#), pid);
        let namespace = File::open(&theirs).unwrap();
        container.kill().unwrap();
        container.wait().unwrap();

        moved.unwrap();
        assert_eq!(std::fs::read_link("/proc/self/ns/net").unwrap(), own);
        assert_eq!(
            missing.unwrap_err().to_string(),
            format!(
                "move netDevice rt9 to namespace {theirs}: \
                 link not found for interface rt9 on runtime namespace: no such device"
            )
        );
        assert!(!ip("link").contains("rt0:"));
        // With the last who holds this namespace its end of the pair would go, and the other with it.
        let _held = File::open("/proc/self/ns/net").unwrap();
        setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let shown = ip("address show dev ctr0");
        for part in [
            "mtu 1400 ",
            "00:11:22:33:44:55",
            "169.254.169.77/32 ",
            "10.9.8.7/24 brd 10.9.8.255",
            "fd00::7/64 ",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(shown.contains(",UP"), "{shown}");
        assert!(!shown.contains("127.0.0.33"), "{shown}");
    });
}
