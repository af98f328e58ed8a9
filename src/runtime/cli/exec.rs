//! `exec`.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::cli::flags::{Flag, Parsed};
use crate::cli::{Call, create};
use crate::container;
use crate::error::{Context, Error, Result};
use crate::process::{Console, capability_bit};
use crate::spec::{self, Process, User};
use crate::state::Directory;

pub(crate) const FLAGS: &[Flag] = &[
    Flag::value("console-socket", None),
    Flag::value("cwd", None),
    Flag::value("env", Some('e')),
    Flag::switch("tty", Some('t')),
    Flag::value("user", Some('u')),
    Flag::value("additional-gids", Some('g')),
    Flag::value("process", Some('p')),
    Flag::switch("detach", Some('d')),
    Flag::value("pid-file", None),
    Flag::value("process-label", None),
    Flag::value("apparmor", None),
    Flag::switch("no-new-privs", None),
    Flag::value("cap", Some('c')),
    Flag::value("preserve-fds", None),
    Flag::value("cgroup", None),
    Flag::switch("ignore-paused", None),
];

/// Exit code of an `exec` that could not run its program, as runc.
const FAILED: u8 = 255;

pub(crate) fn run(call: &Call) -> Result<u8> {
    let id = call.parsed.first().unwrap_or_default();
    let mut documents = vec![call.global.root.join(id).join("config.json")];
    documents.extend(call.parsed.value("process").map(PathBuf::from));
    let documents: Vec<&Path> = documents.iter().map(PathBuf::as_path).collect();
    container::seal(&documents)?;
    match execute(call) {
        Err(error) => {
            let _ = call.global.report(&error);
            Ok(FAILED)
        }
        code => code,
    }
}

fn execute(call: &Call) -> Result<u8> {
    let parsed = &call.parsed;
    let id = parsed.first()?;
    let directory = Directory::open(&call.global.root, id)?;
    let process = process(parsed, &directory)?;
    spec::check_process(&process)?;
    let detach = parsed.is_on("detach");
    let mut console = create::console(parsed)?;
    let mut terminal = None;
    if process.terminal && console.is_none() {
        if detach {
            let reason = "a detached terminal needs --console-socket";
            return Err(Error::Usage(reason.to_owned()));
        }
        let (ours, theirs) = UnixStream::pair().doing(|| "make a socketpair")?;
        console = Some(Console::over(theirs));
        terminal = Some(ours);
    }
    if !process.terminal && console.is_some() {
        return Err(Error::Usage(
            "--console-socket without a terminal".to_owned(),
        ));
    }
    let arguments = container::Enter {
        process,
        console,
        pid_file: parsed.value("pid-file").map(PathBuf::from),
        preserve_fds: parsed.number("preserve-fds")?.unwrap_or(0),
        cgroups: parsed.all("cgroup").map(str::to_owned).collect(),
        ignore_paused: parsed.is_on("ignore-paused"),
    };
    let child = container::enter(&directory, &arguments)?;
    // Other commands on the container must not wait for this one.
    drop(directory);
    if detach {
        return Ok(0);
    }
    match &terminal {
        Some(socket) => container::relay(&child, socket),
        None => container::wait_for(&child),
    }
}

/// The process to run: a document of its own, or the container's with changes.
fn process(parsed: &Parsed, directory: &Directory) -> Result<Process> {
    if let Some(path) = parsed.value("process") {
        parsed.at_most(1)?;
        let path = Path::new(path);
        return spec::parse(path, &spec::read_limited(path)?);
    }
    let mut process = directory.spec()?.process.unwrap_or_default();
    process.args = parsed.positional[1..].to_vec();
    if process.args.is_empty() {
        return Err(Error::Usage("a command to execute is needed".to_owned()));
    }
    process.terminal = parsed.is_on("tty");
    process.console_size = None;
    process.env.extend(parsed.all("env").map(str::to_owned));
    if let Some(cwd) = parsed.value("cwd") {
        process.cwd = cwd.to_owned();
    }
    if let Some(profile) = parsed.value("apparmor") {
        process.apparmor_profile = profile.to_owned();
    }
    if let Some(label) = parsed.value("process-label") {
        process.selinux_label = label.to_owned();
    }
    if parsed.is_on("no-new-privs") {
        process.no_new_privileges = true;
    }
    if let Some(text) = parsed.value("user") {
        process.user = user(text)?;
    }
    for text in parsed.all("additional-gids") {
        let gid = text
            .parse()
            .map_err(|_| Error::Usage(format!("--additional-gids: {text:?} is no number")))?;
        process.user.additional_gids.push(gid);
    }
    for name in parsed.all("cap") {
        capability_bit(name)?;
        let capabilities = process.capabilities.get_or_insert_default();
        // Not ambient and not inheritable: the program gets it by being root.
        for set in [
            &mut capabilities.bounding,
            &mut capabilities.effective,
            &mut capabilities.permitted,
        ] {
            set.push(name.to_owned());
        }
    }
    Ok(process)
}

/// `UID[:GID]`, numbers only: names would have to be looked up in files of the container.
fn user(text: &str) -> Result<User> {
    let number = |part: &str| {
        part.parse::<u32>()
            .map_err(|_| Error::Usage(format!("--user: {part:?} is no number")))
    };
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (number(uid)?, number(gid)?),
        None => (number(text)?, 0),
    };
    Ok(User {
        uid,
        gid,
        ..User::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        let both = user("1000:100").unwrap();
        assert_eq!((both.uid, both.gid), (1000, 100));
        assert_eq!(user("7").unwrap().gid, 0);
        for text in ["", "root", "1:", "1:2:3", "-1", "4294967296"] {
            assert!(user(text).is_err(), "{text}");
        }
    }
}
