//! Which compression a file has, for inputs without a media type.

use index_format::Compression;

/// How many first bytes [`detect`] wants to see; fewer may do.
pub const DETECT_LENGTH: usize = 4;

/// RFC 1952, with deflate as the only method there is.
const GZIP: &[u8] = &[0x1f, 0x8b, 0x08];
/// RFC 8878, 3.1.1: a frame.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Tells a layer's compression from its first bytes. What is neither gzip nor zstd is taken
/// for a plain tar: the tar reader then says what is wrong with it.
#[must_use]
pub fn detect(first: &[u8]) -> Compression {
    // RFC 8878, 3.1.2: 16 magic numbers of skippable frames, which may come first.
    let skippable = matches!(first, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if first.starts_with(GZIP) {
        Compression::Gzip
    } else if first.starts_with(ZSTD) || skippable {
        Compression::Zstd
    } else {
        Compression::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn tells_what_real_encoders_write() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"x").unwrap();
        assert_eq!(detect(&gzip.finish().unwrap()), Compression::Gzip);
        let zstd = zstd::encode_all(&b"x"[..], 1).unwrap();
        assert_eq!(detect(&zstd[..DETECT_LENGTH]), Compression::Zstd);
        assert_eq!(
            detect(&[0x5a, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]),
            Compression::Zstd
        );
    }

    #[test]
    fn anything_else_is_plain() {
        for first in [
            &b""[..],
            b"\x1f\x8b",
            b"\x1f\x8b\x07",
            b"./\0\0",
            b"\x60\x2a\x4d\x18",
        ] {
            assert_eq!(detect(first), Compression::None, "{}", first.escape_ascii());
        }
    }
}
