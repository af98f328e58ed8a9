//! A copy of the runtime's file in sealed memory: works everywhere, and costs the copying.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags};

use crate::container::sealed::EXECUTABLE;
use crate::error::{Context, Error, Result};

/// What keeps a memory file as it is.
pub const SEALS: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW);

/// The copy, ready to be executed.
///
/// # Errors
/// [`Error::Os`].
pub fn copy_of(file: &File) -> Result<File> {
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
    rustix::fs::fcntl_add_seals(&memory, SEALS | SealFlags::SEAL).doing(action)?;
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
