//! Learning that the kernel killed for want of memory.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::cgroup::{Cgroup, files};
use crate::error::{Context, Result};

/// What a wait ended with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Happening {
    /// The limit was hit and nothing could be freed.
    OutOfMemory,
    /// The cgroup is gone or empty for good.
    End,
    /// Nothing, in the time given.
    Nothing,
}

/// A watch over one cgroup.
#[derive(Debug)]
pub struct Watch {
    directory: Option<PathBuf>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// An event descriptor that the kernel counts up: at every kill, and at the removal.
    V1 { event: OwnedFd, _control: File },
    /// Files whose changes poll(2) tells.
    V2 {
        memory: Option<File>,
        events: File,
        kills: u64,
    },
    /// No controller counts memory.
    None,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`] naming the file.
    pub fn new(cgroup: &Cgroup) -> Result<Self> {
        if let Some(path) = cgroup.hierarchy("memory") {
            return Self::v1(path);
        }
        match &cgroup.unified {
            Some(path) if cgroup.is_unified() => Self::v2(path),
            _ => Ok(Self {
                directory: cgroup.directories().next().map(Path::to_owned),
                source: Source::None,
            }),
        }
    }

    fn v1(path: &Path) -> Result<Self> {
        let action = || format!("watch {}", path.join("memory.oom_control").display());
        let control = File::open(path.join("memory.oom_control")).doing(action)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = eventfd(0, flags).doing(action)?;
        let request = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        files::write(path, "cgroup.event_control", &request)?;
        Ok(Self {
            directory: Some(path.to_owned()),
            source: Source::V1 {
                event,
                _control: control,
            },
        })
    }

    fn v2(path: &Path) -> Result<Self> {
        let action = || format!("watch {}", path.join("cgroup.events").display());
        let events = File::open(path.join("cgroup.events")).doing(action)?;
        let mut memory = File::open(path.join("memory.events")).ok();
        let kills = memory.as_mut().map_or(0, kills);
        Ok(Self {
            directory: Some(path.to_owned()),
            source: Source::V2 {
                memory,
                events,
                kills,
            },
        })
    }

    /// Waits until something happens, for `limit` at most.
    ///
    /// # Errors
    /// [`crate::error::Error::Os`].
    pub fn wait(&mut self, limit: Duration) -> Result<Happening> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let woken = self.poll(left)?;
            if self.directory.as_deref().is_some_and(|path| !path.exists()) {
                return Ok(Happening::End);
            }
            if !woken {
                return Ok(Happening::Nothing);
            }
            match &mut self.source {
                Source::V1 { event, .. } => {
                    if rustix::io::read(&*event, &mut [0; 8][..]).is_ok() {
                        return Ok(Happening::OutOfMemory);
                    }
                }
                Source::V2 {
                    memory,
                    events,
                    kills: known,
                } => {
                    let now = memory.as_mut().map_or(0, kills);
                    if now > *known {
                        *known = now;
                        return Ok(Happening::OutOfMemory);
                    }
                    if whole(events).lines().any(|line| line == "populated 0") {
                        return Ok(Happening::End);
                    }
                }
                Source::None => {}
            }
        }
    }

    /// Whether something woke it in time.
    fn poll(&self, limit: Duration) -> Result<bool> {
        let mut watched = Vec::new();
        match &self.source {
            Source::V1 { event, .. } => watched.push(PollFd::new(event, PollFlags::IN)),
            Source::V2 { memory, events, .. } => {
                watched.push(PollFd::new(events, PollFlags::PRI));
                watched.extend(memory.iter().map(|file| PollFd::new(file, PollFlags::PRI)));
            }
            Source::None => {}
        }
        let limit = Timespec::try_from(limit).ok();
        match poll(&mut watched, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => Ok(true),
            other => Ok(other.doing(|| "wait for events of the cgroup")? > 0),
        }
    }
}

/// Reading from the start also tells the kernel that what changed so far has been seen.
fn whole(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    if read.is_ok() { text } else { String::new() }
}

fn kills(file: &mut File) -> u64 {
    let text = whole(file);
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_counted_again_at_each_reading() {
        let mut file = tempfile::tempfile().unwrap();
        use std::io::Write;
        file.write_all(b"low 0\nmax 4\noom 3\noom_kill 2\noom_group_kill 0\n")
            .unwrap();
        assert_eq!(kills(&mut file), 2);
        assert_eq!(kills(&mut file), 2);
    }

    #[test]
    fn a_removed_directory_is_the_end_without_a_memory_controller_too() {
        let directory = tempfile::tempdir().unwrap();
        let mut watch = Watch {
            directory: Some(directory.path().join("gone")),
            source: Source::None,
        };
        assert_eq!(watch.wait(Duration::ZERO).unwrap(), Happening::End);
        watch.directory = Some(directory.path().to_owned());
        assert_eq!(watch.wait(Duration::ZERO).unwrap(), Happening::Nothing);
    }
}
