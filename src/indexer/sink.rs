//! Where the uncompressed stream goes while it is indexed.

use std::io::{self, Write};

/// Takes the layer's uncompressed stream in order, for a caller that keeps it.
pub trait StreamSink {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// Ends the indexing; the error is handed on.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl StreamSink for Discard {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Hands the stream to any writer.
#[derive(Debug)]
pub struct WriteSink<W>(pub W);

impl<W: Write> StreamSink for WriteSink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}
