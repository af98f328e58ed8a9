use index_format::{Device, FileKind, FileOffset, InodeNumber, Timestamp};
use proptest::prelude::*;

use super::*;

fn file(size: u64) -> Inode {
    Inode {
        number: InodeNumber(7),
        kind: FileKind::Regular,
        permissions: 0o644,
        uid: 0,
        gid: 0,
        nlink: 1,
        size,
        mtime: Timestamp::default(),
        device: Device::default(),
        layer: 3,
        opaque: false,
        implicit: false,
        sparse: true,
        has_xattrs: false,
        parent: InodeNumber::ROOT,
    }
}

fn extent(file_offset: u64, stream_offset: u64, length: u64) -> Extent {
    Extent {
        file_offset: FileOffset(file_offset),
        stream_offset: StreamOffset(stream_offset),
        length,
    }
}

fn stream(offset: u64, length: u64) -> Piece {
    Piece::Stream {
        layer: 3,
        offset: StreamOffset(offset),
        length,
    }
}

#[test]
fn a_read_is_clipped_to_the_file() {
    let extents = [extent(0, 1000, 10)];
    let read = |offset, size| plan(&file(10), &extents, offset, size).unwrap();
    assert_eq!(
        read(0, 4096),
        ReadPlan {
            pieces: vec![stream(1000, 10)],
            length: 10
        }
    );
    assert_eq!(
        read(4, 3),
        ReadPlan {
            pieces: vec![stream(1004, 3)],
            length: 3
        }
    );
    assert_eq!(
        read(9, 100),
        ReadPlan {
            pieces: vec![stream(1009, 1)],
            length: 1
        }
    );
    for offset in [10, 11, u64::MAX] {
        assert_eq!(read(offset, 100), ReadPlan::default());
    }
}

#[test]
fn holes_are_zeros() {
    let extents = [extent(10, 500, 5), extent(20, 600, 5)];
    let read = |offset, size| plan(&file(40), &extents, offset, size).unwrap();
    assert_eq!(
        read(0, 100).pieces,
        [
            Piece::Zeros { length: 10 },
            stream(500, 5),
            Piece::Zeros { length: 5 },
            stream(600, 5),
            Piece::Zeros { length: 15 },
        ]
    );
    assert_eq!(
        read(12, 10).pieces,
        [stream(502, 3), Piece::Zeros { length: 5 }, stream(600, 2)]
    );
    assert!(read(15, 5).is_zeros());
    assert!(!read(14, 5).is_zeros());
    assert!(read(30, 5).is_zeros());
}

#[test]
fn data_and_holes_are_found() {
    let extents = [extent(10, 500, 5), extent(15, 900, 5), extent(30, 600, 5)];
    let data = |offset| next_data(&extents, offset, 40);
    let hole = |offset| next_hole(&extents, offset, 40);
    assert_eq!(
        [data(0), data(10), data(17), data(20)],
        [Some(10), Some(10), Some(17), Some(30)]
    );
    assert_eq!(data(35), None);
    // Two extents that touch have no hole between them.
    assert_eq!(
        [hole(0), hole(10), hole(25), hole(30), hole(36)],
        [0, 20, 25, 35, 36]
    );
    // The end of a file without a hole is one.
    assert_eq!(next_hole(&[extent(0, 0, 40)], 3, 40), 40);
}

#[test]
fn stored_bytes_exclude_holes() {
    assert_eq!(stored(&[extent(10, 500, 5), extent(20, 600, 5)], 40), 10);
    assert_eq!(stored(&[], 40), 0);
}

#[test]
fn extents_beyond_every_stream_are_damage() {
    let error = plan(&file(10), &[extent(0, u64::MAX, 10)], 5, 5).unwrap_err();
    assert!(error.is_damage(), "{error}");
}

proptest! {
    /// Whatever the extents say, the pieces give exactly the bytes that a read has.
    #[test]
    fn pieces_have_the_length_of_the_read(
        size in 0u64..2000,
        extents in prop::collection::vec((0u64..3000, 0u64..1 << 40, 0u64..500), 0..8),
        offset in 0u64..2500,
        wanted in 0u32..3000,
    ) {
        let extents: Vec<_> = extents.into_iter().map(|(f, s, l)| extent(f, s, l)).collect();
        let plan = plan(&file(size), &extents, offset, wanted).unwrap();
        let expected = size.saturating_sub(offset).min(wanted.into());
        prop_assert_eq!(plan.length as u64, expected);
        prop_assert_eq!(plan.pieces.iter().map(Piece::length).sum::<u64>(), expected);
        prop_assert!(plan.pieces.iter().all(|piece| piece.length() > 0));
    }

    /// Any part of a sparse file reads as the model, a byte array filled from the extents.
    #[test]
    fn reads_and_seeks_match_a_byte_array(
        runs in prop::collection::vec((1u64..50, 1u64..50), 0..6),
        tail in 0u64..50,
        offset in 0u64..600,
        wanted in 0u32..700,
    ) {
        let (mut model, mut extents) = (Vec::new(), Vec::new());
        for (hole, data) in runs {
            model.resize(model.len() + hole as usize, None);
            let (at, stream) = (model.len() as u64, 10_000 - 7 * model.len() as u64);
            extents.push(extent(at, stream, data));
            model.extend((0..data).map(|byte| Some(stream + byte)));
        }
        model.resize(model.len() + tail as usize, None);
        let size = model.len() as u64;

        let plan = plan(&file(size), &extents, offset, wanted).unwrap();
        let mut read = Vec::new();
        for piece in &plan.pieces {
            match *piece {
                Piece::Zeros { length } => read.resize(read.len() + length as usize, None),
                Piece::Stream { offset, length, .. } => {
                    read.extend((offset.0..offset.0 + length).map(Some));
                }
            }
        }
        let start = model.len().min(offset as usize);
        let end = model.len().min(start + wanted as usize);
        prop_assert_eq!(&read, &model[start..end]);

        if offset < size {
            let find = |is_data: bool| {
                (offset..size).find(|&at| model[at as usize].is_some() == is_data)
            };
            prop_assert_eq!(next_data(&extents, offset, size), find(true));
            prop_assert_eq!(next_hole(&extents, offset, size), find(false).unwrap_or(size));
        }
        let data = model.iter().filter(|byte| byte.is_some()).count() as u64;
        prop_assert_eq!(stored(&extents, size), data);
    }
}
