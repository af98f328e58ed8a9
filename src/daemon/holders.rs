//! Which containers hold a mount, on disk so that it outlives the service.
//!
//! ```text
//! mounts/ID/tree               the mount point
//! mounts/ID/holders/CONTAINER  an empty file for each container, or remote snapshot of containerd
//! ```

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use brisk_mount::MountId;

/// What the names of holders begin with that are snapshots.
const SNAPSHOT: &str = "snapshot:";

/// The mount directories below one root.
#[derive(Clone, Debug)]
pub struct Holders {
    mounts: PathBuf,
    containers: PathBuf,
}

impl Holders {
    /// The mount directories below `root`.
    pub fn new(root: &Path) -> Self {
        Holders {
            mounts: root.join("mounts"),
            containers: root.join("containers"),
        }
    }

    /// Makes the directories of a new mount; gives its mount point.
    pub fn create(&self, id: &MountId) -> io::Result<PathBuf> {
        use std::os::unix::fs::DirBuilderExt;
        let tree = self.mounts.join(&id.0).join("tree");
        for directory in [&tree, &self.mounts.join(&id.0).join("holders")] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)?;
        }
        Ok(tree)
    }

    /// Removes the directories of a mount that is no more.
    pub fn remove(&self, id: &MountId) {
        let _ = fs::remove_dir_all(self.mounts.join(&id.0).join("holders"));
        let _ = fs::remove_file(self.place(id));
        // Not recursive: where something is still mounted, this must fail, not delete.
        let _ = fs::remove_dir(self.mounts.join(&id.0).join("tree"));
        let _ = fs::remove_dir(self.mounts.join(&id.0));
    }

    /// A container holds the mount from now on.
    pub fn hold(&self, id: &MountId, container: &str) -> io::Result<()> {
        fs::write(self.mounts.join(&id.0).join("holders").join(container), b"")
    }

    /// A container holds the mount no longer.
    pub fn let_go(&self, id: &MountId, container: &str) {
        let _ = fs::remove_file(self.mounts.join(&id.0).join("holders").join(container));
    }

    /// The containers that hold a mount.
    pub fn of(&self, id: &MountId) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.mounts.join(&id.0).join("holders"))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// True where the container's own directory is gone: its client died before it let go. What
    /// snapshots hold is known to those who keep them.
    pub fn is_stale(&self, container: &str) -> bool {
        snapshot_number(container).is_none() && !self.containers.join(container).exists()
    }

    /// Notes where a user's own mount is, so that it can be taken away when both its service and
    /// its keeper have died.
    pub fn note_place(&self, id: &MountId, directory: &Path) -> io::Result<()> {
        self.create(id)?;
        fs::write(self.place(id), directory.as_os_str().as_bytes())
    }

    fn place(&self, id: &MountId) -> PathBuf {
        self.mounts.join(&id.0).join("place")
    }

    /// Takes away what is still mounted for a mount that nobody holds any more.
    fn unmount(&self, id: &MountId) {
        let detach = |directory: &Path| {
            let _ = nix::mount::umount2(directory, nix::mount::MntFlags::MNT_DETACH);
        };
        // Nobody else mounts there.
        detach(&self.mounts.join(&id.0).join("tree"));
        let Ok(place) = fs::read(self.place(id)) else {
            return;
        };
        // Somebody else may have mounted there since. Only statfs always asks the server: what
        // stat says of a dead mount may come from the kernel's cache.
        let place = PathBuf::from(OsString::from_vec(place));
        if nix::sys::statfs::statfs(&place).err() == Some(nix::errno::Errno::ENOTCONN) {
            detach(&place);
        }
    }

    /// Removes the directories of mounts that nobody knows any more, and what is mounted there.
    pub fn sweep(&self, known: &[MountId]) {
        for entry in fs::read_dir(&self.mounts).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let id = MountId(name);
            if !known.contains(&id) {
                self.unmount(&id);
                self.remove(&id);
            }
        }
    }
}

/// The holder that a snapshot is. No container can have that name.
pub fn snapshot_holder(number: u64) -> String {
    format!("{SNAPSHOT}{number}")
}

/// The number of the snapshot that a holder is.
pub fn snapshot_number(holder: &str) -> Option<u64> {
    holder.strip_prefix(SNAPSHOT)?.parse().ok()
}

/// A name is used as a file name: one component, short, nothing hidden.
pub fn is_container_name(name: &str) -> bool {
    let is_safe = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(is_safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_survive_and_directories_go_with_the_mount() {
        let root = tempfile::tempdir().unwrap();
        let holders = Holders::new(root.path());
        let id = MountId("m1".to_owned());
        let tree = holders.create(&id).unwrap();
        assert!(tree.is_dir());
        holders.hold(&id, "b").unwrap();
        holders.hold(&id, "a").unwrap();
        assert_eq!(Holders::new(root.path()).of(&id), ["a", "b"]);
        holders.let_go(&id, "a");
        assert_eq!(holders.of(&id), ["b"]);
        assert!(holders.is_stale("b"));
        holders.sweep(std::slice::from_ref(&id));
        assert!(tree.is_dir());
        holders.sweep(&[]);
        assert!(!tree.exists());
    }

    #[test]
    fn snapshots_are_never_stale_and_no_containers() {
        let root = tempfile::tempdir().unwrap();
        let name = snapshot_holder(12);
        assert_eq!(snapshot_number(&name), Some(12));
        assert_eq!(snapshot_number("12"), None);
        assert!(!Holders::new(root.path()).is_stale(&name));
        assert!(!is_container_name(&name));
    }

    #[test]
    fn a_name_that_is_a_path_is_none() {
        assert!(is_container_name("web-1.a_b"));
        for name in ["", ".", "..", "a/b", ".hidden", "ä"] {
            assert!(!is_container_name(name), "{name}");
        }
    }
}
