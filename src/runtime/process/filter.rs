//! The seccomp filter: compiled by libseccomp before the fork, loaded by the container's process.

use std::io::{Read, Seek};

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use rustix::fs::MemfdFlags;

use crate::error::{Context, Error, Result};
use crate::spec::{Argument, Seccomp, Syscalls};

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct Filter {
    program: Vec<u8>,
    flags: u64,
}

impl Filter {
    /// Compiles a profile.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::Unsupported`] naming the field.
    pub fn compile(profile: &Seccomp) -> Result<Self> {
        let default = action(
            "defaultAction",
            &profile.default_action,
            profile.default_errno_ret,
        )?;
        let mut context = ScmpFilterContext::new(default).map_err(refused)?;
        for name in &profile.architectures {
            let arch: ScmpArch = name
                .parse()
                .map_err(|_| Error::invalid("linux.seccomp.architectures", name.as_str()))?;
            context.add_arch(arch).map_err(refused)?;
        }
        // no_new_privs is the process's own setting.
        context.set_ctl_nnp(false).map_err(refused)?;
        for rule in &profile.syscalls {
            add(&mut context, rule, default)?;
        }
        let memory = rustix::fs::memfd_create("filter", MemfdFlags::CLOEXEC)
            .doing(|| "make a memfd for the seccomp filter")?;
        context.export_bpf(&memory).map_err(refused)?;
        let mut file = std::fs::File::from(memory);
        let mut program = Vec::new();
        file.rewind().doing(|| "rewind the seccomp filter")?;
        file.read_to_end(&mut program)
            .doing(|| "read the seccomp filter")?;
        Ok(Self {
            program,
            flags: flags(&profile.flags)?,
        })
    }

    /// Loads it for this process.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn install(&self) -> Result<()> {
        sys::seccomp::install(&self.program, self.flags).doing(|| "load the seccomp filter")
    }
}

fn refused(error: libseccomp::error::SeccompError) -> Error {
    Error::invalid("linux.seccomp", error.to_string())
}

fn flags(names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |flags, name| {
        Ok(flags
            | match name.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => sys::seccomp::FLAG_TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => sys::seccomp::FLAG_LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => sys::seccomp::FLAG_SPEC_ALLOW,
                other => return Err(Error::unsupported("linux.seccomp.flags", other)),
            })
    })
}

fn action(field: &str, name: &str, errno: Option<u32>) -> Result<ScmpAction> {
    let field = format!("linux.seccomp.{field}");
    // The specification's default is EPERM, for SCMP_ACT_TRACE too.
    let number = errno.unwrap_or(nix::libc::EPERM.unsigned_abs());
    let number =
        u16::try_from(number).map_err(|_| Error::invalid(field.clone(), "errnoRet too large"))?;
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(i32::from(number)),
        "SCMP_ACT_TRACE" => ScmpAction::Trace(number),
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        "SCMP_ACT_NOTIFY" => return Err(Error::unsupported(field, "SCMP_ACT_NOTIFY")),
        other => return Err(Error::invalid(field, other)),
    })
}

fn add(context: &mut ScmpFilterContext, rule: &Syscalls, default: ScmpAction) -> Result<()> {
    let action = action("syscalls.action", &rule.action, rule.errno_ret)?;
    if action == default {
        return Ok(());
    }
    let comparisons: Vec<ScmpArgCompare> =
        rule.args.iter().map(comparison).collect::<Result<_>>()?;
    // libseccomp takes one condition per argument in a rule: where an argument comes twice, the
    // conditions are alternatives, as runc has it.
    let mut seen = [false; 6];
    let repeated = rule.args.iter().any(|argument| {
        let index = argument.index as usize;
        index >= seen.len() || std::mem::replace(&mut seen[index], true)
    });
    for name in &rule.names {
        // Profiles name calls that this machine's architecture or libseccomp has not got.
        let Ok(syscall) = ScmpSyscall::from_name(name) else {
            continue;
        };
        if comparisons.is_empty() {
            context.add_rule(action, syscall).map_err(refused)?;
        } else if repeated {
            for comparison in &comparisons {
                context
                    .add_rule_conditional(action, syscall, &[*comparison])
                    .map_err(refused)?;
            }
        } else {
            context
                .add_rule_conditional(action, syscall, &comparisons)
                .map_err(refused)?;
        }
    }
    Ok(())
}

fn comparison(argument: &Argument) -> Result<ScmpArgCompare> {
    if argument.index > 5 {
        return Err(Error::invalid(
            "linux.seccomp.syscalls.args.index",
            "above 5",
        ));
    }
    let (operator, value) = match argument.op.as_str() {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, argument.value),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, argument.value),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, argument.value),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, argument.value),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, argument.value),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, argument.value),
        // The specification's first value is the mask, its second what is compared with.
        "SCMP_CMP_MASKED_EQ" => (
            ScmpCompareOp::MaskedEqual(argument.value),
            argument.value_two,
        ),
        other => return Err(Error::invalid("linux.seccomp.syscalls.args.op", other)),
    };
    Ok(ScmpArgCompare::new(argument.index, operator, value))
}
