//! resolv.conf, hosts and hostname: files of the container's own, shown at their places.

use crate::error::ContainerError;
use crate::options::Network;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Bytes of the host's hosts or resolv.conf that are copied.
const MAX_HOST_FILE_BYTES: u64 = 1 << 20;
/// Files of the identity: name in the container's directory and place in the container.
const FILES: [(&str, &str); 3] = [
    ("resolv.conf", "/etc/resolv.conf"),
    ("hosts", "/etc/hosts"),
    ("hostname", "/etc/hostname"),
];
/// Names of the machine itself, where the host's file cannot be used.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Writes the three files into `directory` and tells where each belongs.
pub fn write(
    directory: &Path,
    network: Network,
    hostname: &str,
) -> Result<Vec<(PathBuf, PathBuf)>, ContainerError> {
    let resolv_conf = host_file(Path::new("/etc/resolv.conf"))?;
    let hosts = match network {
        Network::Host => host_file(Path::new("/etc/hosts"))?,
        Network::None => String::new(),
    };
    let contents = [
        resolv_conf,
        hosts_content(&hosts, hostname),
        format!("{hostname}\n"),
    ];
    let mut places = Vec::new();
    for ((name, place), content) in FILES.iter().zip(contents) {
        let path = directory.join(name);
        std::fs::write(&path, content).map_err(ContainerError::file("write", &path))?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&path, readable)
            .map_err(ContainerError::file("set permissions of", &path))?;
        places.push((path, PathBuf::from(place)));
    }
    Ok(places)
}

/// The host's lines, or localhost's, and one for the container's name unless it is known.
fn hosts_content(host: &str, hostname: &str) -> String {
    let mut content = if host.trim().is_empty() {
        LOCALHOST.to_owned()
    } else {
        host.to_owned()
    };
    if !content.ends_with('\n') {
        content.push('\n');
    }
    let known = content
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .any(|line| line.split_whitespace().skip(1).any(|name| name == hostname));
    if !known {
        writeln!(content, "127.0.1.1\t{hostname}").expect("writing to a string");
    }
    content
}

/// A file of the host, empty where there is none.
fn host_file(path: &Path) -> Result<String, ContainerError> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(ContainerError::file("read", path)(error)),
    };
    let mut content = Vec::new();
    file.take(MAX_HOST_FILE_BYTES)
        .read_to_end(&mut content)
        .map_err(ContainerError::file("read", path))?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_containers_name_is_in_hosts_once() {
        let content = hosts_content("127.0.0.1 localhost box", "box");
        assert_eq!(content, "127.0.0.1 localhost box\n");
        let content = hosts_content("# 1.2.3.4 box\n127.0.0.1 localhost\n", "box");
        assert!(content.ends_with("\n127.0.1.1\tbox\n"));
        assert!(hosts_content("", "box").starts_with("127.0.0.1\tlocalhost\n"));
    }

    #[test]
    fn three_files() {
        let directory = tempfile::tempdir().unwrap();
        let places = write(directory.path(), Network::None, "box").unwrap();
        assert_eq!(places.len(), 3);
        let hostname = std::fs::read_to_string(directory.path().join("hostname")).unwrap();
        assert_eq!(hostname, "box\n");
        assert!(places.iter().all(|(source, _)| source.is_file()));
    }
}
