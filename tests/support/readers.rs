//! Readers of a mounted tree that verify every byte they get.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A file of the unpacked image: its path in the tree and its content.
#[derive(Debug)]
pub struct Known {
    /// Path below the root of the tree.
    pub path: PathBuf,
    /// What every reader must see.
    pub content: Vec<u8>,
}

/// Every regular file of an unpacked image of at least `least` bytes, in name order.
pub fn known_files(unpacked: &Path, least: u64) -> Vec<Known> {
    let mut found = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(relative) = waiting.pop() {
        let path = unpacked.join(&relative);
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            let names = std::fs::read_dir(&path).unwrap();
            waiting.extend(names.map(|entry| relative.join(entry.unwrap().file_name())));
        } else if metadata.is_file() && metadata.len() >= least {
            let content = std::fs::read(&path).unwrap();
            found.push(Known {
                path: relative,
                content,
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Numbers that look random and are the same in every run.
pub struct Sequence(u64);

impl Sequence {
    /// The sequence of that number.
    pub fn new(number: u64) -> Self {
        Sequence(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

/// Reads `length` bytes at `offset` past the page cache and compares them.
pub fn verify(tree: &Path, known: &Known, offset: usize, length: usize) -> io::Result<()> {
    let file = File::open(tree.join(&known.path))?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    let end = (offset + length).min(known.content.len());
    let mut bytes = vec![0; end - offset];
    file.read_exact_at(&mut bytes, offset as u64)?;
    if bytes != known.content[offset..end] {
        return Err(io::Error::other(format!(
            "wrong bytes in {}..{end} of {}",
            offset,
            known.path.display()
        )));
    }
    Ok(())
}

#[derive(Default)]
struct Watch {
    stop: AtomicBool,
    reads: AtomicU64,
    failures: Mutex<Vec<String>>,
    /// Since when each reader is at its present read.
    since: Vec<Mutex<Instant>>,
    slowest: Mutex<Duration>,
}

/// Threads that read at random until they are stopped.
pub struct Readers {
    watch: Arc<Watch>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts that many readers of the tree.
    pub fn start(count: u64, tree: &Path, known: Arc<Vec<Known>>) -> Self {
        let watch = Arc::new(Watch {
            since: (0..count).map(|_| Mutex::new(Instant::now())).collect(),
            ..Watch::default()
        });
        let start = |number: u64| {
            let (watch, known, tree) = (watch.clone(), known.clone(), tree.to_path_buf());
            std::thread::spawn(move || watch.read(number, &tree, &known))
        };
        let threads = (0..count).map(start).collect();
        Readers { watch, threads }
    }

    /// Reads that have ended.
    pub fn reads(&self) -> u64 {
        self.watch.reads.load(Ordering::Relaxed)
    }

    /// Panics where a reader has failed, or is at one read for longer than `limit`.
    pub fn check(&self, limit: Duration) {
        let failures = self.watch.failures.lock().unwrap();
        assert!(failures.is_empty(), "{failures:?}");
        for since in &self.watch.since {
            let waited = since.lock().unwrap().elapsed();
            assert!(waited < limit, "one read takes {waited:?}");
        }
    }

    /// Ends the readers; the slowest of all reads. Panics as `check` does.
    pub fn finish(mut self, limit: Duration) -> Duration {
        self.watch.stop.store(true, Ordering::Relaxed);
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            self.check(limit);
            super::registry::pause(10);
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.check(limit);
        *self.watch.slowest.lock().unwrap()
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.watch.stop.store(true, Ordering::Relaxed);
    }
}

impl Watch {
    fn read(&self, number: u64, tree: &Path, known: &[Known]) {
        let mut sequence = Sequence::new(number + 1);
        while !self.stop.load(Ordering::Relaxed) {
            let file = &known[sequence.below(known.len())];
            let offset = sequence.below(file.content.len()) & !4095;
            let length = 1 + sequence.below(64 << 10);
            let started = Instant::now();
            *self.since[number as usize].lock().unwrap() = started;
            let result = verify(tree, file, offset, length);
            *self.since[number as usize].lock().unwrap() = Instant::now();
            if let Err(error) = result {
                let path = file.path.display();
                let mut failures = self.failures.lock().unwrap();
                return failures.push(format!("{path} at {offset}: {error}"));
            }
            let mut slowest = self.slowest.lock().unwrap();
            *slowest = (*slowest).max(started.elapsed());
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
    }
}
