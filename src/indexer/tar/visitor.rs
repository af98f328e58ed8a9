//! What a reader hands over to.

use crate::tar::entry::Entry;
use crate::tar::error::{TarError, Warning};

/// Takes what the reader finds, in the order of the stream. Framing and payload together are
/// exactly the bytes fed in.
pub trait Visitor {
    /// What the visitor fails with; the reader's own errors are among it.
    type Error: From<TarError>;

    /// Bytes that are no file's data: headers, maps, padding, skipped entries, the end.
    ///
    /// # Errors
    /// Ends the reading.
    fn framing(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// An entry. For a regular file with extents its payload follows.
    ///
    /// # Errors
    /// Ends the reading.
    fn entry(&mut self, entry: Entry) -> Result<(), Self::Error>;

    /// The next bytes of the last entry's extents, back to back.
    ///
    /// # Errors
    /// Ends the reading.
    fn payload(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Something odd.
    fn warning(&mut self, warning: Warning);
}
