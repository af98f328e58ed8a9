//! The few requests of rtnetlink(7) that moving a device takes.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCLUSIVE: u16 = 0x600;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_PERMANENT: u8 = 0x80;
const IFF_UP: u32 = 1;

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct ifinfomsg`.
const LINK: usize = 16;
/// Bytes of `struct ifaddrmsg`.
const ADDRESS: usize = 8;

/// Bytes of the largest answer read at once; the kernel fills at most 32 KiB.
const BUFFER: usize = 64 << 10;

/// A route socket of one network namespace.
#[derive(Debug)]
pub struct Socket {
    socket: OwnedFd,
}

/// A change of one device.
pub struct Link<'a> {
    pub index: u32,
    /// New name.
    pub name: Option<&'a str>,
    /// Namespace to move to.
    pub namespace: Option<RawFd>,
    /// Whether to bring it up.
    pub up: bool,
}

/// An address as the kernel tells it: permanent and of global scope.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    family: u8,
    prefix: u8,
    /// Kinds and values of attributes.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Socket {
    /// Opens one in the namespace that this process is in.
    ///
    /// # Errors
    /// What socket(2) reports.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        Ok(Self { socket })
    }

    /// The number of a device.
    ///
    /// # Errors
    /// `ENODEV` where there is none of this name.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        let mut body = vec![0; LINK];
        put(&mut body, IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        let answers = self.ask(RTM_GETLINK, NLM_F_REQUEST, &body)?;
        let found = answers.iter().find(|(kind, _)| *kind == RTM_NEWLINK);
        found
            .and_then(|(_, body)| number(body, 4))
            .ok_or_else(|| io::Error::from_raw_os_error(nix::libc::ENODEV))
    }

    /// The permanent addresses of global scope of a device.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn addresses(&self, index: u32) -> io::Result<Vec<Address>> {
        let answers = self.ask(RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, &[0; ADDRESS])?;
        let bodies = answers.iter().filter(|(kind, _)| *kind == RTM_NEWADDR);
        Ok(bodies
            .filter(|(_, body)| number(body, 4) == Some(index))
            .filter_map(|(_, body)| read_address(body))
            .collect())
    }

    /// Gives a device an address.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn add_address(&self, index: u32, address: &Address) -> io::Result<()> {
        let mut body = vec![address.family, address.prefix, IFA_F_PERMANENT, 0];
        body.extend(index.to_ne_bytes());
        for (kind, value) in &address.attributes {
            put(&mut body, *kind, value);
        }
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE_EXCLUSIVE;
        self.ask(RTM_NEWADDR, flags, &body).map(drop)
    }

    /// Renames, moves, brings up.
    ///
    /// # Errors
    /// What the kernel reports.
    pub fn change(&self, link: &Link<'_>) -> io::Result<()> {
        let mut body = vec![0; LINK];
        body[4..8].copy_from_slice(&link.index.to_ne_bytes());
        if link.up {
            body[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
            body[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
        }
        if let Some(namespace) = link.namespace {
            put(&mut body, IFLA_NET_NS_FD, &namespace.to_ne_bytes());
        }
        if let Some(name) = link.name {
            put(&mut body, IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        }
        self.ask(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &body)
            .map(drop)
    }

    /// Sends one request and reads all that answers it: kinds and bodies.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
        let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        // Sequence and sender: one request at a time needs neither.
        message.extend([0; 8]);
        message.extend(body);
        let socket = self.socket.as_raw_fd();
        send(socket, &message, MsgFlags::empty())?;
        let ends_itself = flags & (NLM_F_ACK | NLM_F_DUMP) == 0;
        let mut found = Vec::new();
        loop {
            let mut buffer = vec![0; BUFFER];
            let length = recv(socket, &mut buffer, MsgFlags::empty())?;
            for (kind, body) in messages(&buffer[..length]) {
                match kind {
                    NLMSG_ERROR => {
                        let code = number(body, 0).map_or(0, |code| code.cast_signed());
                        return match code {
                            0 => Ok(found),
                            _ => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                        };
                    }
                    NLMSG_DONE => return Ok(found),
                    _ => found.push((kind, body.to_vec())),
                }
            }
            if ends_itself {
                return Ok(found);
            }
        }
    }
}

fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

/// The messages in a buffer: kinds and bodies.
fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (number(bytes, 0), short(bytes, 4)) {
        let length = length as usize;
        let Some(body) = bytes.get(HEADER..length) else {
            break;
        };
        found.push((kind, body));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    found
}

fn read_address(body: &[u8]) -> Option<Address> {
    let &[family, prefix, flags, scope] = body.get(..4)? else {
        return None;
    };
    if flags & IFA_F_PERMANENT == 0 || scope != 0 {
        return None;
    }
    let mut attributes = Vec::new();
    let mut rest = body.get(ADDRESS..)?;
    while let (Some(length), Some(kind)) = (short(rest, 0), short(rest, 2)) {
        let length = usize::from(length);
        let value = rest.get(4..length)?;
        if matches!(kind, IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST) {
            attributes.push((kind, value.to_vec()));
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Some(Address {
        family,
        prefix,
        attributes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_their_attributes() {
        let mut body = vec![2, 24, IFA_F_PERMANENT, 0, 7, 0, 0, 0];
        put(&mut body, IFA_LOCAL, &[192, 0, 2, 1]);
        put(&mut body, 3, b"label\0");
        put(&mut body, IFA_BROADCAST, &[192, 0, 2, 255]);
        let address = read_address(&body).unwrap();
        assert_eq!((address.family, address.prefix), (2, 24));
        let kinds: Vec<u16> = address.attributes.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [IFA_LOCAL, IFA_BROADCAST]);
        // Of the link alone, or with a lifetime.
        body[3] = 253;
        assert_eq!(read_address(&body), None);
        body[2..4].copy_from_slice(&[0, 0]);
        assert_eq!(read_address(&body), None);
    }

    #[test]
    fn messages_that_are_cut_short_end_the_buffer() {
        let mut bytes = 20_u32.to_ne_bytes().to_vec();
        bytes.extend([16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(messages(&bytes), [(16, &[1, 2, 3, 4][..])]);
        assert_eq!(messages(&bytes[..18]), []);
        assert_eq!(messages(&[0; 32]), []);
    }

    #[test]
    fn the_loopback_device_is_found_and_what_is_not_there_is_not() {
        let socket = Socket::open().unwrap();
        assert_eq!(socket.index("lo").unwrap(), 1);
        let error = socket.index("none-such").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(nix::libc::ENODEV));
        socket.addresses(1).unwrap();
    }
}
