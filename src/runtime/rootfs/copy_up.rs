//! `tmpcopyup`: a tmpfs that begins with what the image has in its place.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::ffi::CStr;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// Bytes of one copy.
const PIECE: usize = 1 << 20;

/// Levels of directories that are copied.
const DEPTH_LIMIT: u32 = 256;

const INSIDE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// Copies the content of the directory `from`, and its own owner and mode, into `to`.
///
/// # Errors
/// What the kernel reports, `ENAMETOOLONG` for directories too deep inside one another.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let from = rustix::fs::openat(
        from,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | INSIDE,
        Mode::empty(),
    )?;
    let to = rustix::fs::openat(
        to,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | INSIDE,
        Mode::empty(),
    )?;
    copy_directory(&from, &to, 0)
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, depth: u32) -> Result<()> {
    if depth > DEPTH_LIMIT {
        return Err(Errno::NAMETOOLONG);
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        copy_entry(from, to, name, depth)?;
    }
    let own = rustix::fs::fstat(from)?;
    copy_attributes(from.as_fd(), to.as_fd(), &own)
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: u32) -> Result<()> {
    let found = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(found.st_mode);
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | INSIDE;
            let inner = rustix::fs::openat(from, name, flags, Mode::empty())?;
            let made = rustix::fs::openat(to, name, flags, Mode::empty())?;
            copy_directory(&inner, &made, depth + 1)
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | INSIDE;
            let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | INSIDE;
            let made = rustix::fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
            while rustix::fs::sendfile(&made, &source, None, PIECE)? > 0 {}
            copy_attributes(source.as_fd(), made.as_fd(), &found)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(&target, to, name)?;
            own(to, name, &found)
        }
        _ => {
            let mode = Mode::from_raw_mode(found.st_mode & 0o7777);
            rustix::fs::mknodat(to, name, kind, mode, found.st_rdev)?;
            own(to, name, &found)?;
            rustix::fs::chmodat(to, name, mode, AtFlags::empty())
        }
    }
}

fn own(to: &OwnedFd, name: &CStr, found: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, found: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    rustix::fs::fchown(to, Some(uid), Some(gid))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(found.st_mode & 0o7777))?;
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(from, &mut names[..]) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        other => other?,
    };
    for name in names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 64 << 10];
        let size = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        match rustix::fs::fsetxattr(to, name, &value[..size], XattrFlags::empty()) {
            // tmpfs has not every kind, and a user namespace may not set every one.
            Err(Errno::OPNOTSUPP | Errno::PERM) => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_directories_links_and_modes_are_copied() {
        use std::os::unix::fs::PermissionsExt;
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("a/b")).unwrap();
        std::fs::write(from.path().join("a/b/file"), "content").unwrap();
        let mode = std::fs::Permissions::from_mode(0o750);
        std::fs::set_permissions(from.path().join("a"), mode).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", from.path().join("link")).unwrap();
        let open = |path: &std::path::Path| std::fs::File::open(path).unwrap();
        copy(open(from.path()).as_fd(), open(to.path()).as_fd()).unwrap();
        assert_eq!(
            std::fs::read(to.path().join("a/b/file")).unwrap(),
            b"content"
        );
        let mode = std::fs::metadata(to.path().join("a"))
            .unwrap()
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o750);
        let link = std::fs::read_link(to.path().join("link")).unwrap();
        assert_eq!(link, std::path::Path::new("/etc/passwd"));
    }
}
