//! One program from a program for each architecture. libseccomp's time grows with the square of what is in a program, so
//! architectures are compiled one by one; for it they are independent of each other too.

use libseccomp::ScmpArch;

use super::bpf::{
    Instruction, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, OFFSET_ARCHITECTURE, OFFSET_NUMBER, X32_BIT,
    audit_architecture, jump, jump_if, load,
};

/// Whether programs of these architectures can be joined: what else a machine may run is left to libseccomp.
pub(super) fn is_possible(architectures: &[ScmpArch]) -> bool {
    use ScmpArch::{Aarch64, Arm, X32, X86, X8664};
    let all = |known: &[ScmpArch]| architectures.iter().all(|arch| known.contains(arch));
    // The first one gets the calls of every other architecture, which its program takes for bad ones.
    matches!(architectures.first(), Some(X8664 | Aarch64))
        && (all(&[X8664, X86, X32]) || all(&[Aarch64, Arm]))
}

/// Programs of which the first is the machine's own:
///
/// ```text
/// load architecture
/// (for each other one:)
///   if it is this one jump to its program
/// (x32, which has the architecture of x86_64:)
///   load number
///   if it is one of x32's jump to its program
/// programs
/// ```
pub(super) fn join(programs: &[(ScmpArch, Vec<Instruction>)]) -> Vec<Instruction> {
    if let [(_, alone)] = programs {
        return alone.clone();
    }
    // By the architecture before by the number, since what is loaded changes.
    let (by_number, by_architecture): (Vec<usize>, Vec<usize>) =
        (1..programs.len()).partition(|&n| programs[n].0 == ScmpArch::X32);
    let length = 1 + 2 * by_architecture.len() + 3 * by_number.len();
    let start =
        |program: usize| length + programs[..program].iter().map(|(_, code)| code.len()).sum::<usize>();
    let mut joined = vec![load(OFFSET_ARCHITECTURE)];
    let lead = |joined: &mut Vec<Instruction>, condition: Instruction, program: usize| {
        joined.push(condition);
        joined.push(jump(start(program) - joined.len() - 1));
    };
    for program in by_architecture {
        let architecture = audit_architecture(programs[program].0).unwrap_or_default();
        lead(&mut joined, jump_if(JUMP_IF_EQUAL, architecture, 0, 1), program);
    }
    for program in by_number {
        joined.push(load(OFFSET_NUMBER));
        lead(&mut joined, jump_if(JUMP_IF_AT_LEAST, X32_BIT, 0, 1), program);
    }
    joined.extend(programs.iter().flat_map(|(_, code)| code));
    joined
}
