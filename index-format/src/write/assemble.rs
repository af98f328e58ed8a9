//! Puts finished sections behind a header.

use crate::digest::Digest;
use crate::header::{
    ALIGNMENT, Compression, Features, IndexKind, MAGIC, MAJOR_VERSION, MINOR_VERSION,
    SECTION_ROW_SIZE, SECTION_TABLE_OFFSET,
};
use crate::record::{HeaderRecord, SectionRecord};
use crate::section::SectionId;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

/// The bytes of every section, empty unless set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sections([Vec<u8>; SectionId::ALL.len()]);

impl Sections {
    pub(crate) fn set(&mut self, section: SectionId, bytes: Vec<u8>) {
        self.0[section.slot()] = bytes;
    }

    fn get(&self, section: SectionId) -> &[u8] {
        &self.0[section.slot()]
    }
}

/// The fields of the header that are not derived from the sections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderFields {
    pub(crate) kind: IndexKind,
    pub(crate) compression: Compression,
    pub(crate) features: Features,
    pub(crate) layer_digest: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) compressed_size: u64,
    pub(crate) stream_size: u64,
}

/// The bytes of a complete index. Each section is dropped when it has been copied.
pub(crate) fn assemble(fields: &HeaderFields, mut sections: Sections) -> Vec<u8> {
    let header_length = SECTION_TABLE_OFFSET + SectionId::ALL.len() * SECTION_ROW_SIZE;
    let padded = |length: usize| length.next_multiple_of(ALIGNMENT as usize);
    let total = sections
        .0
        .iter()
        .fold(header_length, |sum, bytes| sum + padded(bytes.len()));
    let mut file = Vec::with_capacity(total);
    file.extend_from_slice(header_record(fields, header_length).as_bytes());
    let mut offset = header_length;
    for section in SectionId::ALL {
        let bytes = sections.get(section);
        let row = SectionRecord {
            number: U32::new(section.number()),
            reserved: U32::new(0),
            offset: U64::new(offset as u64),
            length: U64::new(bytes.len() as u64),
            digest: *Digest::of(bytes).as_bytes(),
        };
        file.extend_from_slice(row.as_bytes());
        offset += padded(bytes.len());
    }
    for section in SectionId::ALL {
        let bytes = std::mem::take(&mut sections.0[section.slot()]);
        file.extend_from_slice(&bytes);
        drop(bytes);
        file.resize(padded(file.len()), 0);
    }
    file
}

fn header_record(fields: &HeaderFields, header_length: usize) -> HeaderRecord {
    HeaderRecord {
        magic: MAGIC,
        major: U16::new(MAJOR_VERSION),
        minor: U16::new(MINOR_VERSION),
        // 128 + 12 * 56: a constant of this version.
        header_length: U32::new(header_length as u32),
        required_features: U64::new(fields.features.required),
        optional_features: U64::new(fields.features.optional),
        kind: match fields.kind {
            IndexKind::Layer => 0,
            IndexKind::Merged => 1,
        },
        compression: fields.compression.number(),
        reserved: [0; 6],
        layer_digest: *fields.layer_digest.as_bytes(),
        diff_id: *fields.diff_id.as_bytes(),
        compressed_size: U64::new(fields.compressed_size),
        stream_size: U64::new(fields.stream_size),
        // Twelve in this version.
        section_count: U32::new(SectionId::ALL.len() as u32),
        reserved_tail: U32::new(0),
    }
}
