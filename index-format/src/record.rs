//! The fixed records as they lie in the file: little-endian, without padding, readable at any
//! address. Field order keeps every field naturally aligned in an 8-aligned section.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

macro_rules! records {
    ($($(#[$doc:meta])* $name:ident: $size:literal { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub(crate) struct $name {
            $($(#[$field_doc])* pub(crate) $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

records! {
    /// The fixed part of the header; the section table follows.
    HeaderRecord: 128 {
        magic: [u8; 8],
        major: U16,
        minor: U16,
        header_length: U32,
        required_features: U64,
        optional_features: U64,
        kind: u8,
        compression: u8,
        reserved: [u8; 6],
        layer_digest: [u8; 32],
        diff_id: [u8; 32],
        compressed_size: U64,
        stream_size: U64,
        section_count: U32,
        reserved_tail: U32,
    }

    /// One row of the section table.
    SectionRecord: 56 {
        number: U32,
        reserved: U32,
        offset: U64,
        length: U64,
        digest: [u8; 32],
    }

    InodeRecord: 56 {
        size: U64,
        /// Two's complement.
        mtime_seconds: U64,
        /// By kind: stream offset (regular), extent range (sparse), pool range (links), entry
        /// range (directories), major and minor (devices). Ranges have the start in the low
        /// half and the count in the high one.
        place: U64,
        mtime_nanoseconds: U32,
        uid: U32,
        gid: U32,
        nlink: U32,
        /// 0: none; else the number of the set counted from 1.
        xattr_set: U32,
        parent: U32,
        layer: U32,
        permissions: U16,
        kind: u8,
        flags: u8,
    }

    EntryRecord: 12 {
        name_offset: U32,
        inode: U32,
        name_length: u8,
        kind: u8,
        reserved: [u8; 2],
    }

    XattrSetRecord: 8 {
        first: U32,
        count: U32,
    }

    XattrRecord: 16 {
        name_offset: U32,
        name_length: U32,
        value_offset: U32,
        value_length: U32,
    }

    ExtentRecord: 24 {
        file_offset: U64,
        stream_offset: U64,
        length: U64,
    }

    ChunkRecord: 40 {
        stream_start: U64,
        compressed_start: U64,
        compressed_end: U64,
        checkpoint_start: U64,
        flags: U32,
        bit: u8,
        reserved: [u8; 3],
    }

    DigestRecord: 32 {
        digest: [u8; 32],
    }

    LayerRecord: 120 {
        layer_digest: [u8; 32],
        diff_id: [u8; 32],
        index_digest: [u8; 32],
        compressed_size: U64,
        stream_size: U64,
        compression: u8,
        reserved: [u8; 7],
    }

    ContentDigestRecord: 40 {
        inode: U32,
        reserved: U32,
        digest: [u8; 32],
    }
}

/// Inode flag: a directory whose lower content does not show through.
pub(crate) const FLAG_OPAQUE: u8 = 1 << 0;
/// Inode flag: a directory that no entry names; lower attributes show through.
pub(crate) const FLAG_IMPLICIT: u8 = 1 << 1;
/// Inode flag: a regular file whose data is listed in the extent section.
pub(crate) const FLAG_SPARSE: u8 = 1 << 2;
/// All inode flags this version knows.
pub(crate) const KNOWN_FLAGS: u8 = FLAG_OPAQUE | FLAG_IMPLICIT | FLAG_SPARSE;

/// Splits `place` into the start and the count of a range.
pub(crate) fn range_of(place: U64) -> (u32, u32) {
    let place = place.get();
    (place as u32, (place >> 32) as u32)
}

/// The `place` of a range.
pub(crate) fn place_of(start: u32, count: u32) -> U64 {
    U64::new(u64::from(start) | u64::from(count) << 32)
}
