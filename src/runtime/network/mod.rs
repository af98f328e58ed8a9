//! `linux.netDevices`: network devices that move into the container's network namespace, with the
//! addresses that they have.

mod netlink;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::error::{Context, Error, Result};
use crate::network::netlink::{Address, Link, Socket};
use crate::spec::{Linux, NamespaceKind, NetDevice};

/// Bytes of a device's name, `IFNAMSIZ` without the end.
const NAME_LIMIT: usize = 15;

/// Refuses names that no device can have, and devices without a namespace to move to.
///
/// # Errors
/// [`Error::Invalid`] naming the device.
pub fn check(linux: &Linux) -> Result<()> {
    if !linux.net_devices.is_empty() && linux.namespace(NamespaceKind::Network).is_none() {
        return Err(Error::invalid(
            "linux.netDevices",
            "needs a network namespace in linux.namespaces",
        ));
    }
    let mut inside = BTreeMap::new();
    for (name, device) in &linux.net_devices {
        let field = || format!("linux.netDevices {name:?}");
        let new = name_inside(name, device);
        if !is_name(name) || !is_name(new) {
            return Err(Error::invalid(field(), "is no name of a network device"));
        }
        if let Some(other) = inside.insert(new, name) {
            let reason = format!("has the same name in the container as {other:?}");
            return Err(Error::invalid(field(), reason));
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'%');
    let dots = matches!(name, "." | "..");
    (1..=NAME_LIMIT).contains(&name.len()) && !dots && name.bytes().all(allowed)
}

fn name_inside<'a>(name: &'a str, device: &'a NetDevice) -> &'a str {
    if device.name.is_empty() {
        name
    } else {
        &device.name
    }
}

/// Moves the devices to the network namespace of process `pid`, or the one that is joined, gives
/// them their addresses back, which moving takes away, and brings them up.
///
/// # Errors
/// [`Error`] naming the device.
pub fn move_devices(linux: &Linux, pid: i32) -> Result<()> {
    if linux.net_devices.is_empty() {
        return Ok(());
    }
    let joined = linux.namespace(NamespaceKind::Network);
    let path = match joined {
        Some(namespace) if !namespace.path.is_empty() => namespace.path.clone(),
        _ => format!("/proc/{pid}/ns/net"),
    };
    let action = || format!("open the network namespace {path}");
    let namespace = OwnedFd::from(File::open(&path).doing(action)?);
    let outside = Socket::open().doing(|| "ask for network devices")?;
    let inside = socket_inside(&namespace)?;
    for (name, device) in &linux.net_devices {
        let new = name_inside(name, device);
        move_one(&outside, &inside, &namespace, name, new)
            .doing(|| format!("move linux.netDevices {name:?} into the container as {new:?}"))?;
    }
    Ok(())
}

/// A socket belongs to the namespace that it is opened in, whoever uses it.
fn socket_inside(namespace: &OwnedFd) -> Result<Socket> {
    let kind = NamespaceKind::Network.flag();
    let own = File::open("/proc/self/ns/net").doing(|| "open the own network namespace")?;
    sys::namespace::join(namespace.as_fd(), kind)
        .doing(|| "visit the container's network namespace")?;
    let socket = Socket::open();
    sys::namespace::join(own.as_fd(), kind).doing(|| "leave the container's network namespace")?;
    socket.doing(|| "ask for network devices in the container")
}

fn move_one(
    outside: &Socket,
    inside: &Socket,
    namespace: &OwnedFd,
    name: &str,
    new: &str,
) -> std::io::Result<()> {
    let index = outside.index(name)?;
    let addresses: Vec<Address> = outside.addresses(index)?;
    outside.change(&Link {
        index,
        name: Some(new),
        namespace: Some(namespace.as_raw_fd()),
        up: false,
    })?;
    let index = inside.index(new)?;
    for address in &addresses {
        inside.add_address(index, address)?;
    }
    inside.change(&Link {
        index,
        name: None,
        namespace: None,
        up: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for name in ["veth0", "a", "br-1.2", "fifteen-letters"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "a:b", "%d", "sixteen--letters"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
