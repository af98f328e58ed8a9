//! Read-only memory maps.

use std::fs::File;
use std::io;
use std::path::Path;

/// A whole file mapped read-only and private.
///
/// Meant for files that are written under another name, renamed into place and never changed
/// again, as everything is that brisk maps: a file truncated under its map would end the
/// process by SIGBUS (mmap(2)).
#[derive(Debug)]
pub struct MappedFile {
    map: memmap2::Mmap,
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// What open(2) and mmap(2) answer; an empty file is an error of kind `InvalidInput`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the file is empty",
            ));
        }
        // SAFETY: the map is read-only and private, and by the contract above nobody writes to
        // or truncates the file while it lives. No safe call maps a file.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(MappedFile { map })
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_outlives_the_name_and_an_empty_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, b"content").unwrap();
        let map = MappedFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(map.as_ref(), b"content");

        std::fs::write(&path, b"").unwrap();
        assert_eq!(
            MappedFile::open(&path).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
