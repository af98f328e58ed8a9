//! Hostile bytes: whatever they are, the answer is an error or has the declared length.

use super::content::{KINDS, make};
use super::*;
use proptest::prelude::*;
use proptest::sample::Index;

/// One change to some bytes.
#[derive(Debug, Clone)]
pub(super) enum Damage {
    Set(Index, u8),
    Cut(Index),
    Insert(Index, u8),
    Swap(Index, Index),
}

impl Damage {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match *self {
            Damage::Set(at, value) => *at.get_mut(bytes) = value,
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Insert(at, value) => bytes.insert(at.index(bytes.len()), value),
            Damage::Swap(a, b) => {
                let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
                bytes.swap(a, b);
            }
        }
    }
}

pub(super) fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        6 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Damage::Set(at, value)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Damage::Insert(at, value)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Damage::Swap(a, b)),
    ];
    proptest::collection::vec(one, 1..4)
}

/// Decodes every chunk with damaged bytes, a damaged record, a wrong bit, a wrong length and
/// the wrong history.
pub(super) fn decode_damaged(
    compression: Compression,
    layer: &[u8],
    damage: &[Damage],
    bit: u8,
    length: u64,
) {
    let (scan, stream) = scan(compression, layer, 3000).unwrap();
    for (number, chunk) in scan.chunks.iter().enumerate() {
        let sound = source(&scan, number, layer);
        let mut bytes = sound.compressed.to_vec();
        damage.iter().for_each(|one| one.apply(&mut bytes));
        let mut record = chunk.checkpoint.clone();
        damage.iter().for_each(|one| one.apply(&mut record));
        let start = chunk.stream_start.0 as usize;
        let damaged = ChunkSource {
            compressed: &bytes,
            ..sound
        };
        let histories = [
            own_history(chunk),
            History::Free,
            History::Checkpoint(&record),
            History::Window(&stream[start / 2..start]),
            History::Both {
                checkpoint: &record,
                window: &stream[start / 2..start],
            },
        ];
        for history in histories {
            let sources = [
                sound,
                damaged,
                ChunkSource { bit, ..sound },
                ChunkSource {
                    stream_length: length,
                    ..sound
                },
            ];
            for source in sources {
                match decode_chunk(compression, &source, history) {
                    Ok(bytes) => assert_eq!(bytes.len() as u64, source.stream_length),
                    Err(error) => assert!(error.is_bad_data(), "{error}"),
                }
            }
        }
        let _ = history_length(compression, &record);
    }
}

/// Scans damaged bytes: no more stream than allowed, no panic, no end without an answer.
pub(super) fn scan_damaged(compression: Compression, layer: &[u8], damage: &[Damage]) {
    let mut bytes = layer.to_vec();
    damage.iter().for_each(|one| one.apply(&mut bytes));
    let options = ScanOptions {
        chunk_size: 3000,
        max_stream_size: 1 << 20,
        grows: false,
    };
    let mut scanner = scanner(compression, options);
    let mut stream = 0;
    let pushed = scanner.push(&bytes, &mut |bytes| {
        stream += bytes.len();
        Ok(())
    });
    assert!(stream <= 1 << 20);
    match pushed.and_then(|()| scanner.finish()) {
        Ok(scan) => assert_eq!(scan.stream_size, stream as u64),
        Err(error) => assert!(error.is_bad_data(), "{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn gzip_survives(
        damage in damage(), bit in 0u8..20, length in 0u64..20_000,
        kind in 0usize..6, level in 0u32..10, seed: u64,
    ) {
        let layer = crate::writers::flate2(&make(KINDS[kind], seed, 20_000), level);
        scan_damaged(Compression::Gzip, &layer, &damage);
        decode_damaged(Compression::Gzip, &layer, &damage, bit, length);
        let layer = crate::writers::small_blocks(&make(KINDS[kind], seed, 20_000), seed);
        scan_damaged(Compression::Gzip, &layer, &damage);
        decode_damaged(Compression::Gzip, &layer, &damage, bit, length);
    }

    #[test]
    fn zstd_survives(
        damage in damage(), bit in 0u8..20, length in 0u64..20_000,
        kind in 0usize..6, level in 1i32..10, seed: u64,
    ) {
        let content = make(KINDS[kind], seed, 20_000);
        let layers = [
            crate::writers::zstd(&content, level, true, true),
            crate::writers::zstd_small_blocks(&content, level, 12, 1000, seed),
            crate::writers::zstd_frames(&content, 5000, seed),
        ];
        for layer in layers {
            scan_damaged(Compression::Zstd, &layer, &damage);
            decode_damaged(Compression::Zstd, &layer, &damage, bit, length);
        }
    }

    #[test]
    fn noise_is_no_layer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for compression in [Compression::Gzip, Compression::Zstd] {
            scan_damaged(compression, &bytes, &[]);
            let (checkpoint, window) = bytes.split_at(bytes.len() / 2);
            for bit in 0..10 {
                let source = ChunkSource { compressed: &bytes, bit, stream_length: 900 };
                for history in [History::Window(window), History::Both { checkpoint, window }] {
                    if let Ok(decoded) = decode_chunk(compression, &source, history) {
                        prop_assert_eq!(decoded.len(), 900);
                    }
                }
            }
        }
    }
}
