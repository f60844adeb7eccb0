//! A program joined from one for each architecture decides as libseccomp's own for all of them does.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::RngSeed;
use serde_json::json;

use super::super::bpf::X32_BIT;
use super::super::interpreter::{Call, call, run};
use super::*;

/// Calls of all numbers, among them those of no architecture, with arguments that profiles ask for and their neighbours.
fn calls(values: &[u64]) -> Vec<Call> {
    let numbers = (0..560).chain([0xffff, X32_BIT - 1, u32::MAX, u32::MAX - 1]);
    let numbers: Vec<u32> = numbers.flat_map(|number| [number, number | X32_BIT]).collect();
    let architectures = [ScmpArch::X8664, ScmpArch::X86, ScmpArch::Aarch64, ScmpArch::Arm, ScmpArch::S390X];
    let mut calls = Vec::new();
    for architecture in architectures.map(|arch| audit_architecture(arch).unwrap()).into_iter().chain([0, 7])
    {
        for &number in &numbers {
            for &value in values {
                calls.push(call(architecture, number, [value; 6]));
                calls.push(call(architecture, number, [value, 0, value + 1, 3, value, 1]));
            }
        }
    }
    calls
}

fn agree(profile: &LinuxSeccomp, values: &[u64]) {
    let joined = Instruction::all_of(&compile(profile).unwrap().program);
    let architectures = architectures_of(profile);
    let default = action(profile.default_action(), profile.default_errno_ret()).unwrap();
    let mut whole = stub(profile, &architectures);
    whole.extend(filter(profile, default, &architectures).unwrap());
    assert!(architectures.len() == 1 || joined != whole, "nothing was joined");
    for call in calls(values) {
        let wanted = run(&whole, &call);
        assert!(wanted.is_some(), "{call:x?}");
        assert_eq!(run(&joined, &call), wanted, "{call:x?}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn an_engines_profile_is_the_same_joined() {
    let profile = serde_json::from_str(include_str!("../../../benches/lifecycle/seccomp.json")).unwrap();
    agree(&profile, &[0, 8, 0x20000, 0xffff_ffff, 0x7e02_0000]);
    let default = action(profile.default_action(), profile.default_errno_ret()).unwrap();
    for arch in architectures_of(&profile) {
        let long = filter(&profile, default, &[arch]).unwrap();
        let short = shortened(arch, long.clone());
        assert!(short.len() * 2 < long.len(), "{arch:?}: {} of {}", short.len(), long.len());
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn rules_with_arguments_and_every_set_of_architectures_are_the_same_joined() {
    let rules = r#"[
        {"names":["read","socket","ipc","shmget","recv","semop","mmap2","time","preadv"],"action":"SCMP_ACT_ALLOW"},
        {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]},
        {"names":["clone"],"action":"SCMP_ACT_ERRNO","errnoRet":7,"args":[{"index":2,"value":9,"op":"SCMP_CMP_GE"}]},
        {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
        {"names":["lseek"],"action":"SCMP_ACT_TRAP","args":[{"index":1,"value":4294967297,"op":"SCMP_CMP_GT"},{"index":0,"value":3,"op":"SCMP_CMP_LE"}]},
        {"names":["kill"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":0,"value":3,"op":"SCMP_CMP_NE"},{"index":0,"value":9,"op":"SCMP_CMP_LT"}]},
        {"names":["open","socketcall","personality"],"action":"SCMP_ACT_LOG"}]"#;
    for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL"] {
        for architectures in [
            r#""SCMP_ARCH_X86","SCMP_ARCH_X32""#,
            r#""SCMP_ARCH_X32","SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_AARCH64""#,
            r#""SCMP_ARCH_X86""#,
            r#""SCMP_ARCH_X32""#,
            "",
        ] {
            let json = format!(
                r#"{{"defaultAction":"{default}","architectures":[{architectures}],"syscalls":{rules}}}"#
            );
            let mut profile: LinuxSeccomp = serde_json::from_str(&json).unwrap();
            if default == "SCMP_ACT_ALLOW" {
                let rules = profile.syscalls().clone().unwrap();
                let denying =
                    rules.into_iter().filter(|rule| rule.action() != LinuxSeccompAction::ScmpActAllow);
                profile.set_syscalls(Some(denying.collect()));
            }
            agree(&profile, &[0, 3, 8, 9, 1 << 32, (1 << 32) + 1, 0x7e02_0000]);
        }
    }
}

/// A rule of one or two conditions, or none.
#[cfg(target_arch = "x86_64")]
fn any_rule() -> impl Strategy<Value = serde_json::Value> {
    const NAMES: [&str; 16] = [
        "read",
        "write",
        "open",
        "close",
        "stat",
        "fstat",
        "lseek",
        "mmap",
        "ioctl",
        "socket",
        "connect",
        "clone",
        "kill",
        "shmget",
        "personality",
        "openat2",
    ];
    const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    const ACTIONS: [&str; 5] = ["ALLOW", "LOG", "TRAP", "KILL_PROCESS", "TRACE"];
    let value = prop_oneof![0..4_u64, Just(1_u64 << 32), Just((1_u64 << 32) + 2), Just(0x7e02_0000_u64)];
    let condition = (0..6_u64, select(&OPERATORS[..]), value.clone(), value).prop_map(|(index, operator, value, two)| {
        json!({ "index": index, "op": format!("SCMP_CMP_{operator}"), "value": value, "valueTwo": two })
    });
    let names = subsequence(&NAMES[..], 1..NAMES.len());
    (names, select(&ACTIONS[..]), vec(condition, 0..3)).prop_map(|(names, action, conditions)| {
        json!({ "names": names, "action": format!("SCMP_ACT_{action}"), "args": conditions })
    })
}

#[cfg(target_arch = "x86_64")]
proptest! {
    // The same rules each time: of some, libseccomp itself makes a tree that it takes minutes or for ever to give back.
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(24), ..ProptestConfig::default() })]
    #[test]
    fn any_rules_are_the_same_joined(rules in vec(any_rule(), 1..6)) {
        let json = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": rules,
        });
        let profile: LinuxSeccomp = serde_json::from_value(json).unwrap();
        // Some rules contradict each other, for libseccomp.
        prop_assume!(compile(&profile).is_ok());
        agree(&profile, &[0, 2, 1 << 32, 0x7e02_0000]);
    }
}

#[test]
fn machines_with_architectures_of_their_own_are_left_to_libseccomp() {
    use ScmpArch::{Aarch64, Arm, Mips, Ppc64Le, X32, X86, X8664};
    for (architectures, possible) in [
        (&[X8664][..], true),
        (&[X8664, X86, X32], true),
        (&[Aarch64, Arm], true),
        (&[X86, X8664], false),
        (&[X8664, Arm], false),
        (&[Ppc64Le, Mips], false),
    ] {
        assert_eq!(join::is_possible(architectures), possible, "{architectures:?}");
    }
}
