use super::content::{Kind, make};
use super::*;

#[test]
fn chunks_cover_the_stream() {
    for length in [0, 1, 999, 1000, 1001, 5000] {
        let content = make(Kind::Text, 1, length);
        let scan = check_layer(Compression::None, &content, &content, 1000, &[7, 400]);
        assert_eq!(scan.chunks.len(), length.div_ceil(1000));
    }
}

#[test]
fn another_length_is_an_error() {
    for (stream_length, more) in [(4, true), (6, false)] {
        let chunk = ChunkSource {
            compressed: b"12345",
            bit: 0,
            stream_length,
        };
        let error = decode_chunk(Compression::None, &chunk, History::Free).unwrap_err();
        assert!(matches!(error, CodecError::ChunkLength { more: is, .. } if is == more));
    }
}

#[test]
fn the_stream_limit_holds() {
    let options = ScanOptions {
        chunk_size: 10,
        max_stream_size: 5,
        grows: false,
    };
    let mut scanner = scanner(Compression::None, options);
    scanner.push(b"12345", &mut |_| Ok(())).unwrap();
    let error = scanner.push(b"6", &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, CodecError::StreamTooLong { limit: 5 }));
    let again = scanner.push(b"7", &mut |_| Ok(())).unwrap_err();
    assert!(matches!(again, CodecError::AlreadyFailed));
    assert!(matches!(scanner.finish(), Err(CodecError::AlreadyFailed)));
}
