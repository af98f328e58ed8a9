//! The default seccomp profile: Docker's and containerd's, from the table beside it.

use super::seccomp_table as table;
use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};
use std::collections::{BTreeSet, HashSet};

/// The profile for a container with these capabilities (its bounding set).
pub fn profile(capabilities: &HashSet<Capability>) -> LinuxSeccomp {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    names.extend(table::ALWAYS);
    names.extend(table::TRACING);
    names.extend(table::OF_ARCHITECTURE);
    for (capability, allowed) in table::WITH_CAPABILITY {
        if capabilities.contains(capability) {
            names.extend(*allowed);
        }
    }
    let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    let mut syscalls = vec![rule(names, LinuxSeccompAction::ScmpActAllow)];
    for value in table::PERSONALITIES {
        syscalls.push(allow_if(
            "personality",
            0,
            LinuxSeccompOperator::ScmpCmpEq,
            value,
            None,
        ));
    }
    let not_equal = LinuxSeccompOperator::ScmpCmpNe;
    syscalls.push(allow_if("socket", 0, not_equal, table::AF_VSOCK, None));
    if !capabilities.contains(&Capability::SysAdmin) {
        let masked = LinuxSeccompOperator::ScmpCmpMaskedEq;
        syscalls.push(allow_if(
            "clone",
            clone_flags_argument(),
            masked,
            table::CLONE_NAMESPACES,
            Some(0),
        ));
        let mut clone3 = rule(vec!["clone3".to_owned()], LinuxSeccompAction::ScmpActErrno);
        clone3.set_errno_ret(Some(table::ENOSYS));
        syscalls.push(clone3);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(table::EPERM)
        .architectures(architectures())
        .syscalls(syscalls)
        .build()
        .expect("every field has a default")
}

fn rule(names: Vec<String>, action: LinuxSeccompAction) -> LinuxSyscall {
    LinuxSyscallBuilder::default()
        .names(names)
        .action(action)
        .build()
        .expect("every field has a default")
}

/// Allows one call where its argument `index` compares so.
fn allow_if(
    name: &str,
    index: usize,
    operator: LinuxSeccompOperator,
    value: u64,
    second: Option<u64>,
) -> LinuxSyscall {
    let mut argument = LinuxSeccompArgBuilder::default()
        .index(index)
        .value(value)
        .op(operator);
    if let Some(second) = second {
        argument = argument.value_two(second);
    }
    let argument = argument.build().expect("every field has a default");
    let mut rule = rule(vec![name.to_owned()], LinuxSeccompAction::ScmpActAllow);
    rule.set_args(Some(vec![argument]));
    rule
}

/// clone(2)'s arguments are swapped on s390.
const fn clone_flags_argument() -> usize {
    if cfg!(target_arch = "s390x") { 1 } else { 0 }
}

/// The processor's own call tables and those of its 32-bit modes.
fn architectures() -> Vec<Arch> {
    if cfg!(target_arch = "x86_64") {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    } else if cfg!(target_arch = "aarch64") {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    } else if cfg!(target_arch = "riscv64") {
        vec![Arch::ScmpArchRiscv64]
    } else {
        vec![Arch::ScmpArchNative]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(profile: &LinuxSeccomp, name: &str) -> bool {
        profile.syscalls().as_ref().unwrap().iter().any(|rule| {
            rule.action() == LinuxSeccompAction::ScmpActAllow
                && rule.args().is_none()
                && rule.names().iter().any(|present| present == name)
        })
    }

    fn conditional(profile: &LinuxSeccomp, name: &str) -> usize {
        let names_it = |rule: &&LinuxSyscall| rule.names().len() == 1 && rule.names()[0] == name;
        let rules = profile.syscalls().as_ref().unwrap();
        rules
            .iter()
            .filter(names_it)
            .filter(|rule| rule.args().is_some())
            .count()
    }

    #[test]
    fn an_ordinary_container() {
        let profile = profile(&HashSet::from([Capability::SysChroot]));
        assert!(allowed(&profile, "read") && allowed(&profile, "chroot"));
        for name in [
            "mount",
            "unshare",
            "bpf",
            "keyctl",
            "io_uring_setup",
            "kexec_load",
            "clone",
        ] {
            assert!(!allowed(&profile, name), "{name}");
        }
        assert_eq!(conditional(&profile, "clone"), 1);
        assert_eq!(conditional(&profile, "personality"), 5);
        assert_eq!(conditional(&profile, "socket"), 1);
        let clone3 = profile.syscalls().as_ref().unwrap().last().unwrap();
        assert_eq!(clone3.names(), &["clone3"]);
        assert_eq!(clone3.errno_ret(), Some(38));
    }

    #[test]
    fn sys_admin_opens_namespaces() {
        let profile = profile(&HashSet::from([Capability::SysAdmin]));
        for name in ["mount", "unshare", "clone", "clone3"] {
            assert!(allowed(&profile, name), "{name}");
        }
        assert_eq!(conditional(&profile, "clone"), 0);
    }

    #[test]
    fn the_table_is_sorted_and_has_no_doubles() {
        assert!(table::ALWAYS.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(table::ALWAYS.len() > 330, "{}", table::ALWAYS.len());
    }
}
