//! The network form: hot part as one range, cold sections one by one, nothing believed.

use crate::fixture::{layer_bytes, tree};
use index_format::{FormatError, Index, Limits, SectionId, wire};

#[test]
fn hot_and_cold_come_back_as_they_were() {
    let bytes = layer_bytes(&tree());
    let whole = Index::open(bytes.clone()).unwrap();
    let encoded = wire::encode(&bytes).unwrap();
    assert_eq!(wire::identity(&encoded.hot).unwrap(), whole.digest());

    let hot = wire::decode_hot(&encoded.hot, &Limits::default()).unwrap();
    assert_eq!(hot, bytes[..whole.header().hot_size as usize]);
    let hot = Index::open(hot).unwrap();
    hot.validate().unwrap();
    assert_eq!(hot.digest(), whole.digest());
    assert!(hot.is_hot_only() && !whole.is_hot_only());
    assert!(hot.has_section(SectionId::Leaves) && !hot.has_section(SectionId::Checkpoints));
    let absent = hot.section(SectionId::Checkpoints).unwrap_err();
    assert!(absent.is_section_absent(), "{absent}");
    let hosts = hot.resolve(b"etc/hosts").unwrap().unwrap();
    assert_eq!(hot.content_digest(hosts), None);

    assert_eq!(encoded.cold.len(), 3);
    let mut cold: Vec<_> = encoded
        .cold
        .iter()
        .map(|(id, frame)| {
            (
                *id,
                wire::decode_cold(&hot, *id, frame, &Limits::default()).unwrap(),
            )
        })
        .collect();
    let checkpoints = &cold[0].1;
    let chunk = hot.chunk(1).unwrap();
    assert_eq!(
        index_format::chunk::checkpoint_in(checkpoints, &chunk).unwrap(),
        b"a window"
    );
    let find = |cold: &[(SectionId, Vec<u8>)], id| {
        cold.iter()
            .find(|(found, _)| *found == id)
            .map(|(_, bytes)| bytes.clone())
    };
    assert_eq!(wire::complete(&hot, |id| find(&cold, id)).unwrap(), bytes);

    cold[0].1[0] ^= 1;
    let changed = wire::complete(&hot, |id| find(&cold, id)).unwrap_err();
    assert!(
        matches!(changed, FormatError::SectionDigest { .. }),
        "{changed}"
    );
    let missing = wire::complete(&hot, |_| None).unwrap_err();
    assert!(missing.is_section_absent(), "{missing}");
}

#[test]
fn a_merged_index_travels_too() {
    let layer = Index::open(layer_bytes(&tree())).unwrap();
    let merged = index_format::merge(&[layer], &Limits::default())
        .unwrap()
        .bytes;
    let encoded = wire::encode(&merged).unwrap();
    assert!(encoded.cold.is_empty());
    let hot = wire::decode_hot(&encoded.hot, &Limits::default()).unwrap();
    assert_eq!(hot, merged);
    assert!(!Index::open(hot).unwrap().is_hot_only());
}

#[test]
fn every_changed_or_missing_byte_of_the_hot_form_is_found() {
    let bytes = layer_bytes(&tree());
    let expected = Index::open(bytes.clone()).unwrap().digest();
    let hot = wire::encode(&bytes).unwrap().hot;
    for position in 0..hot.len() {
        for pattern in [0x01, 0x80, 0xff] {
            let mut damaged = hot.clone();
            damaged[position] ^= pattern;
            // Whoever knows the identity asks for it first; a changed frame may still yield
            // the same bytes (zstd has unused bits), and then nothing is wrong.
            if let Ok(file) = wire::decode_hot(&damaged, &Limits::default()) {
                let same = Index::open(file).is_ok_and(|index| index.validate().is_ok());
                let known = wire::identity(&damaged) == Ok(expected);
                assert!(!known || same, "byte {position} ^ {pattern:#x}");
            }
        }
        assert!(
            wire::decode_hot(&hot[..position], &Limits::default()).is_err(),
            "{position}"
        );
    }
    let longer = [&hot[..], b"x"].concat();
    assert!(wire::decode_hot(&longer, &Limits::default()).is_err());
}

/// A frame that yields more than the header declares, and a header that declares more than
/// allowed: neither is unpacked.
#[test]
fn decompression_bombs_are_refused() {
    let bytes = layer_bytes(&tree());
    let hot = Index::open(bytes.clone()).unwrap();
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
    let error = wire::decode_cold(&hot, SectionId::Headers, &bomb, &Limits::default()).unwrap_err();
    assert!(matches!(error, FormatError::Compressed { .. }), "{error}");

    let encoded = wire::encode(&bytes).unwrap();
    let small = Limits {
        hot_size: hot.header().hot_size - 1,
        cold_section_size: 10,
    };
    let error = wire::decode_hot(&encoded.hot, &small).unwrap_err();
    assert!(matches!(error, FormatError::Limit { .. }), "{error}");
    let (id, frame) = encoded.cold.last().unwrap();
    let error = wire::decode_cold(&hot, *id, frame, &small).unwrap_err();
    assert!(
        matches!(error, FormatError::Limit { limit: 10, .. }),
        "{error}"
    );
}

#[test]
fn an_incomplete_file_is_not_encoded() {
    let bytes = layer_bytes(&tree());
    let hot = Index::open(bytes.clone()).unwrap().header().hot_size as usize;
    assert!(matches!(
        wire::encode(&bytes[..hot]),
        Err(FormatError::Truncated { .. })
    ));
}
