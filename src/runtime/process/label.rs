//! Labels of AppArmor and SELinux for the program to come.

use std::io::Write;
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::{Context, Error, Result};
use crate::procfs::Procfs;
use crate::spec::Process;

/// Files of this process that take a label at the next exec, opened while procfs is the host's.
#[derive(Debug, Default)]
pub struct Labels {
    apparmor: Option<std::fs::File>,
    selinux: Option<std::fs::File>,
}

/// Whether the kernel confines by AppArmor.
#[must_use]
pub fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'))
}

/// Whether the kernel has a SELinux policy loaded.
#[must_use]
pub fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Refuses labels that this kernel cannot give.
///
/// # Errors
/// [`Error::Unsupported`] naming the property.
pub fn check(process: &Process, mount_label: &str) -> Result<()> {
    if !process.apparmor_profile.is_empty() && !has_apparmor() {
        return Err(Error::unsupported(
            "process.apparmorProfile",
            "the kernel has no AppArmor enabled; remove the property",
        ));
    }
    for (field, label) in [
        ("process.selinuxLabel", process.selinux_label.as_str()),
        ("linux.mountLabel", mount_label),
    ] {
        if !label.is_empty() && !has_selinux() {
            return Err(Error::unsupported(
                field,
                "the kernel has no SELinux enabled; remove the property",
            ));
        }
    }
    Ok(())
}

impl Labels {
    /// Opens what `process` needs, before the container's tree is entered.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn open(process: &Process) -> Result<Self> {
        if process.apparmor_profile.is_empty() && process.selinux_label.is_empty() {
            return Ok(Self::default());
        }
        let procfs = Procfs::of_host()?;
        let own = procfs.own()?;
        let open = |name: &str| -> Result<std::fs::File> {
            procfs
                .open(&own.join(name), OFlags::WRONLY)
                .doing(|| format!("open {name} of this process"))
                .map(std::fs::File::from)
        };
        let mut labels = Self::default();
        if !process.apparmor_profile.is_empty() {
            labels.apparmor = Some(open("attr/apparmor/exec").or_else(|_| open("attr/exec"))?);
        }
        if !process.selinux_label.is_empty() {
            labels.selinux = Some(open("attr/exec")?);
        }
        Ok(labels)
    }

    /// Sets the labels for the next exec.
    ///
    /// # Errors
    /// [`Error::Os`] naming the property.
    pub fn set(&self, process: &Process) -> Result<()> {
        if let Some(mut file) = self.apparmor.as_ref() {
            let profile = &process.apparmor_profile;
            file.write_all(format!("exec {profile}").as_bytes())
                .doing(|| format!("set process.apparmorProfile to {profile:?}"))?;
        }
        if let Some(mut file) = self.selinux.as_ref() {
            let label = &process.selinux_label;
            file.write_all(label.as_bytes())
                .doing(|| format!("set process.selinuxLabel to {label:?}"))?;
        }
        Ok(())
    }
}
