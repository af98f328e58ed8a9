//! The identifier of a container.

use super::error::ContainerError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Hexadecimal digits of an id: 32 random bytes, as docker's and podman's.
const ID_LENGTH: usize = 64;
/// Hexadecimal digits shown to people, and used as default host name.
const SHORT_LENGTH: usize = 12;

/// 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    /// A new id from the kernel's random numbers.
    pub fn random() -> Result<ContainerId, ContainerError> {
        let mut bytes = [0u8; ID_LENGTH / 2];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += rustix::rand::getrandom(
                &mut bytes[filled..],
                rustix::rand::GetRandomFlags::empty(),
            )
            .map_err(ContainerError::kernel("read random numbers"))?;
        }
        Ok(ContainerId(
            bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits.
    pub fn short(&self) -> &str {
        &self.0[..SHORT_LENGTH]
    }
}

impl TryFrom<String> for ContainerId {
    type Error = String;

    fn try_from(text: String) -> Result<ContainerId, String> {
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == ID_LENGTH && text.bytes().all(hexadecimal) {
            Ok(ContainerId(text))
        } else {
            Err(format!("{text:?} is no container id"))
        }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_valid_and_differ() {
        let first = ContainerId::random().unwrap();
        let second = ContainerId::random().unwrap();
        assert_ne!(first, second);
        assert_eq!(
            ContainerId::try_from(first.as_str().to_owned()).unwrap(),
            first
        );
        assert_eq!(first.short().len(), 12);
    }

    #[test]
    fn paths_and_short_forms_are_refused() {
        for text in ["", "..", "abc", &"A".repeat(64), &"/".repeat(64)] {
            assert!(ContainerId::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
