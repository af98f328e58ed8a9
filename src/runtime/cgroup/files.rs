//! Single cgroup files and directories.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};
use crate::fault;
use crate::spec::{HugepageLimit, Rdma};

/// Depth of the cgroups below a container's that are looked at.
const DEPTH_LIMIT: u32 = 32;

/// How long a directory may stay busy after its last process was reaped: the kernel empties a
/// cgroup a little after the exit is seen.
const BUSY_LIMIT: Duration = Duration::from_millis(500);

/// Writes `value` in one write(2), as cgroup files want it.
///
/// # Errors
/// [`crate::error::Error::Os`] naming file and value.
pub fn write(directory: &Path, name: &str, value: &str) -> Result<()> {
    write_raw(directory, name, value)
        .doing(|| format!("write {value:?} to {}", directory.join(name).display()))
}

/// [`write`] with the plain error.
pub fn write_raw(directory: &Path, name: &str, value: &str) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .open(directory.join(name))?;
    file.write_all(value.as_bytes())
}

/// [`write`] of a limit that `field` asks for.
///
/// # Errors
/// [`Error::Unsupported`] where the kernel has no such file, [`Error::Os`] naming field, file and
/// value.
pub fn write_limit(directory: &Path, field: &str, name: &str, value: &str) -> Result<()> {
    match write_raw(directory, name, value) {
        Err(error) if error.kind() == ErrorKind::NotFound && directory.exists() => {
            let reason = format!("there is no {} here", directory.join(name).display());
            Err(Error::unsupported(field, reason))
        }
        other => other.doing(|| {
            let path = directory.join(name);
            format!("set {field}: write {value:?} to {}", path.display())
        }),
    }
}

/// Limits are negative where there is none.
pub fn or_max(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// The number in a file; `max` is the largest.
///
/// # Errors
/// [`Error::Os`] naming the file.
pub fn read_number(directory: &Path, name: &str) -> Result<u64> {
    let text = read(directory, name)?;
    if text == "max" {
        return Ok(u64::MAX);
    }
    text.parse()
        .map_err(std::io::Error::other)
        .doing(|| format!("read a number from {}", directory.join(name).display()))
}

/// Refuses a limit that the memory in use is beyond, which would have the kernel kill for it.
///
/// # Errors
/// [`Error::Invalid`] naming the field.
pub fn check_usage(field: &str, limit: i64, usage: u64) -> Result<()> {
    if u64::try_from(limit).is_ok_and(|limit| limit < usage) {
        let reason = format!("{limit} is below the {usage} bytes in use");
        return Err(Error::invalid(field, reason));
    }
    Ok(())
}

/// Writes a limit of huge pages, and that of their reservation where the kernel counts it.
///
/// # Errors
/// As [`write_limit`]; [`Error::Invalid`] for a page size that is none.
pub fn write_hugepages(directory: &Path, limit: &HugepageLimit, suffix: &str) -> Result<()> {
    let field = "linux.resources.hugepageLimits";
    let size = &limit.page_size;
    // It becomes part of a file's name.
    if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Error::invalid(format!("{field}.pageSize"), size.clone()));
    }
    let value = limit.limit.to_string();
    write_limit(
        directory,
        field,
        &format!("hugetlb.{size}.{suffix}"),
        &value,
    )?;
    let reservation = format!("hugetlb.{size}.rsvd.{suffix}");
    if directory.join(&reservation).exists() {
        write_limit(directory, field, &reservation, &value)?;
    }
    Ok(())
}

/// Writes limits of RDMA devices; the file is the same in both versions.
///
/// # Errors
/// As [`write_limit`].
pub fn write_rdma(directory: &Path, limits: &BTreeMap<String, Rdma>) -> Result<()> {
    for (device, limit) in limits {
        let mut line = device.clone();
        for (key, value) in [
            ("hca_handle", limit.hca_handles),
            ("hca_object", limit.hca_objects),
        ] {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        write_limit(directory, "linux.resources.rdma", "rdma.max", &line)?;
    }
    Ok(())
}

/// The file's text without the newline.
///
/// # Errors
/// [`crate::error::Error::Os`] naming the file.
pub fn read(directory: &Path, name: &str) -> Result<String> {
    let path = directory.join(name);
    let text = std::fs::read_to_string(&path).doing(|| format!("read {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// Adds the processes of `directory` and of all below it. A directory that is gone has none.
///
/// # Errors
/// [`crate::error::Error::Os`] naming the file.
pub fn collect_processes(directory: &Path, found: &mut Vec<i32>, depth: u32) -> Result<()> {
    let path = directory.join("cgroup.procs");
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // ENODEV: removed between the open and the read.
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => return Ok(()),
        other => other.doing(|| format!("read {}", path.display()))?,
    };
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    if depth < DEPTH_LIMIT {
        for child in subdirectories(directory) {
            collect_processes(&child, found, depth + 1)?;
        }
    }
    Ok(())
}

/// Makes a directory, and those above it.
pub fn make(directory: &Path) -> std::io::Result<()> {
    fault::point();
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => std::fs::create_dir_all(directory),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// The directories above `directory` that making it would make too, the deepest first.
pub fn missing_above(directory: &Path) -> impl Iterator<Item = &Path> {
    let above = directory.ancestors().skip(1);
    above.take_while(|path| !path.exists())
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Vec::new();
    };
    let directories = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}

/// Removes `directory` and those below it, waiting a little for one that is still busy.
pub fn remove_tree(directory: &Path, depth: u32) {
    let deadline = Instant::now() + BUSY_LIMIT;
    fault::point();
    loop {
        match std::fs::remove_dir(directory) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                if depth < DEPTH_LIMIT {
                    for child in subdirectories(directory) {
                        remove_tree(&child, depth + 1);
                    }
                }
            }
            _ => return,
        }
        if std::fs::remove_dir(directory).is_ok() || Instant::now() > deadline {
            return;
        }
        pause_briefly();
    }
}

/// The pace of polling a cgroup file, which cannot be waited on in version 1.
#[expect(
    clippy::disallowed_methods,
    reason = "version 1 cgroups have no event to wait for"
)]
pub fn pause_briefly() {
    std::thread::sleep(Duration::from_millis(1));
}
