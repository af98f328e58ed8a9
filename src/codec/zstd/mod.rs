//! zstd (RFC 8878).
use super::*;
pub(super) struct ZstdScanner;
impl ZstdScanner {
    pub(super) fn new(_: ScanOptions) -> Self {
        ZstdScanner
    }
}
impl Scanner for ZstdScanner {
    fn push(&mut self, _: &[u8], _: Sink<'_>) -> Result<(), CodecError> {
        Err(CodecError::AlreadyFailed)
    }
    fn finish(self: Box<Self>) -> Result<Scan, CodecError> {
        Err(CodecError::AlreadyFailed)
    }
}
pub(super) fn decode_chunk(_: &ChunkSource<'_>, _: History<'_>) -> Result<Vec<u8>, CodecError> {
    Err(CodecError::AlreadyFailed)
}
pub(super) fn history_length(_: &[u8]) -> Result<u64, CodecError> {
    Err(CodecError::AlreadyFailed)
}
