//! The files of one layer's copy: the sparse stream, its bitmap, the mark of a clean stop.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use index_format::LEAF_SIZE;
use rustix::fs::{FallocateFlags, SeekFrom};

use super::bitmap::LeafSet;
use super::leaf_table::LeafTable;
use super::presence::{self, Presence};

pub(super) const STREAM: &str = "stream";
pub(super) const PRESENT: &str = "present";
const CLEAN: &str = "clean";

/// One layer's copy, shared by everyone in this process who has it open.
#[derive(Debug)]
pub(super) struct LocalStream {
    stream: File,
    presence: File,
    stream_size: u64,
    table: Mutex<LeafTable>,
    life: Mutex<Life>,
    /// Held while one suspect leaf is looked at, so that two readers do not decide about the
    /// same leaf.
    confirming: Mutex<()>,
}

#[derive(Debug)]
struct Life {
    directory: PathBuf,
    users: u32,
    /// The file `clean` exists.
    marked: bool,
}

impl LocalStream {
    /// Reads what is on disk about a layer; `None` when it is not usable.
    pub(super) fn survey(directory: &Path) -> Option<Presence> {
        let bytes = fs::read(directory.join(PRESENT)).ok()?;
        let presence = Presence::decode(&bytes)?;
        let length = fs::metadata(directory.join(STREAM)).ok()?.len();
        (length == presence.stream_size).then_some(presence)
    }

    /// Makes an empty copy, replacing whatever is there.
    pub(super) fn create(directory: &Path, stream_size: u64) -> io::Result<LocalStream> {
        fs::create_dir_all(directory)?;
        brisk_durable::remove_file(&directory.join(CLEAN))?;
        let stream = open_file(&directory.join(STREAM))?;
        stream.set_len(0)?;
        stream.set_len(stream_size)?;
        LocalStream::adopt(directory, stream, Presence::empty(stream_size))
    }

    /// Takes over a stream file whose leaves are as `presence` says.
    pub(super) fn adopt(dir: &Path, stream: File, presence: Presence) -> io::Result<LocalStream> {
        let file = open_file(&dir.join(PRESENT))?;
        let bytes = presence.encode();
        // Reserved now, so that noting a leaf never needs space.
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes.len() as u64) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        file.set_len(bytes.len() as u64)?;
        file.write_all_at(&bytes, 0)?;
        Ok(LocalStream::new(dir, stream, file, presence, false))
    }

    /// Opens a copy that `survey` found usable. Without a clean stop every present leaf is
    /// suspect, and what was written but not noted is freed.
    pub(super) fn open(directory: &Path, mut found: Presence) -> io::Result<LocalStream> {
        let stream = open_file(&directory.join(STREAM))?;
        let file = open_file(&directory.join(PRESENT))?;
        let marked = directory.join(CLEAN).exists();
        if !marked {
            found.suspect = found.present.clone();
            punch_unnoted(&stream, &found.present)?;
        }
        Ok(LocalStream::new(directory, stream, file, found, marked))
    }

    fn new(dir: &Path, stream: File, presence: File, found: Presence, marked: bool) -> LocalStream {
        let life = Life {
            directory: dir.to_path_buf(),
            users: 0,
            marked,
        };
        LocalStream {
            stream,
            presence,
            stream_size: found.stream_size,
            table: Mutex::new(LeafTable::new(found)),
            life: Mutex::new(life),
            confirming: Mutex::new(()),
        }
    }

    pub(super) fn stream_size(&self) -> u64 {
        self.stream_size
    }

    pub(super) fn table(&self) -> MutexGuard<'_, LeafTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn confirming(&self) -> MutexGuard<'_, ()> {
        self.confirming
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more user: from here on the copy changes without being flushed.
    pub(super) fn enter(&self) -> io::Result<()> {
        let mut life = self.life();
        if life.marked {
            brisk_durable::remove_file(&life.directory.join(CLEAN))?;
            life.marked = false;
        }
        life.users += 1;
        Ok(())
    }

    /// One user less. The last one writes everything to the disk and marks the clean stop;
    /// where that fails the copy is simply suspect at the next start.
    pub(super) fn leave(&self) -> io::Result<()> {
        let mut life = self.life();
        life.users = life
            .users
            .checked_sub(1)
            .expect("every leave follows its enter");
        if life.users > 0 {
            return Ok(());
        }
        let snapshot = self.table().snapshot();
        self.presence.write_all_at(&snapshot.encode(), 0)?;
        self.presence.sync_data()?;
        self.stream.sync_data()?;
        brisk_durable::write_file(&life.directory.join(CLEAN), b"")?;
        life.marked = true;
        Ok(())
    }

    /// The directory was renamed.
    pub(super) fn moved_to(&self, directory: PathBuf) {
        self.life().directory = directory;
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.stream.read_exact_at(buffer, offset)
    }

    /// Writes a leaf's bytes. The caller has claimed the leaf.
    pub(super) fn write_leaf(&self, leaf: u64, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all_at(bytes, leaf * LEAF_SIZE)
    }

    /// Notes that a claimed leaf is there.
    pub(super) fn finish_write(&self, leaf: u64, kept: bool) {
        let mut table = self.table();
        table.finish_write(leaf, kept);
        if kept {
            self.note(&table, leaf);
        }
    }

    /// Frees a leaf that nobody holds; `Some(bytes)` when it was there.
    pub(super) fn evict(&self, leaves: Range<u64>) -> u64 {
        let mut table = self.table();
        let taken: Vec<u64> = leaves.filter(|leaf| table.take(*leaf)).collect();
        for leaf in &taken {
            self.note(&table, *leaf);
        }
        drop(table);
        let mut freed = 0;
        let mut punched = Vec::with_capacity(taken.len());
        for leaf in &taken {
            punched.push(self.punch(*leaf).is_ok());
        }
        let mut table = self.table();
        for (leaf, punched) in taken.into_iter().zip(punched) {
            table.finish_punch(leaf);
            // What could not be punched still takes its space, and stays accounted.
            freed += if punched { table.leaf_length(leaf) } else { 0 };
        }
        freed
    }

    /// Gives a leaf's blocks back. The caller has claimed or taken it.
    pub(super) fn punch(&self, leaf: u64) -> io::Result<()> {
        punch(&self.stream, leaf..leaf + 1)
    }

    /// Tells the kernel that these pages will not be read again soon.
    pub(super) fn drop_pages(&self, range: Range<u64>) {
        let length = std::num::NonZeroU64::new(range.end - range.start);
        // Advice only.
        let _ = rustix::fs::fadvise(
            &self.stream,
            range.start,
            length,
            rustix::fs::Advice::DontNeed,
        );
    }

    /// Rewrites one byte of the bitmap's file. A failure costs nothing now: after a clean stop
    /// the whole file is written anew, after any other every leaf is suspect.
    fn note(&self, table: &LeafTable, leaf: u64) {
        if let Err(error) = presence::write_leaf(&self.presence, table.present(), leaf) {
            tracing::debug!(leaf, %error, "cannot note a leaf");
        }
    }
}

/// Makes leaves read as zeros and frees their blocks; the file keeps its size.
pub(super) fn punch(stream: &File, leaves: Range<u64>) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let length = (leaves.end - leaves.start) * LEAF_SIZE;
    Ok(rustix::fs::fallocate(
        stream,
        flags,
        leaves.start * LEAF_SIZE,
        length,
    )?)
}

/// Frees data that the bitmap does not know: written just before an unclean stop.
fn punch_unnoted(stream: &File, present: &LeafSet) -> io::Result<()> {
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(stream, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No more data (lseek(2)).
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let end = rustix::fs::seek(stream, SeekFrom::Hole(start))?;
        for leaf in start / LEAF_SIZE..end.div_ceil(LEAF_SIZE) {
            if !present.contains(leaf) {
                punch(stream, leaf..leaf + 1)?;
            }
        }
        at = end;
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}
