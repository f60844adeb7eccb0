//! The stub, run for every kind of call.

use super::super::interpreter;
use super::*;

const X86: u32 = 0x4000_0003;
const X86_64: u32 = 0xc000_003e;
const S390X: u32 = 0x8000_0016;

/// What the stub does with a call.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Enosys,
    ToFilter,
}

fn run(program: &[Instruction], architecture: u32, number: u32) -> Outcome {
    match interpreter::run(program, &interpreter::call(architecture, number, [0; 6])) {
        Some(value) => {
            assert_eq!(value, RETURN_ENOSYS);
            Outcome::Enosys
        }
        None => Outcome::ToFilter,
    }
}

fn of(entries: &[(ScmpArch, u32)]) -> Vec<Instruction> {
    stub(&entries.iter().map(|&(arch, number)| Newest { arch, number }).collect::<Vec<_>>())
}

#[test]
fn newer_numbers_get_enosys_on_their_own_architecture() {
    let stub = of(&[(ScmpArch::X8664, 400), (ScmpArch::X86, 410), (ScmpArch::S390X, 420)]);
    for (architecture, number, outcome) in [
        (X86_64, 400, Outcome::ToFilter),
        (X86_64, 401, Outcome::Enosys),
        (X86_64, X32_BIT | 1, Outcome::ToFilter),
        (X86, 401, Outcome::ToFilter),
        (X86, 411, Outcome::Enosys),
        (S390X, 0, Outcome::Enosys),
        (S390X, 1, Outcome::ToFilter),
        (S390X, 420, Outcome::ToFilter),
        (S390X, 421, Outcome::Enosys),
        (0xc000_00b7, 5000, Outcome::ToFilter),
    ] {
        assert_eq!(run(&stub, architecture, number), outcome, "{architecture:x} {number}");
    }
}

#[test]
fn x32_shares_the_architecture_of_x86_64() {
    let x32_newest = X32_BIT | 547;
    let both = of(&[(ScmpArch::X32, x32_newest), (ScmpArch::X86, 10), (ScmpArch::X8664, 450)]);
    let only_x32 = of(&[(ScmpArch::X32, x32_newest)]);
    for (program, number, outcome) in [
        (&both, 450, Outcome::ToFilter),
        (&both, 451, Outcome::Enosys),
        (&both, x32_newest, Outcome::ToFilter),
        (&both, x32_newest + 1, Outcome::Enosys),
        (&only_x32, 1000, Outcome::ToFilter),
        (&only_x32, x32_newest, Outcome::ToFilter),
        (&only_x32, x32_newest + 1, Outcome::Enosys),
    ] {
        assert_eq!(run(program, X86_64, number), outcome, "{number:x}");
    }
    assert_eq!(run(&both, X86, 11), Outcome::Enosys);
}

#[test]
fn nothing_known_needs_no_stub() {
    assert!(of(&[]).is_empty());
    let names = ["no_such_call"];
    assert!(newest(names.iter().copied(), &[ScmpArch::X8664]).is_empty());
}

#[test]
fn the_largest_number_is_looked_up_per_architecture() {
    let names = ["read", "openat2", "no_such_call"];
    assert_eq!(
        newest(names.iter().copied(), &[ScmpArch::X8664, ScmpArch::X32]),
        [
            Newest { arch: ScmpArch::X8664, number: 437 },
            Newest { arch: ScmpArch::X32, number: X32_BIT | 437 }
        ]
    );
}

#[test]
fn permissive_profiles_get_none() {
    let profile = |json: &str| is_wanted(&serde_json::from_str(json).unwrap());
    assert!(!profile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#));
    assert!(!profile(r#"{"defaultAction":"SCMP_ACT_LOG"}"#));
    assert!(!profile(r#"{"defaultAction":"SCMP_ACT_TRACE"}"#));
    assert!(!profile(r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38}"#));
    assert!(profile(r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":6}"#));
    assert!(profile(r#"{"defaultAction":"SCMP_ACT_KILL_PROCESS"}"#));
}
