//! The client's side of the control socket: finds the service of a root or starts it.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::control::{Answer, Failure, LINE_LIMIT, Outcome, Request, SOCKET};
use crate::daemon::settings::{Settings, StartOptions};
use brisk_mount::message::KeeperPaths;
use brisk_mount::socket::SocketDirectory;

/// A service that does not listen within this time did not start.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a request that may be repeated is, while services die under it.
const REPEAT_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks whether it listens.
const START_PAUSE: Duration = Duration::from_millis(2);

/// Errors of reaching the service.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The root's directories cannot be used.
    #[error("root {}: {source}", path.display())]
    Root {
        /// The directory in question.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The service did not start.
    #[error("the mount service of {} did not start: {message}", root.display())]
    Start {
        /// The root.
        root: PathBuf,
        /// Its last words, or what the kernel said.
        message: String,
    },
    /// The connection broke.
    #[error("the mount service of {} went away: {source}", root.display())]
    Connection {
        /// The root.
        root: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The service answered something else than this program understands.
    #[error("the mount service answered {message}; is it of another version?")]
    Protocol {
        /// What was wrong with the answer.
        message: String,
    },
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
    /// The service carried out the request and it failed.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Talks to the service of one root.
#[derive(Clone, Debug)]
pub struct Client {
    root: PathBuf,
    start: Vec<String>,
    options: StartOptions,
}

/// A connection to a service.
struct Connection {
    stream: UnixStream,
    /// It was there before; what it was started with is another command's.
    ran_already: bool,
}

impl Client {
    /// A client of the service of `root`, which `start` (program and arguments, with these
    /// `options` among them) starts when none runs.
    pub fn new(root: &Path, start: Vec<String>, options: StartOptions) -> Self {
        Client {
            root: root.to_path_buf(),
            start,
            options,
        }
    }

    /// Sends a request, starting the service where none runs; `on_event` sees progress and
    /// warnings. Where the service dies meanwhile, the next one is asked, as far as asking twice
    /// does no harm.
    pub fn ask(
        &self,
        request: &Request,
        on_event: impl FnMut(Answer),
    ) -> Result<Outcome, ClientError> {
        self.ask_until(request, None, on_event)
    }

    /// As [`Client::ask`], but gives up when `cancel` becomes readable or hangs up; the service
    /// then takes back what it did.
    pub fn ask_until(
        &self,
        request: &Request,
        cancel: Option<BorrowedFd<'_>>,
        mut on_event: impl FnMut(Answer),
    ) -> Result<Outcome, ClientError> {
        let began = Instant::now();
        loop {
            let connection = self.connect(true)?.ok_or_else(|| ClientError::Start {
                root: self.root.clone(),
                message: "no service".to_owned(),
            })?;
            if connection.ran_already && request.reaches_registries() {
                self.say_what_is_ignored(&mut on_event);
            }
            match self.exchange(connection.stream, request, cancel, &mut on_event) {
                // It died meanwhile, and another takes its place.
                Err(ClientError::Connection { .. })
                    if request.is_repeatable() && began.elapsed() < REPEAT_LIMIT =>
                {
                    pause();
                }
                other => return other,
            }
        }
    }

    /// Tells of settings of this command that a service which runs already does not have.
    fn say_what_is_ignored(&self, on_event: &mut dyn FnMut(Answer)) {
        let Some(running) = Settings::read(&self.root.join("run")) else {
            return;
        };
        let ignored = Settings::of_process(self.options.clone()).ignored_by(&running);
        if ignored.is_empty() {
            return;
        }
        on_event(Answer::Warning {
            message: format!(
                "the mount service of {root} runs already and ignores {}\nhint: `brisk --root \
                 {root} service-stop` ends it (mounts stay, and wait for the next); the next \
                 command starts one with its own settings",
                ignored.join(", "),
                root = self.root.display(),
            ),
        });
    }

    /// As [`Client::ask`], but gives none where no service runs.
    pub fn ask_running(&self, request: &Request) -> Result<Option<Outcome>, ClientError> {
        match self.connect(false)? {
            None => Ok(None),
            Some(connection) => self
                .exchange(connection.stream, request, None, &mut |_| {})
                .map(Some),
        }
    }

    fn exchange(
        &self,
        mut stream: UnixStream,
        request: &Request,
        cancel: Option<BorrowedFd<'_>>,
        on_event: &mut dyn FnMut(Answer),
    ) -> Result<Outcome, ClientError> {
        let broken = |source| ClientError::Connection {
            root: self.root.clone(),
            source,
        };
        let mut line = serde_json::to_string(request).map_err(|e| ClientError::Protocol {
            message: e.to_string(),
        })?;
        line.push('\n');
        stream.write_all(line.as_bytes()).map_err(broken)?;
        let mut reader = BufReader::new(stream);
        loop {
            if let Some(cancel) = cancel
                && reader.buffer().is_empty()
                && !wait(reader.get_ref(), cancel).map_err(broken)?
            {
                return Err(ClientError::Cancelled);
            }
            let mut line = String::new();
            reader
                .by_ref()
                .take(LINE_LIMIT)
                .read_line(&mut line)
                .map_err(broken)?;
            if line.is_empty() {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
            match serde_json::from_str(&line) {
                Ok(Answer::Done(outcome)) => return Ok(*outcome),
                Ok(Answer::Failed(failure)) => return Err(failure.into()),
                Ok(event) => on_event(event),
                Err(error) => {
                    return Err(ClientError::Protocol {
                        message: error.to_string(),
                    });
                }
            }
        }
    }

    fn connect(&self, start: bool) -> Result<Option<Connection>, ClientError> {
        let run = self.root.join("run");
        if !start && !run.exists() {
            return Ok(None);
        }
        make_private_directory(&self.root)?;
        make_private_directory(&run)?;
        let directory = SocketDirectory::open(&run).map_err(|source| ClientError::Root {
            path: run.clone(),
            source,
        })?;
        let socket = directory.path(SOCKET);
        let began = Instant::now();
        let mut spawned: Option<NewWords> = None;
        loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => {
                    let ran_already = spawned.is_none();
                    return Ok(Some(Connection {
                        stream,
                        ran_already,
                    }));
                }
                Err(_) if !start => return Ok(None),
                Err(error) => match &spawned {
                    None => spawned = Some(self.spawn(&run)?),
                    Some(words) => self.wait_for_start(words, began, &error)?,
                },
            }
        }
    }

    /// Waits a little for a service that was started; fails where it has given up.
    fn wait_for_start(
        &self,
        words: &NewWords,
        began: Instant,
        error: &io::Error,
    ) -> Result<(), ClientError> {
        if let Some(message) = words.last() {
            return Err(self.start_error(message));
        }
        if began.elapsed() > START_LIMIT {
            return Err(self.start_error(error.to_string()));
        }
        pause();
        Ok(())
    }

    /// Starts the service; the program forks itself into the background as soon as it has
    /// understood its arguments. Gives where it tells of a failure.
    fn spawn(&self, run: &Path) -> Result<NewWords, ClientError> {
        let path = run.join(KeeperPaths::LOG);
        let on_log = |source| ClientError::Root {
            path: path.clone(),
            source,
        };
        let opened = OpenOptions::new().create(true).append(true).open(&path);
        let log = opened.map_err(on_log)?;
        let words = NewWords {
            log: path.clone(),
            offset: log.metadata().map_err(on_log)?.len(),
        };
        let again = log.try_clone().map_err(on_log)?;
        let Some((program, arguments)) = self.start.split_first() else {
            return Err(self.start_error("no command to start it".to_owned()));
        };
        let status = Command::new(program)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            .status()
            .map_err(|e| self.start_error(e.to_string()))?;
        if status.success() {
            Ok(words)
        } else {
            Err(self.start_error(words.last().unwrap_or_else(|| status.to_string())))
        }
    }

    fn start_error(&self, message: String) -> ClientError {
        ClientError::Start {
            root: self.root.clone(),
            message,
        }
    }
}

/// What the service's log has from `offset` on, so that old words are not taken for new ones.
#[derive(Clone, Debug)]
struct NewWords {
    log: PathBuf,
    offset: u64,
}

impl NewWords {
    /// What a service that ended said last, if it did.
    fn last(&self) -> Option<String> {
        if fs::metadata(&self.log).ok()?.len() <= self.offset {
            return None;
        }
        let mut log = fs::File::open(&self.log).ok()?;
        log.seek(SeekFrom::Start(self.offset)).ok()?;
        let mut text = Vec::new();
        log.take(LINE_LIMIT).read_to_end(&mut text).ok()?;
        last_words(&String::from_utf8_lossy(&text))
    }
}

/// A program of ours that fails says so in a line that begins with its name, and perhaps more.
fn last_words(text: &str) -> Option<String> {
    let text = format!("\n{text}");
    let (_, words) = text.rsplit_once("\nbrisk: ")?;
    Some(words.trim_end().to_owned())
}

/// Waits for the answer; false where `cancel` has spoken first.
fn wait(stream: &UnixStream, cancel: BorrowedFd<'_>) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let mut polled = [
            PollFd::new(&cancel, PollFlags::IN),
            PollFd::new(stream, PollFlags::IN),
        ];
        match poll(&mut polled, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        return Ok(polled[0].revents().is_empty());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process's listen() has no event"
)]
fn pause() {
    std::thread::sleep(START_PAUSE);
}

/// Creates a directory for root alone, with its parents, if it is not there.
pub fn make_private_directory(path: &Path) -> Result<(), ClientError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| ClientError::Root {
            path: path.to_path_buf(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn the_last_failure_is_told_whole() {
        let log = "brisk: first\nWARN more\nbrisk: configuration f: line 2\n  |\n2 | x\n";
        let told = last_words(log).unwrap();
        assert_eq!(told, "configuration f: line 2\n  |\n2 | x");
        assert_eq!(last_words("WARN brisk: not it\n"), None);
    }
}
