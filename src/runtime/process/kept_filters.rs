//! Compiled seccomp filters, kept below the root from one container to the next: compiling a
//! profile costs more than all else that `create` does. A file is believed only when nobody else
//! can have written it, when it holds the whole question that it answers, and when its digest is
//! right. Any other is as good as none: it is made again.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use sha2::{Digest, Sha256};

/// Below the root. No container can have a name with a colon.
const DIRECTORY: &str = ".kept:seccomp";

/// First bytes of a file; changed with its form.
const MAGIC: &[u8; 8] = b"briskbp1";

/// Bytes before the question: the first ones and its length.
const HEAD: usize = MAGIC.len() + size_of::<u64>();

/// Bytes of the digest, the last ones of a file, over all before them.
const DIGEST: usize = 32;

/// Files that are kept; one more, and all go.
const LIMIT: usize = 64;

/// Bytes of the largest question that is kept: a profile that names every call is near 12 KiB.
const QUESTION_LIMIT: usize = 1 << 20;

/// Bytes of the largest filter that the kernel takes: `BPF_MAXINSNS` instructions.
const ANSWER_LIMIT: usize = 4096 * INSTRUCTION;

/// Bytes of one instruction.
const INSTRUCTION: usize = 8;

/// The filter kept for `question`, if there is one to be trusted.
pub fn load(root: &Path, question: &[u8]) -> Option<Vec<u8>> {
    let directory = open(&open_root(root)?)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(&directory, name(question), flags, Mode::empty()).ok()?;
    if !is_own(&file, FileType::RegularFile, 0o077) {
        return None;
    }
    let around = HEAD + question.len() + DIGEST;
    let limit = around + ANSWER_LIMIT;
    let mut bytes = Vec::with_capacity(limit + 1);
    let mut file = File::from(file).take(limit as u64 + 1);
    file.read_to_end(&mut bytes).ok()?;
    if bytes.len() > limit {
        return None;
    }
    let (told, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    let answer = told
        .strip_prefix(&head(question)[..])?
        .strip_prefix(question)?;
    let whole = !answer.is_empty() && answer.len().is_multiple_of(INSTRUCTION);
    (whole && Sha256::digest(told).as_slice() == digest).then(|| answer.to_vec())
}

/// Keeps `answer`. That it cannot be kept is no failure: the next one compiles again.
pub fn save(root: &Path, question: &[u8], answer: &[u8]) {
    if question.len() > QUESTION_LIMIT || answer.len() > ANSWER_LIMIT {
        return;
    }
    let Some(root) = open_root(root) else {
        return;
    };
    let _ = rustix::fs::mkdirat(&root, DIRECTORY, Mode::RWXU);
    if let Some(directory) = open(&root)
        && make_room(&directory).is_ok()
    {
        let _ = write(&directory, &name(question), question, answer);
    }
}

/// Whole or not at all, for those who read at the same time.
fn write(directory: &OwnedFd, name: &str, question: &[u8], answer: &[u8]) -> std::io::Result<()> {
    let mut bytes = [&head(question), question, answer].concat();
    bytes.extend_from_slice(&Sha256::digest(&bytes));
    let temporary = format!("{name}.{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
    let written = File::from(file).write_all(&bytes);
    let renamed = written.and_then(|()| {
        Ok(rustix::fs::renameat(
            directory, &temporary, directory, name,
        )?)
    });
    if renamed.is_err() {
        let _ = rustix::fs::unlinkat(directory, &temporary, AtFlags::empty());
    }
    renamed
}

/// The root, unless others can put something in the place of what is in it.
fn open_root(root: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, root, flags, Mode::empty()).ok()?;
    is_own(&root, FileType::Directory, 0o022).then_some(root)
}

fn open(root: &OwnedFd) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(root, DIRECTORY, flags, Mode::empty()).ok()?;
    is_own(&directory, FileType::Directory, 0o077).then_some(directory)
}

/// Whether it is this user's, and nobody else has one of the rights `others` to it.
fn is_own(file: &OwnedFd, kind: FileType, others: u32) -> bool {
    rustix::fs::fstat(file).is_ok_and(|status| {
        FileType::from_raw_mode(status.st_mode) == kind
            && status.st_uid == rustix::process::geteuid().as_raw()
            && status.st_mode & others == 0
    })
}

fn make_room(directory: &OwnedFd) -> std::io::Result<()> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    if names.len() >= LIMIT {
        for name in names {
            rustix::fs::unlinkat(directory, &name, AtFlags::empty())?;
        }
    }
    Ok(())
}

fn head(question: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..MAGIC.len()].copy_from_slice(MAGIC);
    head[MAGIC.len()..].copy_from_slice(&(question.len() as u64).to_ne_bytes());
    head
}

fn name(question: &[u8]) -> String {
    use std::fmt::Write;
    let digest = Sha256::digest(question);
    digest.iter().fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const ANSWER: &[u8] = b"8 bytes.";

    fn file(root: &Path, question: &[u8]) -> PathBuf {
        root.join(DIRECTORY).join(name(question))
    }

    #[test]
    fn what_was_kept_answers_its_own_question_alone() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(load(root.path(), b"one"), None);
        save(root.path(), b"one", ANSWER);
        assert_eq!(load(root.path(), b"one").as_deref(), Some(ANSWER));
        assert_eq!(load(root.path(), b"two"), None);
        // The wrong one, whole and with a right digest, under the name of another.
        std::fs::rename(file(root.path(), b"one"), file(root.path(), b"two")).unwrap();
        assert_eq!(load(root.path(), b"two"), None);
        // A question that begins like another takes nothing of its answer for itself.
        save(root.path(), b"one8 bytes.", ANSWER);
        std::fs::rename(file(root.path(), b"one8 bytes."), file(root.path(), b"one")).unwrap();
        assert_eq!(load(root.path(), b"one"), None);
    }

    #[test]
    fn a_damaged_one_is_not_believed_and_is_made_again() {
        let root = tempfile::tempdir().unwrap();
        save(root.path(), b"one", ANSWER);
        let path = file(root.path(), b"one");
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(load(root.path(), b"one"), None, "{length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(load(root.path(), b"one"), None, "{bit}");
        }
        std::fs::write(&path, vec![0; whole.len() + ANSWER_LIMIT]).unwrap();
        assert_eq!(load(root.path(), b"one"), None, "too long");
        save(root.path(), b"one", ANSWER);
        assert_eq!(load(root.path(), b"one").as_deref(), Some(ANSWER));
    }

    #[test]
    fn what_others_may_have_written_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        save(root.path(), b"one", ANSWER);
        let (directory, path) = (root.path().join(DIRECTORY), file(root.path(), b"one"));
        let change = |path: &Path, bits: u32| {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode ^ bits)).unwrap();
        };
        for (path, bits) in [
            (root.path(), 0o020),
            (root.path(), 0o002),
            (&directory, 0o020),
            (&path, 0o002),
        ] {
            change(path, bits);
            assert_eq!(load(root.path(), b"one"), None, "{}", path.display());
            save(root.path(), b"two", ANSWER);
            change(path, bits);
        }
        if rustix::process::geteuid().is_root() {
            for path in [&root.path().to_owned(), &directory, &path] {
                std::os::unix::fs::chown(path, Some(1), None).unwrap();
                assert_eq!(load(root.path(), b"one"), None, "{}", path.display());
                std::os::unix::fs::chown(path, Some(0), None).unwrap();
            }
        }
        assert_eq!(load(root.path(), b"one").as_deref(), Some(ANSWER));
        for path in [&path, &directory] {
            let aside = root.path().join("aside");
            std::fs::rename(path, &aside).unwrap();
            std::os::unix::fs::symlink(&aside, path).unwrap();
            assert_eq!(load(root.path(), b"one"), None, "a link");
            std::fs::remove_file(path).unwrap();
            std::fs::rename(&aside, path).unwrap();
        }
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..=LIMIT {
            save(root.path(), number.to_string().as_bytes(), ANSWER);
        }
        let kept = std::fs::read_dir(root.path().join(DIRECTORY)).unwrap();
        assert_eq!(kept.count(), 1);
        save(root.path(), b"long", &vec![0; ANSWER_LIMIT + INSTRUCTION]);
        assert_eq!(load(root.path(), b"long"), None);
    }
}
