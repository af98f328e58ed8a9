//! The program and its environment.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType};

use crate::error::{Error, Result};
use crate::spec::Process;

/// Bytes of the largest /etc/passwd that is searched.
const PASSWD_LIMIT: u64 = 4 << 20;

/// Arguments of execve(2), made while allocating is no matter.
#[derive(Debug)]
pub struct Program {
    path: CString,
    args: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// Prepares `process` to be executed at `path`, inside the container: `HOME` is looked up
    /// where it is not given.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a NUL byte.
    pub fn new(path: &Path, process: &Process) -> Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        let text = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| Error::invalid("process", "contains a NUL byte"))
        };
        let mut environment: Vec<CString> = process
            .env
            .iter()
            .map(|entry| text(entry.as_bytes()))
            .collect::<Result<_>>()?;
        if !process
            .env
            .iter()
            .any(|entry| entry.starts_with("HOME=") && entry != "HOME=")
        {
            environment.push(text(
                format!("HOME={}", home_of(process.user.uid)).as_bytes(),
            )?);
        }
        let args = process
            .args
            .iter()
            .map(|argument| text(argument.as_bytes()));
        Ok(Self {
            path: text(path.as_os_str().as_bytes())?,
            args: args.collect::<Result<_>>()?,
            environment,
        })
    }

    /// Adds a variable.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a NUL byte.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let entry = CString::new(format!("{name}={value}"))
            .map_err(|_| Error::invalid("environment", "contains a NUL byte"))?;
        self.environment.push(entry);
        Ok(())
    }

    /// Becomes the program.
    ///
    /// # Errors
    /// Only returns with one: [`Error::Os`].
    pub fn execute(&self) -> Error {
        match nix::unistd::execve(&self.path, &self.args, &self.environment) {
            Ok(never) => match never {},
            Err(errno) => Error::Os {
                action: format!("exec {:?}", self.path.to_string_lossy()),
                source: errno.into(),
            },
        }
    }
}

/// The home directory that the container's /etc/passwd gives `uid`.
fn home_of(uid: u32) -> String {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open("/etc/passwd")
        .and_then(|file| file.take(PASSWD_LIMIT).read_to_string(&mut text));
    let found = read.ok().and_then(|_| {
        text.lines().find_map(|line| {
            let mut fields = line.split(':').skip(2);
            let matches = fields.next()?.parse() == Ok(uid);
            let home = fields.nth(2)?;
            (matches && !home.is_empty()).then(|| home.to_owned())
        })
    });
    found.unwrap_or_else(|| "/".to_owned())
}

/// Finds the program inside the container, as the user that it will run as.
///
/// # Errors
/// [`Error::Os`] in the words that Go's runtimes use, which callers show their users.
pub fn look_up(process: &Process) -> Result<PathBuf> {
    let name = process.args.first().map_or("", String::as_str);
    let missing = |why: std::io::Error| Error::Os {
        action: format!("exec: {name:?}"),
        source: why,
    };
    if name.contains('/') {
        return check(Path::new(name))
            .map(|()| PathBuf::from(name))
            .map_err(missing);
    }
    let path = process
        .env
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="));
    let mut denied = false;
    for directory in path.unwrap_or("").split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) => denied |= error.kind() == std::io::ErrorKind::PermissionDenied,
        }
    }
    Err(missing(std::io::Error::other(if denied {
        "permission denied"
    } else {
        "executable file not found in $PATH"
    })))
}

fn check(path: &Path) -> std::io::Result<()> {
    let found = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        return Err(std::io::Error::other("is a directory"));
    }
    Ok(rustix::fs::accessat(
        CWD,
        path,
        Access::EXEC_OK,
        AtFlags::EACCESS,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str, env: &[&str]) -> Process {
        Process {
            args: vec![name.to_owned()],
            env: env.iter().map(|&entry| entry.to_owned()).collect(),
            ..Process::default()
        }
    }

    #[test]
    fn a_plain_name_is_searched_and_a_path_is_not() {
        let found = look_up(&process("sh", &["PATH=/nowhere:/bin"])).unwrap();
        assert_eq!(found, Path::new("/bin/sh"));
        assert_eq!(
            look_up(&process("/bin/sh", &[])).unwrap(),
            Path::new("/bin/sh")
        );
        let error = look_up(&process("no-such", &["PATH=/bin"])).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("executable file not found in $PATH")
        );
        assert!(look_up(&process("/etc", &[])).is_err());
    }
}
