//! The full pass over an index from outside. What it accepts answers every question without
//! an error.

mod content;
mod directories;
mod inodes;

use crate::digest::Digest;
use crate::error::FormatError;
use crate::header::{Compression, IndexKind};
use crate::index::Index;
use crate::section::SectionId;

impl Index {
    /// Checks every byte: section digests, padding, and every rule of FORMAT.md. An index that
    /// was opened without its cold sections is checked as far as it is there.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn validate(&self) -> Result<(), FormatError> {
        for section in SectionId::ALL {
            if self.has_section(section) {
                self.check_section(section, self.section(section)?)?;
            }
        }
        self.check_padding()?;
        self.check_structure()
    }

    /// Checks the bytes of a section, from wherever they came, against the header.
    ///
    /// # Errors
    /// Bytes of another length or digest.
    pub fn check_section(&self, section: SectionId, bytes: &[u8]) -> Result<(), FormatError> {
        let expected = self.section_digest(section);
        let found = Digest::of(bytes);
        if bytes.len() as u64 != self.section_length(section) || found != expected {
            let section = section.number();
            return Err(FormatError::SectionDigest {
                section,
                expected,
                found,
            });
        }
        Ok(())
    }

    /// All rules but the digests, which a writer has just computed itself.
    pub(crate) fn check_structure(&self) -> Result<(), FormatError> {
        self.check_kind()?;
        self.check_xattrs()?;
        self.check_inodes()?;
        self.check_directories()?;
        self.check_chunks()?;
        self.check_cold()
    }

    /// Every byte behind a section is zero up to the next one; digests do not cover them.
    fn check_padding(&self) -> Result<(), FormatError> {
        let bytes = self.as_bytes();
        for (number, row) in &self.header().rows {
            // The header has checked that neither end overflows.
            let end = row.offset.saturating_add(row.length) as usize;
            let padded = row.padded_end().unwrap_or(u64::MAX) as usize;
            let padding = bytes.get(end..padded.min(bytes.len())).unwrap_or(&[]);
            if padding.iter().any(|byte| *byte != 0) {
                let problem = "the bytes behind it are not zero";
                return Err(FormatError::Section {
                    section: *number,
                    problem,
                });
            }
        }
        Ok(())
    }

    /// A layer's index names no layers; a merged index has nothing of a single layer.
    fn check_kind(&self) -> Result<(), FormatError> {
        let only = |section: SectionId, problem| match self.section_length(section) {
            0 => Ok(()),
            _ => Err(FormatError::Section {
                section: section.number(),
                problem,
            }),
        };
        if self.kind() == IndexKind::Layer {
            return only(SectionId::Layers, "belongs in a merged index only");
        }
        for section in [
            SectionId::Chunks,
            SectionId::Leaves,
            SectionId::Checkpoints,
            SectionId::ContentDigests,
            SectionId::Headers,
        ] {
            only(section, "belongs in a layer's index only")?;
        }
        let nothing = self.layer_digest() == Digest::ZERO
            && self.diff_id() == Digest::ZERO
            && self.compressed_size() == 0
            && self.stream_size() == 0
            && self.compression() == Compression::None
            && !self.features().is_toc_layout();
        if !nothing {
            let field = "a single layer's field in a merged index";
            return Err(FormatError::Header { field, value: 1 });
        }
        self.check_layers()
    }
}
