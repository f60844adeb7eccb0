//! From the spec's profile to a BPF program, with libseccomp and in runc's order.

use std::fs::File;
use std::io::{Read, Seek};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall, get_api,
};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};

use super::bpf::{Instruction, audit_architecture};
use super::compact::compact;
use super::{Filter, ListenerInfo, SeccompError, enosys, join, names};
use crate::runtime::process::reason::Reason;
use crate::sys::seccomp as sys;

/// System calls have at most six arguments.
const MAX_ARGUMENTS: usize = 6;
/// BPF_MAXINSNS of linux/bpf_common.h.
const MAX_INSTRUCTIONS: usize = 4096;
/// From this many rules on libseccomp is asked for a binary tree: below it is no gain, and with no rule at all
/// libseccomp up to 2.5.4 makes a wrong program.
const TREE_FROM: usize = 33;

/// Compiles a profile. Names of system calls that libseccomp does not know are skipped.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, SeccompError> {
    check_notify(profile)?;
    let listener = listener(profile)?;
    let flags = flags(profile, listener.is_some())?;
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let architectures = architectures_of(profile);
    let mut program = stub(profile, &architectures);
    if join::is_possible(&architectures) {
        let own = |arch| Ok((arch, shortened(arch, filter(profile, default, &[arch])?)));
        let programs: Vec<_> = architectures.into_iter().map(own).collect::<Result<_, SeccompError>>()?;
        program.extend(join::join(&programs));
    } else {
        program.extend(filter(profile, default, &architectures)?);
    }
    if program.len() > MAX_INSTRUCTIONS {
        return Err(SeccompError::TooLong(program.len()));
    }
    let program = program.into_iter().flat_map(Instruction::to_bytes).collect();
    tracing::debug!("seccomp filter flags: {flags}");
    Ok(Filter { program, flags, listener })
}

/// What libseccomp makes of the rules for these architectures.
fn filter(
    profile: &LinuxSeccomp,
    default: ScmpAction,
    architectures: &[ScmpArch],
) -> Result<Vec<Instruction>, SeccompError> {
    let adding = || SeccompError::library("adding architecture to seccomp filter");
    let mut context = ScmpFilterContext::new(default).map_err(SeccompError::library("creating filter"))?;
    for &arch in architectures {
        context.add_arch(arch).map_err(adding())?;
    }
    if !architectures.contains(&ScmpArch::native()) {
        // A new filter has it.
        context.remove_arch(ScmpArch::Native).map_err(adding())?;
    }
    if names_of(profile).count() >= TREE_FROM {
        // Only a faster program: an old libseccomp without it is fine.
        if let Err(error) = context.set_ctl_optimize(2) {
            tracing::debug!("seccomp binary tree optimization not available: {error}");
        }
    }
    for rule in profile.syscalls().iter().flatten() {
        add_rule(&mut context, rule, default)?;
    }
    export(&context)
}

/// The program of one architecture, in fewer instructions where that can be.
fn shortened(arch: ScmpArch, program: Vec<Instruction>) -> Vec<Instruction> {
    audit_architecture(arch).and_then(|architecture| compact(&program, architecture)).unwrap_or(program)
}

fn names_of(profile: &LinuxSeccomp) -> impl Iterator<Item = &str> + Clone {
    profile.syscalls().iter().flatten().flat_map(|rule| rule.names().iter().map(String::as_str))
}

fn check_notify(profile: &LinuxSeccomp) -> Result<(), SeccompError> {
    const NOTIFY: LinuxSeccompAction = LinuxSeccompAction::ScmpActNotify;
    if profile.default_action() == NOTIFY {
        return Err(SeccompError::NotifyAsDefault);
    }
    // Once the filter is loaded the process still has to write the number of its descriptor to rt. It may read
    // and close under notification: the agent has the descriptor by then.
    let notifying = profile.syscalls().iter().flatten().filter(|rule| rule.action() == NOTIFY);
    if notifying.flat_map(|rule| rule.names()).any(|name| name == "write") {
        return Err(SeccompError::NotifyWrite);
    }
    Ok(())
}

fn listener(profile: &LinuxSeccomp) -> Result<Option<ListenerInfo>, SeccompError> {
    let mut rules = profile.syscalls().iter().flatten();
    if !rules.any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify && !rule.names().is_empty()) {
        return Ok(None);
    }
    if let level @ 0..6 = get_api() {
        return Err(SeccompError::NotifyUnsupported(level));
    }
    let path = profile.listener_path().clone().filter(|path| !path.as_os_str().is_empty());
    let path = path.ok_or(SeccompError::NoListener)?;
    Ok(Some(ListenerInfo { path, metadata: profile.listener_metadata().clone() }))
}

/// The flags of the profile; where it names none, not even an empty list, speculative store bypass is allowed
/// if the kernel can.
fn flags(profile: &LinuxSeccomp, notifies: bool) -> Result<u32, SeccompError> {
    let Some(asked) = profile.flags() else {
        let default = if sys::knows_flags(sys::SPEC_ALLOW) { sys::SPEC_ALLOW } else { 0 };
        return Ok(default | if notifies { sys::NEW_LISTENER } else { 0 });
    };
    let mut flags = if notifies { sys::NEW_LISTENER } else { 0 };
    for &flag in asked {
        if flag == LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv && !notifies {
            // The kernel refuses it without a listener, where it has no meaning.
            continue;
        }
        flags |= names::bit(flag);
        if names::bit(flag) != 0 && !sys::knows_flags(flags) {
            return Err(SeccompError::UnsupportedFlag(names::name(flag)));
        }
    }
    Ok(flags)
}

fn add_rule(
    context: &mut ScmpFilterContext,
    rule: &LinuxSyscall,
    default: ScmpAction,
) -> Result<(), SeccompError> {
    if rule.names().iter().any(String::is_empty) {
        return Err(SeccompError::EmptyName);
    }
    let action = action(rule.action(), rule.errno_ret())?;
    if action == default {
        // libseccomp refuses a rule that changes nothing.
        return Ok(());
    }
    for name in rule.names() {
        let Ok(call) = ScmpSyscall::from_name(name) else {
            tracing::debug!("unknown seccomp syscall {name:?} ignored");
            continue;
        };
        let arguments = rule.args().as_deref().unwrap_or_default();
        for conditions in alternatives(name, arguments)? {
            if conditions.is_empty() {
                context.add_rule(action, call)
            } else {
                context.add_rule_conditional(action, call, &conditions)
            }
            .map_err(SeccompError::library(format!("adding seccomp filter rule for syscall {name}")))?;
        }
    }
    Ok(())
}

/// All conditions of a rule must hold, but libseccomp compares an argument only once a rule: where one is
/// compared twice, any of the conditions is enough, as it has always been in runc.
fn alternatives(name: &str, arguments: &[LinuxSeccompArg]) -> Result<Vec<Vec<ScmpArgCompare>>, SeccompError> {
    let mut seen = [false; MAX_ARGUMENTS];
    let mut twice = false;
    let mut conditions = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let index = argument.index();
        let seen = seen
            .get_mut(index)
            .ok_or_else(|| SeccompError::ArgumentIndex { syscall: name.to_owned(), index })?;
        twice |= std::mem::replace(seen, true);
        let number = u32::try_from(index).unwrap_or_default();
        conditions.push(condition(number, argument));
    }
    if twice {
        Ok(conditions.into_iter().map(|condition| vec![condition]).collect())
    } else {
        Ok(vec![conditions])
    }
}

fn condition(number: u32, argument: &LinuxSeccompArg) -> ScmpArgCompare {
    let value = argument.value();
    let operator = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => ScmpCompareOp::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => ScmpCompareOp::Less,
        LinuxSeccompOperator::ScmpCmpLe => ScmpCompareOp::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => ScmpCompareOp::Equal,
        LinuxSeccompOperator::ScmpCmpGe => ScmpCompareOp::GreaterEqual,
        LinuxSeccompOperator::ScmpCmpGt => ScmpCompareOp::Greater,
        // The spec's `value` is the mask and `valueTwo` what it must leave. libcontainer 0.7.0 has the two the
        // other way round, by which docker's rule for clone(2) matches nothing.
        LinuxSeccompOperator::ScmpCmpMaskedEq => {
            let left = argument.value_two().unwrap_or_default();
            return ScmpArgCompare::new(number, ScmpCompareOp::MaskedEqual(value), left);
        }
    };
    ScmpArgCompare::new(number, operator, value)
}

fn action(action: LinuxSeccompAction, number: Option<u32>) -> Result<ScmpAction, SeccompError> {
    let number = number.unwrap_or(libc::EPERM as u32);
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => ScmpAction::KillThread,
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        // The kernel has 16 bits for it.
        LinuxSeccompAction::ScmpActErrno => ScmpAction::Errno(i32::from((number & 0xffff) as u16)),
        LinuxSeccompAction::ScmpActTrace => {
            ScmpAction::Trace(u16::try_from(number).map_err(|_| SeccompError::TraceNumber(number))?)
        }
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
    })
}

fn architecture(arch: Arch) -> ScmpArch {
    match arch {
        Arch::ScmpArchNative => ScmpArch::Native,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        Arch::ScmpArchM68k => ScmpArch::M68k,
        Arch::ScmpArchSh => ScmpArch::Sh,
        Arch::ScmpArchSheb => ScmpArch::Sheb,
    }
}

/// The architectures of a filter: the machine's own, listed or not, and those of the profile that the machine
/// can run. The kernel never reports a call of any other, and libseccomp takes milliseconds for each.
fn architectures_of(profile: &LinuxSeccomp) -> Vec<ScmpArch> {
    let native = ScmpArch::native();
    let family: &[ScmpArch] = match native {
        ScmpArch::X8664 | ScmpArch::X86 | ScmpArch::X32 => &[ScmpArch::X8664, ScmpArch::X86, ScmpArch::X32],
        ScmpArch::Aarch64 | ScmpArch::Arm => &[ScmpArch::Aarch64, ScmpArch::Arm],
        _ => &[],
    };
    let mut architectures = vec![native];
    for arch in profile.architectures().iter().flatten().map(|&arch| architecture(arch)) {
        let runs = family.is_empty() || family.contains(&arch);
        if runs && arch != ScmpArch::Native && !architectures.contains(&arch) {
            architectures.push(arch);
        }
    }
    architectures
}

/// The ENOSYS stub of a profile.
fn stub(profile: &LinuxSeccomp, architectures: &[ScmpArch]) -> Vec<Instruction> {
    if !enosys::is_wanted(profile) {
        return Vec::new();
    }
    let newest = enosys::newest(names_of(profile), architectures);
    enosys::stub(&newest)
}

fn export(context: &ScmpFilterContext) -> Result<Vec<Instruction>, SeccompError> {
    let file =
        memfd_create("seccomp", MFdFlags::MFD_CLOEXEC).map_err(|errno| SeccompError::Export(errno.into()))?;
    let mut file = File::from(file);
    context.export_bpf(&file).map_err(SeccompError::library("exporting BPF"))?;
    let mut program = Vec::new();
    let read = file.rewind().and_then(|()| file.read_to_end(&mut program));
    read.map(|_| Instruction::all_of(&program)).map_err(|error| SeccompError::Export(Reason::of(&error)))
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
