//! The words of the spec that rt knows, for `features`, and which flags this kernel takes.

use oci_spec::runtime::LinuxSeccompFilterFlag;

use crate::sys::seccomp as sys;

/// Actions of rules.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Comparisons of arguments.
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];

/// Architectures, as runc lists them.
pub const ARCHITECTURES: [&str; 18] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// Flags, as runc lists them. SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is taken from a spec too, but runc's own
/// tests refuse a `features` that lists it.
pub const FLAGS: [&str; 3] =
    ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"];

/// Those of [`FLAGS`] that the kernel takes.
#[must_use]
pub fn supported_flags() -> Vec<&'static str> {
    use LinuxSeccompFilterFlag as Flag;
    let flags = [Flag::SeccompFilterFlagTsync, Flag::SeccompFilterFlagSpecAllow, Flag::SeccompFilterFlagLog];
    flags.into_iter().filter(|flag| bit(*flag) == 0 || sys::knows_flags(bit(*flag))).map(name).collect()
}

/// The kernel's bit of a flag. TSYNC is none: there is only one thread, and after exec there would be anyway.
pub(super) fn bit(flag: LinuxSeccompFilterFlag) -> u32 {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => sys::LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => sys::SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => sys::WAIT_KILLABLE_RECV,
    }
}

/// The spec's word for a flag.
pub(super) fn name(flag: LinuxSeccompFilterFlag) -> &'static str {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => FLAGS[0],
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAGS[1],
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAGS[2],
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    }
}
