//! The seccomp filter: compiled by libseccomp before the fork, loaded by the container's process.

use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use rustix::fs::MemfdFlags;
use serde::Serialize;

use crate::error::{Context, Error, Result};
use crate::process::notify::Agent;
use crate::process::{kept_filters, unknown_calls};
use crate::spec::{Argument, Seccomp, Syscalls};

/// A compiled filter.
#[derive(Clone, Debug)]
pub struct Filter {
    program: Vec<u8>,
    flags: u64,
}

impl Filter {
    /// The filter of a profile: the one that is kept below `root` (where states are kept), or
    /// compiled now and kept there.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::Unsupported`] naming the field.
    pub fn of(profile: &Seccomp, root: &Path) -> Result<Self> {
        check_notifications(profile)?;
        let mut flags = flags(&profile.flags)?;
        if notifies(profile) {
            flags |= sys::seccomp::FLAG_NEW_LISTENER;
            if flags & sys::seccomp::FLAG_TSYNC != 0 {
                flags |= sys::seccomp::FLAG_TSYNC_ESRCH;
            }
        }
        let question = Question::of(profile);
        let kept = question
            .as_deref()
            .and_then(|question| kept_filters::load(root, question));
        if let Some(program) = kept {
            return Ok(Self { program, flags });
        }
        let program = Self::compile(profile)?;
        if let Some(question) = question {
            kept_filters::save(root, &question, &program);
        }
        Ok(Self { program, flags })
    }

    /// The instructions of a profile.
    fn compile(profile: &Seccomp) -> Result<Vec<u8>> {
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
        if let Some(newest) = newest_known(profile) {
            program.splice(0..0, unknown_calls::answer_beyond(newest));
        }
        Ok(program)
    }

    /// Loads it for this process and hands the descriptor of notifications to `agent` with
    /// `message`.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn install(&self, agent: Option<&Agent>, message: &[u8]) -> Result<()> {
        let listener =
            sys::seccomp::install(&self.program, self.flags).doing(|| "load the seccomp filter")?;
        match (listener, agent) {
            (Some(listener), Some(agent)) => agent.send(&listener, message),
            _ => Ok(()),
        }
    }
}

/// All that the instructions depend on: what of the profile makes them, and who compiles it for
/// which kernel (libseccomp asks that which actions it knows).
#[derive(Serialize)]
struct Question<'a> {
    /// Size and time of this very program: another build may compile otherwise.
    program: (u64, i64, i64),
    library: String,
    kernel: String,
    machine: &'static str,
    default_action: &'a str,
    default_errno: Option<u32>,
    architectures: &'a [String],
    rules: &'a [Syscalls],
}

impl Question<'_> {
    /// As bytes, the same for the same; none where something about this machine is not known.
    fn of(profile: &Seccomp) -> Option<Vec<u8>> {
        let program = std::fs::metadata("/proc/self/exe").ok()?;
        let library = libseccomp::ScmpVersion::current().ok()?;
        let question = Question {
            program: (program.len(), program.mtime(), program.mtime_nsec()),
            library: library.to_string(),
            kernel: rustix::system::uname().release().to_str().ok()?.to_owned(),
            machine: std::env::consts::ARCH,
            default_action: &profile.default_action,
            default_errno: profile.default_errno_ret,
            architectures: &profile.architectures,
            rules: &profile.syscalls,
        };
        serde_json::to_vec(&question).ok()
    }
}

/// The highest number of a call that a profile names which forbids by default: whoever wrote it
/// knew of no newer one. None where newer ones are allowed.
fn newest_known(profile: &Seccomp) -> Option<u32> {
    let default = profile.default_action.as_str();
    if matches!(
        default,
        "SCMP_ACT_ALLOW" | "SCMP_ACT_LOG" | "SCMP_ACT_TRACE" | "SCMP_ACT_NOTIFY"
    ) {
        return None;
    }
    let names = profile.syscalls.iter().flat_map(|rule| &rule.names);
    let numbers = names.filter_map(|name| ScmpSyscall::from_name(name).ok());
    numbers
        .filter_map(|call| u32::try_from(i32::from(call)).ok())
        .max()
}

/// Whether calls are reported to an agent.
fn notifies(profile: &Seccomp) -> bool {
    let mut rules = profile.syscalls.iter();
    rules.any(|rule| rule.action == "SCMP_ACT_NOTIFY")
}

/// The process hands over the descriptor itself, with the filter in force: calls needed for that
/// cannot wait for an answer.
fn check_notifications(profile: &Seccomp) -> Result<()> {
    if profile.default_action == "SCMP_ACT_NOTIFY" {
        return Err(Error::invalid(
            "linux.seccomp.defaultAction",
            "SCMP_ACT_NOTIFY cannot be the default action",
        ));
    }
    if !notifies(profile) {
        // Nobody is asked, so nobody needs to be reached.
        return Ok(());
    }
    if profile.listener_path.is_empty() {
        return Err(Error::invalid(
            "linux.seccomp.listenerPath",
            "missing, and SCMP_ACT_NOTIFY needs it",
        ));
    }
    for rule in &profile.syscalls {
        let needed = |name: &&String| matches!(name.as_str(), "write" | "sendmsg");
        if rule.action == "SCMP_ACT_NOTIFY"
            && let Some(name) = rule.names.iter().find(needed)
        {
            return Err(Error::invalid(
                "linux.seccomp.syscalls",
                format!("SCMP_ACT_NOTIFY cannot be used for the {name} syscall"),
            ));
        }
    }
    Ok(())
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
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => sys::seccomp::FLAG_WAIT_KILLABLE_RECV,
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
        "SCMP_ACT_NOTIFY" => ScmpAction::Notify,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::filter_names;

    #[test]
    fn the_names_that_callers_are_told_are_known() {
        for name in filter_names::ACTIONS {
            action("defaultAction", name, None).unwrap();
        }
        for name in filter_names::ARCHITECTURES {
            name.parse::<ScmpArch>().unwrap();
        }
        for &name in filter_names::OPERATORS {
            comparison(&Argument {
                op: name.to_owned(),
                ..Argument::default()
            })
            .unwrap();
        }
        let names: Vec<String> = filter_names::FLAGS.iter().map(|&n| n.to_owned()).collect();
        assert_ne!(flags(&names).unwrap(), 0);
    }

    fn profile() -> Seccomp {
        let rule = |names: &[&str], action: &str| Syscalls {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            action: action.to_owned(),
            ..Syscalls::default()
        };
        Seccomp {
            default_action: "SCMP_ACT_ERRNO".to_owned(),
            syscalls: vec![rule(&["read", "write"], "SCMP_ACT_ALLOW")],
            ..Seccomp::default()
        }
    }

    #[test]
    fn a_kept_filter_is_the_one_that_the_profile_compiles_to() {
        let root = tempfile::tempdir().unwrap();
        let compiled = Filter::compile(&profile()).unwrap();
        for time in ["compiled", "kept"] {
            let filter = Filter::of(&profile(), root.path()).unwrap();
            assert_eq!(filter.program, compiled, "{time}");
        }
        let question = Question::of(&profile()).unwrap();
        let kept = kept_filters::load(root.path(), &question);
        assert_eq!(kept.as_deref(), Some(&compiled[..]));
        // Where nothing can be kept it is compiled.
        let missing = root.path().join("missing");
        let filter = Filter::of(&profile(), &missing).unwrap();
        assert_eq!(filter.program, compiled);
    }

    #[test]
    fn every_difference_is_another_question() {
        let changes: [fn(&mut Seccomp); 7] = [
            |_| {},
            |profile| profile.default_action = "SCMP_ACT_KILL".to_owned(),
            |profile| profile.default_errno_ret = Some(38),
            |profile| profile.architectures = vec!["SCMP_ARCH_X86".to_owned()],
            |profile| profile.syscalls[0].action = "SCMP_ACT_LOG".to_owned(),
            |profile| profile.syscalls[0].names.truncate(1),
            |profile| profile.syscalls[0].args = vec![Argument::default()],
        ];
        let questions = changes.map(|change| {
            let mut profile = profile();
            change(&mut profile);
            Question::of(&profile).unwrap()
        });
        let different: std::collections::BTreeSet<_> = questions.iter().collect();
        assert_eq!(different.len(), changes.len());
    }
}
