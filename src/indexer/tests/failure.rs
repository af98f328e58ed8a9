//! Layers that are refused, and what the error says.

use std::io;

use index_format::{Compression, TreeError};
use proptest::prelude::*;

use crate::tar::TarError;
use crate::tar::fixture::{end, ustar};
use crate::tests::{compress, index_pieces, options};
use crate::{Discard, IndexOptions, IndexerError, LayerIndexer, StreamSink};
use brisk_codec::CodecError;

fn refusal(parts: &[&[u8]]) -> IndexerError {
    let stream = parts.concat();
    let errors = [Compression::None, Compression::Gzip, Compression::Zstd].map(|compression| {
        let compressed = compress(&stream, compression);
        index_pieces(&compressed, compression, 100, options()).unwrap_err()
    });
    let [plain, gzip, zstd] = errors.map(|error| (error.to_string(), error));
    assert_eq!(plain.0, gzip.0);
    assert_eq!(plain.0, zstd.0);
    assert!(plain.1.is_bad_layer());
    plain.1
}

#[test]
fn escaping_paths_are_refused_by_name() {
    let error = refusal(&[&ustar(b"../../etc/passwd", b'0').done(), &end()]);
    assert!(matches!(
        &error,
        IndexerError::Tar(TarError::PathEscapes { .. })
    ));
    assert!(error.to_string().contains("../../etc/passwd"), "{error}");
}

#[test]
fn truncated_tars_are_refused() {
    let error = refusal(&[&ustar(b"a", b'0').size(1000).done(), b"short"]);
    assert!(matches!(
        error,
        IndexerError::Tar(TarError::Truncated { .. })
    ));
}

#[test]
fn whiteouts_of_nothing_are_refused() {
    for name in [&b".wh."[..], b"dir/.wh..", b".wh..."] {
        let error = refusal(&[&ustar(name, b'0').done()]);
        assert!(
            matches!(&error, IndexerError::Whiteout { path } if path == name),
            "{error}"
        );
    }
}

#[test]
fn hard_links_to_directories_are_refused() {
    let link = ustar(b"link", b'1').link(b"dir").done();
    let error = refusal(&[&ustar(b"dir", b'5').done(), &link]);
    assert!(matches!(
        error,
        IndexerError::Tree(TreeError::LinkToDirectory { .. })
    ));
}

#[test]
fn parents_in_a_loop_of_symlinks_are_refused() {
    let loops = [
        ustar(b"a", b'2').link(b"b").done(),
        ustar(b"b", b'2').link(b"a").done(),
    ];
    let error = refusal(&[&loops.concat(), &ustar(b"a/file", b'0').done()]);
    assert!(matches!(
        error,
        IndexerError::Tree(TreeError::SymlinkLoop { .. })
    ));
}

#[test]
fn truncated_compression_is_told() {
    let stream = ustar(b"a", b'0').with(&[7; 100_000]);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let compressed = compress(&stream, compression);
        let cut = &compressed[..compressed.len() - 1];
        match index_pieces(cut, compression, 100, options()) {
            Err(IndexerError::Codec(error)) => assert!(error.is_truncated(), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn decompression_bombs_stop_at_the_limit() {
    struct Counted(u64);
    impl StreamSink for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0 += bytes.len() as u64;
            Ok(())
        }
    }
    let limit = 1 << 20;
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let bomb = compress(&vec![0; 64 << 20], compression);
        let options = IndexOptions {
            max_stream_size: limit,
            ..options()
        };
        let mut indexer = LayerIndexer::new(compression, options).unwrap();
        let mut sink = Counted(0);
        let pushed: Result<(), _> = bomb
            .chunks(1 << 16)
            .try_for_each(|piece| indexer.push(piece, &mut sink));
        let error = pushed.unwrap_err();
        assert!(error.is_stream_too_long(), "{compression}: {error}");
        assert!(error.to_string().contains("1048576"), "{error}");
        assert!(
            sink.0 <= limit + (1 << 20),
            "{compression}: {} bytes passed",
            sink.0
        );
        assert!(matches!(
            indexer.push(b"", &mut sink),
            Err(IndexerError::AlreadyFailed)
        ));
        assert!(matches!(indexer.finish(), Err(IndexerError::AlreadyFailed)));
    }
}

#[test]
fn a_stream_of_exactly_the_limit_is_accepted() {
    let stream = vec![0; 1 << 20];
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let options = IndexOptions {
            max_stream_size: 1 << 20,
            ..options()
        };
        index_pieces(&compress(&stream, compression), compression, 1000, options).unwrap();
    }
}

#[test]
fn the_sinks_error_comes_back() {
    struct Full;
    impl StreamSink for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut indexer = LayerIndexer::new(compression, options()).unwrap();
        let layer = compress(&[0; 5000], compression);
        match indexer.push(&layer, &mut Full) {
            Err(error @ IndexerError::Sink(_)) => assert!(!error.is_bad_layer()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_indexer_may_be_dropped_half_way() {
    let mut indexer = LayerIndexer::new(Compression::None, options()).unwrap();
    indexer
        .push(&ustar(b"a", b'0').size(1 << 30).done(), &mut Discard)
        .unwrap();
    indexer.push(&vec![1; 3 << 20], &mut Discard).unwrap();
    drop(indexer);
}

#[test]
fn codec_errors_keep_their_kind() {
    let error = IndexerError::from(CodecError::Sink("other".into()));
    assert!(matches!(error, IndexerError::Codec(CodecError::Sink(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_layers_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        compression in prop::sample::select(vec![
            Compression::None,
            Compression::Gzip,
            Compression::Zstd,
        ]),
    ) {
        let stream = [
            ustar(b"dir/", b'5').done(),
            ustar(b"dir/file", b'0').with(&b"content ".repeat(500)),
            ustar(b"dir/link", b'1').link(b"dir/file").done(),
            ustar(b"dir/.wh.gone", b'0').done(),
            end(),
        ];
        let mut compressed = compress(&stream.concat(), compression);
        for (place, byte) in damage {
            let place = place.index(compressed.len());
            compressed[place] = byte;
        }
        if let Ok((built, _)) = index_pieces(&compressed, compression, 77, options()) {
            index_format::Index::open(built.bytes).unwrap().validate().unwrap();
        }
    }
}

#[test]
fn inodes_are_limited_implicit_ones_included() {
    let stream = [
        ustar(b"a/b/c/d", b'0').done(),
        ustar(b"a/b/c/d", b'0').done(),
    ]
    .concat();
    let build = |max_inodes| {
        let options = IndexOptions {
            max_inodes,
            ..options()
        };
        index_pieces(&stream, Compression::None, 512, options)
    };
    assert!(build(6).is_ok());
    assert!(matches!(
        build(5),
        Err(IndexerError::TooManyInodes { limit: 5 })
    ));
}
