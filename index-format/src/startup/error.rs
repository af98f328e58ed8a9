//! What can be wrong with the bytes of a start-up set or a pack.

/// Bytes that are not a start-up set or a pack's table that this version can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The first bytes are those of something else.
    #[error("not a {what}: the magic bytes are missing")]
    BadMagic {
        /// What it should be.
        what: &'static str,
    },
    /// A major version this reader does not know.
    #[error("{what} of format version {found}, this brisk reads version {supported}")]
    UnsupportedVersion {
        /// What it is.
        what: &'static str,
        /// Its major version.
        found: u16,
        /// The version that this crate reads.
        supported: u16,
    },
    /// The bytes end too early, or go on after the end.
    #[error("{what}: {found} bytes, {expected} were expected")]
    Length {
        /// What it is.
        what: &'static str,
        /// Bytes expected.
        expected: u64,
        /// Bytes present.
        found: u64,
    },
    /// The digest at the end does not match.
    #[error("{what}: its digest does not match, it is damaged")]
    Damaged {
        /// What it is.
        what: &'static str,
    },
    /// A number is outside of what the specification allows.
    #[error("{what}: {field} must not be {value}")]
    Field {
        /// What it is.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}
