//! What the specification asks for is checked whole before anything is made; what this runtime
//! does not do is refused by name.

use crate::error::{Error, Result};
use crate::spec::{Linux, NamespaceKind, Process, Spec};

/// Refuses what contradicts itself and what is not supported.
///
/// # Errors
/// [`Error::Invalid`] and [`Error::Unsupported`], naming the field.
pub fn check(spec: &Spec) -> Result<()> {
    if !spec.oci_version.starts_with("1.") {
        let version = if spec.oci_version.is_empty() {
            "missing"
        } else {
            &spec.oci_version
        };
        return Err(Error::invalid("ociVersion", format!("{version}, want 1.x")));
    }
    let root = spec
        .root
        .as_ref()
        .ok_or_else(|| Error::invalid("root", "missing"))?;
    if root.path.is_empty() {
        return Err(Error::invalid("root.path", "empty"));
    }
    let other_systems = [
        ("solaris", spec.solaris.is_some()),
        ("windows", spec.windows.is_some()),
        ("vm", spec.vm.is_some()),
        ("zos", spec.zos.is_some()),
    ];
    refuse(&other_systems, "this runtime makes Linux containers")?;
    if let Some(process) = &spec.process {
        check_process(process)?;
    }
    for mount in &spec.mounts {
        if mount.destination.is_empty() {
            return Err(Error::invalid("mounts.destination", "empty"));
        }
        if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
            return Err(Error::invalid(
                format!("mounts.uidMappings of {}", mount.destination),
                "uidMappings and gidMappings belong together",
            ));
        }
    }
    let default = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&default);
    check_linux(linux)?;
    check_mounts(spec, linux)?;
    check_names(spec, linux)
}

fn refuse(fields: &[(&str, bool)], reason: &str) -> Result<()> {
    match fields.iter().find(|(_, present)| *present) {
        Some((field, _)) => Err(Error::unsupported(*field, reason)),
        None => Ok(()),
    }
}

/// Checks a process document, of `config.json` or of `exec --process`.
///
/// # Errors
/// As [`check`].
pub fn check_process(process: &Process) -> Result<()> {
    if process.args.is_empty() {
        return Err(Error::invalid(
            "process.args",
            "empty: there is nothing to run",
        ));
    }
    if !process.cwd.starts_with('/') {
        return Err(Error::invalid("process.cwd", "not an absolute path"));
    }
    let strings = process.args.iter().chain(&process.env);
    if strings
        .chain([&process.cwd])
        .any(|text| text.contains('\0'))
    {
        return Err(Error::invalid(
            "process",
            "args, env or cwd contain a NUL byte",
        ));
    }
    Ok(())
}

fn check_linux(linux: &Linux) -> Result<()> {
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        let rest = &linux.namespaces[index + 1..];
        if rest.iter().any(|other| other.kind == namespace.kind) {
            let field = format!("linux.namespaces {}", namespace.kind.file());
            return Err(Error::invalid(field, "listed twice"));
        }
    }
    check_user_namespace(linux)?;
    if !linux.time_offsets.is_empty() && !linux.makes(NamespaceKind::Time) {
        return Err(Error::invalid(
            "linux.timeOffsets",
            "no new time namespace is asked for",
        ));
    }
    match linux.rootfs_propagation.as_str() {
        "" | "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" | "unbindable"
        | "runbindable" => Ok(()),
        other => Err(Error::invalid("linux.rootfsPropagation", other)),
    }
}

fn check_user_namespace(linux: &Linux) -> Result<()> {
    let mapped = !linux.uid_mappings.is_empty() && !linux.gid_mappings.is_empty();
    let makes = linux.makes(NamespaceKind::User);
    if makes && !mapped {
        return Err(Error::invalid(
            "linux.uidMappings",
            "a user namespace needs both mappings",
        ));
    }
    // One that is joined has its maps; documents repeat them.
    let has = linux.namespace(NamespaceKind::User).is_some();
    if !has && (!linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty()) {
        return Err(Error::invalid(
            "linux.uidMappings",
            "no user namespace is asked for",
        ));
    }
    Ok(())
}

/// Without a mount namespace of its own a container can have no mounts: they would be the host's,
/// or those of whom the namespace belongs to.
fn check_mounts(spec: &Spec, linux: &Linux) -> Result<()> {
    if linux.makes(NamespaceKind::Mount) {
        return Ok(());
    }
    let read_only = spec.root.as_ref().is_some_and(|root| root.readonly);
    let wanted = [
        ("mounts", !spec.mounts.is_empty()),
        ("root.readonly", read_only),
        ("linux.maskedPaths", !linux.masked_paths.is_empty()),
        ("linux.readonlyPaths", !linux.readonly_paths.is_empty()),
        ("linux.devices", !linux.devices.is_empty()),
        (
            "linux.rootfsPropagation",
            !linux.rootfs_propagation.is_empty(),
        ),
    ];
    match wanted.iter().find(|(_, present)| *present) {
        Some((field, _)) => Err(Error::invalid(
            *field,
            "needs a new mount namespace in linux.namespaces",
        )),
        None => Ok(()),
    }
}

fn check_names(spec: &Spec, linux: &Linux) -> Result<()> {
    let has_uts = linux.namespace(NamespaceKind::Uts).is_some();
    if !spec.hostname.is_empty() && !has_uts {
        return Err(Error::invalid(
            "hostname",
            "without a uts namespace it would be the host's",
        ));
    }
    if !spec.domainname.is_empty() && !has_uts {
        return Err(Error::invalid(
            "domainname",
            "without a uts namespace it would be the host's",
        ));
    }
    for key in linux.sysctl.keys() {
        let kind = match key.split(['.', '/']).next() {
            Some("net") => NamespaceKind::Network,
            Some("kernel") if is_uts_sysctl(key) => NamespaceKind::Uts,
            Some("kernel") if is_ipc_sysctl(key) => NamespaceKind::Ipc,
            Some("fs") if key.starts_with("fs.mqueue.") => NamespaceKind::Ipc,
            _ => {
                return Err(Error::invalid(
                    format!("linux.sysctl {key}"),
                    "not namespaced",
                ));
            }
        };
        if linux.namespace(kind).is_none() {
            let reason = format!("needs a {} namespace of its own", kind.file());
            return Err(Error::invalid(format!("linux.sysctl {key}"), reason));
        }
    }
    Ok(())
}

fn is_uts_sysctl(key: &str) -> bool {
    matches!(key, "kernel.domainname" | "kernel.hostname")
}

fn is_ipc_sysctl(key: &str) -> bool {
    let name = key.trim_start_matches("kernel.");
    matches!(
        name,
        "msgmax" | "msgmnb" | "msgmni" | "sem" | "shmall" | "shmmax" | "shmmni"
    ) || name == "shm_rmid_forced"
}
