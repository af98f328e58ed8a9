//! Tells the service manager what state a daemon is in: sd_notify(3).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The variable that names the service manager's socket.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// A state of a daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It answers.
    Ready,
    /// It is about to end.
    Stopping,
}

/// Tells a state, where somebody wants to know. Nobody's not hearing it stops a daemon.
pub fn tell(state: State) {
    let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(error) = send(name.as_bytes(), state) {
        tracing::warn!(%error, "telling the service manager by {VARIABLE}");
    }
}

fn send(name: &[u8], state: State) -> io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let text: &[u8] = match state {
        State::Ready => b"READY=1",
        State::Stopping => b"STOPPING=1",
    };
    UnixDatagram::unbound()?
        .send_to_addr(text, &address)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn states_arrive_at_paths_and_abstract_names() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str().as_bytes(), State::Ready).unwrap();
        assert_eq!(heard(&by_path), "READY=1");

        let name = format!("brisk-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        send(format!("@{name}").as_bytes(), State::Stopping).unwrap();
        assert_eq!(heard(&by_name), "STOPPING=1");
    }
}
