//! Runs seccomp programs for the tests of what is made of them.

use super::bpf::{
    Instruction, JUMP, JUMP_IF_ANY_BIT, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, JUMP_IF_GREATER, LOAD_WORD, RETURN,
};

const AND: u16 = 0x54;

/// struct seccomp_data, as words of a little-endian machine.
pub(super) type Call = [u32; 16];

pub(super) fn call(architecture: u32, number: u32, arguments: [u64; 6]) -> Call {
    let mut words = [0; 16];
    (words[0], words[1]) = (number, architecture);
    for (n, argument) in arguments.into_iter().enumerate() {
        let low = u32::try_from(argument & u64::from(u32::MAX)).unwrap();
        (words[4 + 2 * n], words[5 + 2 * n]) = (low, u32::try_from(argument >> 32).unwrap());
    }
    words
}

/// What is returned; `None` where the program runs on to what follows it.
pub(super) fn run(program: &[Instruction], call: &Call) -> Option<u32> {
    let (mut at, mut word) = (0, 0);
    while let Some(instruction) = program.get(at) {
        let value = instruction.value;
        at += 1;
        let decided = match instruction.code {
            LOAD_WORD => {
                word = call[value as usize / 4];
                continue;
            }
            AND => {
                word &= value;
                continue;
            }
            JUMP => {
                at += value as usize;
                continue;
            }
            RETURN => return Some(value),
            JUMP_IF_EQUAL => word == value,
            JUMP_IF_GREATER => word > value,
            JUMP_IF_AT_LEAST => word >= value,
            JUMP_IF_ANY_BIT => word & value != 0,
            other => panic!("unknown instruction {other:#x}"),
        };
        at += usize::from(if decided { instruction.if_true } else { instruction.if_false });
    }
    assert_eq!(at, program.len(), "a jump over the end of the program");
    None
}
