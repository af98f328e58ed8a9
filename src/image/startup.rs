//! The start-up sets that a root has recorded, by image and command.
//!
//! ```text
//! startup/MANIFEST/COMMAND.set     MANIFEST: digest of the image manifest; COMMAND: see `command_digest`
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use index_format::Digest;
use index_format::startup::StartupSet;

use crate::error::{ImageError, on_file};

/// Commands of one image whose sets are kept, the latest ones: a command whose arguments are
/// never the same twice must not fill the disk.
const COMMANDS_LIMIT: usize = 32;
/// Bytes of a file that is looked at: the largest set has 2^18 runs of 24 bytes.
const FILE_LIMIT: u64 = 8 << 20;

/// What tells the commands of an image apart: the digest of the arguments of the container's
/// first process, each followed by a NUL byte, which no argument contains.
pub fn command_digest(arguments: &[String]) -> Digest {
    let mut text = Vec::new();
    for argument in arguments {
        text.extend_from_slice(argument.as_bytes());
        text.push(0);
    }
    Digest::of(&text)
}

/// The start-up sets below one root.
#[derive(Clone, Debug)]
pub struct StartupStore {
    directory: PathBuf,
}

impl StartupStore {
    /// The store below `root`.
    pub fn new(root: &Path) -> Self {
        StartupStore {
            directory: root.join("startup"),
        }
    }

    /// What is known of the starts of an image with a command. A file that cannot be used counts
    /// as none: it is named in the log, and the next recording replaces it.
    pub fn load(&self, manifest: Digest, command: Digest) -> Option<StartupSet> {
        let path = self.path(manifest, command);
        let size = fs::metadata(&path).ok()?.len();
        let read = match size {
            0..=FILE_LIMIT => fs::read(&path).map_err(|error| error.to_string()),
            _ => Err(format!("it has {size} bytes")),
        };
        let decoded =
            read.and_then(|bytes| StartupSet::decode(&bytes).map_err(|error| error.to_string()));
        match decoded {
            Ok(set) => Some(set),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, error, "a start-up set cannot be used");
                None
            }
        }
    }

    /// Takes one more start in; gives all of them together.
    ///
    /// # Errors
    /// Where the disk cannot take it.
    pub fn add(
        &self,
        manifest: Digest,
        command: Digest,
        start: StartupSet,
    ) -> Result<StartupSet, ImageError> {
        let set = match self.load(manifest, command) {
            Some(mut known) => {
                known.merge(&start);
                known
            }
            None => start,
        };
        let path = self.path(manifest, command);
        let image = self.image(manifest);
        fs::create_dir_all(&image).map_err(on_file("creating", &image))?;
        brisk_durable::write_file(&path, &set.encode()).map_err(on_file("writing", &path))?;
        self.drop_oldest(&image);
        Ok(set)
    }

    fn drop_oldest(&self, image: &Path) {
        let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(image)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(COMMANDS_LIMIT);
        for (_, path) in files.drain(..surplus) {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an old start-up set stays");
            }
        }
    }

    /// Removes the sets of every image that `keep` does not name.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn retain(&self, keep: &[Digest]) -> Result<(), ImageError> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        for entry in entries.flatten() {
            let name = entry.file_name();
            if keep.iter().all(|manifest| name != *manifest.hex()) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(on_file("removing", &path))?;
            }
        }
        Ok(())
    }

    fn image(&self, manifest: Digest) -> PathBuf {
        self.directory.join(manifest.hex())
    }

    fn path(&self, manifest: Digest, command: Digest) -> PathBuf {
        let name = command.hex();
        self.image(manifest).join(name).with_extension("set")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(leaves: &[u64]) -> StartupSet {
        let leaves = leaves.iter().map(|leaf| (0, *leaf));
        StartupSet::of_start(&[Digest::of(b"layer")], leaves)
    }

    #[test]
    fn starts_are_merged_and_kept_by_image_and_command() {
        let root = tempfile::tempdir().unwrap();
        let store = StartupStore::new(root.path());
        let [image, other] = [Digest::of(b"image"), Digest::of(b"other")];
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let command = command_digest(&words("a b"));
        assert_ne!(command, command_digest(&["a b".to_owned()]));
        assert_eq!(store.load(image, command), None);
        store.add(image, command, start(&[3, 1])).unwrap();
        let merged = store.add(image, command, start(&[3, 2])).unwrap();
        assert_eq!((merged.starts(), merged.leaves().len()), (2, 3));
        assert_eq!(store.load(image, command), Some(merged));
        assert_eq!(store.load(other, command), None);
        store.retain(&[other]).unwrap();
        assert_eq!(store.load(image, command), None);
    }

    #[test]
    fn a_damaged_set_is_no_set_and_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let store = StartupStore::new(root.path());
        let [image, command] = [Digest::of(b"image"), Digest::of(b"command")];
        store.add(image, command, start(&[1])).unwrap();
        let path = store.path(image, command);
        let mut bytes = fs::read(&path).unwrap();
        bytes[40] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(store.load(image, command), None);
        assert_eq!(store.add(image, command, start(&[2])).unwrap().starts(), 1);
    }

    #[test]
    fn commands_without_end_do_not_fill_the_disk() {
        let root = tempfile::tempdir().unwrap();
        let store = StartupStore::new(root.path());
        let image = Digest::of(b"image");
        for number in 0..COMMANDS_LIMIT + 5 {
            let command = command_digest(&[number.to_string()]);
            store.add(image, command, start(&[1])).unwrap();
        }
        let kept = fs::read_dir(store.image(image)).unwrap().count();
        assert_eq!(kept, COMMANDS_LIMIT);
    }
}
