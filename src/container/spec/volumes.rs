//! `-v`, `--volume` and `--tmpfs` as people write them.

use crate::options::{Bind, Tmpfs};
use crate::rootfs::normalise;
use std::path::{Path, PathBuf};

/// Propagation of a bind where nothing is said (docker's).
const DEFAULT_PROPAGATION: &str = "rprivate";
const PROPAGATIONS: [&str; 6] = [
    "private", "rprivate", "slave", "rslave", "shared", "rshared",
];
/// Options that other engines know and that change nothing here: there is no SELinux
/// relabelling, no copying into host directories, no cached file sharing.
const IGNORED: [&str; 9] = [
    "z",
    "Z",
    "nocopy",
    "consistent",
    "cached",
    "delegated",
    "rbind",
    "bind",
    "exec",
];
/// Options of a memory file system where nothing is said (docker's).
const TMPFS_DEFAULTS: [&str; 3] = ["nosuid", "nodev", "noexec"];

/// One `-v` value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Volume {
    /// `HOST:CONTAINER[:OPTIONS]`.
    Bind(Bind),
    /// `CONTAINER`: stays in the container's own file system and goes with it.
    Anonymous(PathBuf),
}

/// Parses one `-v` value; relative host paths (`./x`) start at `working_directory`.
pub fn parse_volume(text: &str, working_directory: &Path) -> Result<Volume, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts.as_slice() {
        [destination] => return Ok(Volume::Anonymous(container_path(destination)?)),
        [source, destination] => (*source, *destination, ""),
        [source, destination, options] => (*source, *destination, *options),
        _ => return Err("write it as HOST:CONTAINER[:OPTIONS]".to_owned()),
    };
    let source = host_path(source, working_directory)?;
    let mut bind = Bind {
        source,
        destination: container_path(destination)?,
        read_only: false,
        propagation: DEFAULT_PROPAGATION.to_owned(),
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => bind.read_only = true,
            "rw" => bind.read_only = false,
            _ if PROPAGATIONS.contains(&option) => option.clone_into(&mut bind.propagation),
            _ if IGNORED.contains(&option) => {}
            _ => return Err(format!("unknown option {option:?}")),
        }
    }
    Ok(Volume::Bind(bind))
}

/// Parses one `--tmpfs` value: `CONTAINER[:OPTION,…]`.
pub fn parse_tmpfs(text: &str) -> Result<Tmpfs, String> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    let given: Vec<&str> = options
        .split(',')
        .filter(|option| !option.is_empty())
        .collect();
    let mut all: Vec<String> = TMPFS_DEFAULTS
        .iter()
        .filter(|option| !given.contains(&option.trim_start_matches("no")))
        .map(|option| (*option).to_owned())
        .collect();
    for option in given {
        if option.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("unusable option {option:?}"));
        }
        if !all.iter().any(|present| present == option) {
            all.push(option.to_owned());
        }
    }
    Ok(Tmpfs {
        destination: container_path(destination)?,
        options: all,
    })
}

fn host_path(text: &str, working_directory: &Path) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the host path is empty".to_owned());
    }
    if !text.starts_with('/') && !text.starts_with('.') {
        return Err(format!(
            "named volumes are not supported; for a directory write ./{text} or its full path"
        ));
    }
    Ok(working_directory.join(text))
}

fn container_path(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err(format!(
            "the path in the container, {text:?}, does not start with /"
        ));
    }
    let path = normalise(Path::new(text));
    if path == Path::new("/") {
        return Err("the container's root itself cannot be a mount".to_owned());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(text: &str) -> Bind {
        match parse_volume(text, Path::new("/cwd")).unwrap() {
            Volume::Bind(bind) => bind,
            Volume::Anonymous(path) => panic!("{text} is anonymous: {}", path.display()),
        }
    }

    #[test]
    fn binds() {
        let plain = bind("/a:/b");
        assert_eq!(plain.source, Path::new("/a"));
        assert_eq!(plain.destination, Path::new("/b"));
        assert!(!plain.read_only);
        assert_eq!(plain.propagation, "rprivate");
        assert!(bind("/a:/b:ro").read_only);
        assert!(bind("/a:/b:z,ro").read_only);
        assert!(!bind("/a:/b:Z,rw").read_only);
        assert_eq!(bind("/a:/b:rslave").propagation, "rslave");
        assert_eq!(bind("./a:/b").source, Path::new("/cwd/./a"));
        assert_eq!(bind("/a:/b/../c/").destination, Path::new("/c"));
    }

    #[test]
    fn anonymous() {
        assert_eq!(
            parse_volume("/data", Path::new("/")),
            Ok(Volume::Anonymous(PathBuf::from("/data")))
        );
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            "data",
            "data:/b",
            "/a:b",
            "/a:/b:rx",
            "/a:/b:ro:x",
            ":/b",
            "/a:",
            "/a:/",
            "/a:/..",
        ] {
            assert!(parse_volume(text, Path::new("/cwd")).is_err(), "{text:?}");
        }
        let reason = parse_volume("data:/b", Path::new("/cwd")).unwrap_err();
        assert!(reason.contains("named volumes"), "{reason}");
    }

    #[test]
    fn memory_file_systems() {
        let plain = parse_tmpfs("/run").unwrap();
        assert_eq!(plain.options, ["nosuid", "nodev", "noexec"]);
        let sized = parse_tmpfs("/run:size=1m,exec,mode=700").unwrap();
        assert_eq!(
            sized.options,
            ["nosuid", "nodev", "size=1m", "exec", "mode=700"]
                .map(str::to_owned)
                .into_iter()
                .collect::<Vec<_>>()
                .as_slice()
        );
        assert!(parse_tmpfs("run").is_err());
        assert!(parse_tmpfs("/run:size=1 m").is_err());
    }
}
