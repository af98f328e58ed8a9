//! A process of ours inside a container can be reached there as `/proc/PID/exe`. Were that the
//! file on disk, a container could overwrite the runtime (CVE-2019-5736). So the verbs that enter
//! one go on from a view of it that nobody can write to, unless nobody can write to the file itself.

mod copy;
mod overlay;

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, StatVfsMountFlags, StatxAttributes, StatxFlags};

use crate::defence::Defence;
use crate::error::{Context, Result};

const EXECUTABLE: &str = "/proc/self/exe";

/// What lets a container make an immutable file an ordinary one again.
const MAY_THAW: &[u8] = b"LINUX_IMMUTABLE";

/// Goes on from a file that cannot be written to, where this program's own can: then it starts
/// again from its beginning with the same arguments, and this call finds all well. `documents` say
/// which capabilities the container has: of an immutable file they matter.
///
/// # Errors
/// [`crate::error::Error::Os`].
pub fn seal(documents: &[&Path]) -> Result<()> {
    if !Defence::SealedExecutable.is_on() {
        return Ok(());
    }
    let file = File::open(EXECUTABLE).doing(|| format!("open {EXECUTABLE}"))?;
    if is_unwritable(&file, documents)? {
        return Ok(());
    }
    let path = std::fs::read_link(EXECUTABLE).doing(|| format!("read {EXECUTABLE}"))?;
    let again = match overlay::view_of(&file, &path) {
        Ok(view) => view,
        Err(_) => copy::copy_of(&file)?,
    };
    start_again(&again)
}

fn start_again(file: &File) -> Result<()> {
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
    match nix::unistd::fexecve(file.as_fd(), &arguments, &environment) {
        Ok(never) => match never {},
        Err(errno) => Err(errno).doing(|| "execute the sealed runtime"),
    }
}

/// A sealed memory file, a file on a mount that is read-only (the container has no right to that
/// mount, which is the host's or nobody's), one under fs-verity, an immutable one.
fn is_unwritable(file: &File, documents: &[&Path]) -> Result<bool> {
    if rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(copy::SEALS)) {
        return Ok(true);
    }
    let filesystem = rustix::fs::fstatvfs(file).doing(|| format!("statvfs {EXECUTABLE}"))?;
    if filesystem.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    let status = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::empty())
        .doing(|| format!("statx {EXECUTABLE}"))?;
    let attributes = status.stx_attributes & status.stx_attributes_mask;
    if attributes.contains(StatxAttributes::VERITY) {
        return Ok(true);
    }
    Ok(attributes.contains(StatxAttributes::IMMUTABLE) && !may_thaw(documents))
}

/// Whether a document, or an argument, names the capability. One that cannot be read might.
fn may_thaw(documents: &[&Path]) -> bool {
    let names = |text: &[u8]| {
        let mut words = text.windows(MAY_THAW.len());
        words.any(|word| word.eq_ignore_ascii_case(MAY_THAW))
    };
    let mut documents = documents.iter();
    std::env::args_os().any(|argument| names(argument.as_bytes()))
        || documents.any(|path| crate::spec::read_limited(path).map_or(true, |text| names(&text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_gives_the_right_to_thaw_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        for (text, expected) in [
            (r#"["CAP_KILL"]"#, false),
            (r#"["CAP_LINUX_IMMUTABLE"]"#, true),
            (r#"["cap_linux_immutable"]"#, true),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(may_thaw(&[&path]), expected, "{text}");
        }
        assert!(may_thaw(&[&directory.path().join("missing")]));
    }

    #[test]
    fn an_ordinary_file_is_writable_and_a_sealed_copy_is_not() {
        let file = File::open(EXECUTABLE).unwrap();
        let copy = copy::copy_of(&file).unwrap();
        assert!(is_unwritable(&copy, &[]).unwrap());
        let ordinary = tempfile::tempfile().unwrap();
        assert!(!is_unwritable(&ordinary, &[]).unwrap());
    }
}
