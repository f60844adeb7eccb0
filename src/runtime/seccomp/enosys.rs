//! The ENOSYS stub: a few instructions before the filter that answer system calls newer than the profile with
//! ENOSYS instead of the default action, so that C libraries fall back to older calls. A call is "newer" when
//! its number is above every number the profile names, per architecture.

use libseccomp::{ScmpArch, ScmpSyscall};
use nix::libc;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};

use super::bpf::{
    Instruction, JUMP_IF_ANY_BIT, JUMP_IF_EQUAL, JUMP_IF_GREATER, OFFSET_ARCHITECTURE, OFFSET_NUMBER,
    X32_BIT, audit_architecture, jump, jump_if, load, returning,
};

/// SECCOMP_RET_ERRNO | ENOSYS
const RETURN_ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;

/// The largest number a profile names for one architecture of libseccomp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    arch: ScmpArch,
    number: u32,
}

/// Whether the profile gets a stub: not where unknown calls are let through anyway (a tracer is expected to
/// handle them itself), nor where the default is ENOSYS already.
pub(super) fn is_wanted(profile: &LinuxSeccomp) -> bool {
    use LinuxSeccompAction::{ScmpActAllow, ScmpActErrno, ScmpActLog, ScmpActTrace};
    match profile.default_action() {
        ScmpActAllow | ScmpActLog | ScmpActTrace => false,
        ScmpActErrno => profile.default_errno_ret() != Some(libc::ENOSYS as u32),
        _ => true,
    }
}

/// Looks up the largest number for each architecture. One that none of the names exists on is left out.
pub(super) fn newest<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
    architectures: &[ScmpArch],
) -> Vec<Newest> {
    let largest = |arch: ScmpArch| {
        let numbers = names.clone().filter_map(|name| ScmpSyscall::from_name_by_arch(name, arch).ok());
        // Negative numbers are libseccomp's own for calls that the architecture multiplexes.
        numbers.filter_map(|call| u32::try_from(i32::from(call)).ok()).max().filter(|number| *number != 0)
    };
    let mut found = Vec::with_capacity(architectures.len());
    for &arch in architectures {
        match largest(arch) {
            Some(number) => found.push(Newest { arch, number }),
            None => tracing::warn!("could not find any syscalls for arch {arch:?}"),
        }
    }
    found
}

/// The stub. It falls through to whatever follows it:
///
/// ```text
/// load architecture
/// (for each kernel architecture:)
///   jump to the next one if it is another
///   load number
///   (checks that return ENOSYS)
///   jump to the end
/// ```
pub(super) fn stub(newest: &[Newest]) -> Vec<Instruction> {
    let mut sections: Vec<(u32, Vec<Instruction>)> = Vec::new();
    for entry in newest {
        let Some(architecture) = audit_architecture(entry.arch) else { continue };
        if sections.iter().all(|(known, _)| *known != architecture) {
            let same = newest.iter().filter(|other| audit_architecture(other.arch) == Some(architecture));
            sections.push((architecture, checks(&same.copied().collect::<Vec<_>>())));
        }
    }
    if sections.is_empty() {
        return Vec::new();
    }
    // Of a section: the comparison, the load, the checks, the jump.
    let length = 1 + sections.iter().map(|(_, checks)| checks.len() + 3).sum::<usize>();
    let mut program = Vec::with_capacity(length);
    program.push(load(OFFSET_ARCHITECTURE));
    for (architecture, checks) in sections {
        program.push(jump_if(JUMP_IF_EQUAL, architecture, 0, checks.len() + 2));
        program.push(load(OFFSET_NUMBER));
        program.extend(checks);
        let left = length - program.len() - 1;
        program.push(jump(left));
    }
    program
}

/// Checks of the number, which is loaded; they end behind their last instruction or return.
fn checks(newest: &[Newest]) -> Vec<Instruction> {
    let number_of = |arch| newest.iter().find(|entry| entry.arch == arch).map(|entry| entry.number);
    let over = |number| vec![jump_if(JUMP_IF_GREATER, number, 0, 1), returning(RETURN_ENOSYS)];
    match (number_of(ScmpArch::X8664), number_of(ScmpArch::X32)) {
        // Without x32 in the profile its numbers are the filter's business, which kills them.
        (Some(number), None) => prefixed(jump_if(JUMP_IF_ANY_BIT, X32_BIT, 2, 0), over(number)),
        (None, Some(number)) => prefixed(jump_if(JUMP_IF_ANY_BIT, X32_BIT, 0, 2), over(number)),
        (Some(number), Some(x32)) => vec![
            jump_if(JUMP_IF_ANY_BIT, X32_BIT, 1, 0),
            jump_if(JUMP_IF_GREATER, number, 1, 2),
            jump_if(JUMP_IF_GREATER, x32, 0, 1),
            returning(RETURN_ENOSYS),
        ],
        (None, None) => newest.first().map_or_else(Vec::new, |entry| match entry.arch {
            // Unknown calls arrive as number 0 there: setup(2), which multiplexes and is not used otherwise.
            ScmpArch::S390 | ScmpArch::S390X => {
                let mut checks = vec![jump_if(JUMP_IF_EQUAL, 0, 1, 0)];
                checks.extend(over(entry.number));
                checks
            }
            _ => over(entry.number),
        }),
    }
}

fn prefixed(first: Instruction, mut rest: Vec<Instruction>) -> Vec<Instruction> {
    rest.insert(0, first);
    rest
}

#[cfg(test)]
#[path = "enosys_tests.rs"]
mod tests;
