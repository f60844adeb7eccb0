//! What rt itself writes of seccomp programs: instructions, and the kernel's numbers in them.

use libseccomp::ScmpArch;

/// One BPF instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub code: u16,
    pub if_true: u8,
    pub if_false: u8,
    pub value: u32,
}

impl Instruction {
    /// All of a program, as [`Self::to_bytes`] has them.
    pub(super) fn all_of(program: &[u8]) -> Vec<Self> {
        let instruction = |bytes: &[u8; 8]| {
            let [c, d, if_true, if_false, value @ ..] = *bytes;
            Self { code: u16::from_ne_bytes([c, d]), if_true, if_false, value: u32::from_ne_bytes(value) }
        };
        program.as_chunks().0.iter().map(instruction).collect()
    }

    /// As `struct sock_filter` lies in memory.
    pub(super) fn to_bytes(self) -> [u8; 8] {
        let code = self.code.to_ne_bytes();
        let value = self.value.to_ne_bytes();
        [code[0], code[1], self.if_true, self.if_false, value[0], value[1], value[2], value[3]]
    }
}

// linux/filter.h; offsets of struct seccomp_data.
pub(super) const LOAD_WORD: u16 = 0x20;
pub(super) const JUMP: u16 = 0x05;
pub(super) const JUMP_IF_EQUAL: u16 = 0x15;
pub(super) const JUMP_IF_GREATER: u16 = 0x25;
pub(super) const JUMP_IF_AT_LEAST: u16 = 0x35;
pub(super) const JUMP_IF_ANY_BIT: u16 = 0x45;
pub(super) const RETURN: u16 = 0x06;
pub(super) const OFFSET_NUMBER: u32 = 0;
pub(super) const OFFSET_ARCHITECTURE: u32 = 4;
/// Set in the numbers of x32, which shares the architecture of x86_64.
pub(super) const X32_BIT: u32 = 1 << 30;

pub(super) fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD_WORD, if_true: 0, if_false: 0, value: offset }
}

/// Ends the program with this value.
pub(super) fn returning(value: u32) -> Instruction {
    Instruction { code: RETURN, if_true: 0, if_false: 0, value }
}

/// Jumps over so many instructions.
pub(super) fn jump(over: usize) -> Instruction {
    Instruction { code: JUMP, if_true: 0, if_false: 0, value: u32::try_from(over).unwrap_or(u32::MAX) }
}

/// Jumps are counted from the next instruction; conditional ones reach 255 far.
pub(super) fn jump_if(code: u16, value: u32, if_true: usize, if_false: usize) -> Instruction {
    let short = |distance| u8::try_from(distance).unwrap_or(u8::MAX);
    Instruction { code, if_true: short(if_true), if_false: short(if_false), value }
}

/// AUDIT_ARCH_ of linux/audit.h. None: an architecture that the spec has and runc has not.
pub(super) fn audit_architecture(arch: ScmpArch) -> Option<u32> {
    Some(match arch {
        ScmpArch::X86 => 0x4000_0003,
        ScmpArch::X8664 | ScmpArch::X32 => 0xc000_003e,
        ScmpArch::Arm => 0x4000_0028,
        ScmpArch::Aarch64 => 0xc000_00b7,
        ScmpArch::Loongarch64 => 0xc000_0102,
        ScmpArch::M68k => 0x0000_0004,
        ScmpArch::Mips => 0x0000_0008,
        ScmpArch::Mips64 => 0x8000_0008,
        ScmpArch::Mips64N32 => 0xa000_0008,
        ScmpArch::Mipsel => 0x4000_0008,
        ScmpArch::Mipsel64 => 0xc000_0008,
        ScmpArch::Mipsel64N32 => 0xe000_0008,
        ScmpArch::Ppc => 0x0000_0014,
        ScmpArch::Ppc64 => 0x8000_0015,
        ScmpArch::Ppc64Le => 0xc000_0015,
        ScmpArch::S390 => 0x0000_0016,
        ScmpArch::S390X => 0x8000_0016,
        ScmpArch::Parisc => 0x0000_000f,
        ScmpArch::Parisc64 => 0x8000_000f,
        ScmpArch::Riscv64 => 0xc000_00f3,
        ScmpArch::Sheb => 0x0000_002a,
        ScmpArch::Sh => 0x4000_002a,
        _ => return None,
    })
}
