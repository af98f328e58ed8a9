//! A process of ours inside a container can be reached there as `/proc/PID/exe`. Were that the
//! file on disk, a container could overwrite the runtime (CVE-2019-5736). So the verbs that enter
//! one go on from a sealed copy in memory, unless the file cannot be written to from there anyway.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags, StatVfsMountFlags};

use crate::defence::Defence;
use crate::error::{Context, Error, Result};

const EXECUTABLE: &str = "/proc/self/exe";

/// Goes on from a sealed copy where needed: then this process's program starts again from its
/// beginning with the same arguments, and this call finds it sealed.
///
/// # Errors
/// [`Error::Os`].
pub fn seal() -> Result<()> {
    if !Defence::SealedExecutable.is_on() {
        return Ok(());
    }
    let file = File::open(EXECUTABLE).doing(|| format!("open {EXECUTABLE}"))?;
    if is_unwritable(&file)? {
        return Ok(());
    }
    let copy = copy_of(&file)?;
    let text = |argument: std::ffi::OsString| CString::new(argument.into_vec());
    let arguments: Vec<CString> = std::env::args_os()
        .map(text)
        .collect::<std::result::Result<_, _>>()
        .map_err(std::io::Error::from)
        .doing(|| "read own arguments")?;
    let environment: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            text(
                [name, "=".into(), value]
                    .into_iter()
                    .collect::<std::ffi::OsString>(),
            )
            .ok()
        })
        .collect();
    match nix::unistd::fexecve(copy.as_fd(), &arguments, &environment) {
        Ok(never) => match never {},
        Err(errno) => Err(errno).doing(|| "execute the sealed copy of the runtime"),
    }
}

/// A sealed memory file, or a file on a mount that is read-only: the container has no right to
/// that mount, which is the host's.
fn is_unwritable(file: &File) -> Result<bool> {
    let wanted = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    if rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(wanted)) {
        return Ok(true);
    }
    let filesystem = rustix::fs::fstatvfs(file).doing(|| format!("statvfs {EXECUTABLE}"))?;
    Ok(filesystem.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn copy_of(file: &File) -> Result<File> {
    let action = || "make a sealed copy of the runtime";
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("brisk-runtime", flags).doing(action)?;
    let size = loaded_size(file)?;
    let mut copied = 0;
    while copied < size {
        let left = usize::try_from(size - copied).unwrap_or(usize::MAX);
        if rustix::fs::sendfile(&memory, file, Some(&mut copied), left).doing(action)? == 0 {
            break;
        }
    }
    if copied < size {
        return Err(Error::invalid(
            EXECUTABLE,
            "is shorter than its headers say",
        ));
    }
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals).doing(action)?;
    Ok(File::from(memory))
}

/// Bytes of the file up to the end of its last loaded segment: symbols and debug information
/// behind it are not needed to run. All of the file where it is not what is expected.
fn loaded_size(file: &File) -> Result<u64> {
    let whole = file
        .metadata()
        .doing(|| format!("stat {EXECUTABLE}"))?
        .len();
    Ok(last_segment_end(file)
        .filter(|&end| end > 0 && end <= whole)
        .unwrap_or(whole))
}

/// Offsets of `Elf64_Ehdr` and `Elf64_Phdr`, elf(5).
fn last_segment_end(file: &File) -> Option<u64> {
    const PT_LOAD: u32 = 1;
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    if header[..5] != *b"\x7fELF\x02" {
        return None;
    }
    let number = |bytes: &[u8]| Some(u64::from_ne_bytes(bytes.try_into().ok()?));
    let table = number(&header[32..40])?;
    let count = u16::from_ne_bytes([header[56], header[57]]);
    let mut end = 0;
    for index in 0..u64::from(count) {
        let mut entry = [0; 56];
        file.read_exact_at(&mut entry, table.checked_add(index * 56)?)
            .ok()?;
        if u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]) == PT_LOAD {
            end = end.max(number(&entry[8..16])?.checked_add(number(&entry[32..40])?)?);
        }
    }
    Some(end)
}
