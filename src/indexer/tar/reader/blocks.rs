//! What a complete header block means, and extended headers with their content.

use crate::tar::compose::{Composed, Composer, SparseMap};
use crate::tar::entry::Entry;
use crate::tar::error::{TarError, Warning};
use crate::tar::header::{BLOCK, Header};
use crate::tar::limit::MAX_GLOBAL_RECORDS;
use crate::tar::number;
use crate::tar::pax::{Effective, Records};
use crate::tar::reader::TarReader;
use crate::tar::sparse::MapText;
use crate::tar::state::{Meta, MetaKind, State, padding_of};
use crate::tar::visitor::Visitor;

impl TarReader {
    /// Acts on a complete header block.
    pub(super) fn header<V: Visitor>(&mut self, visitor: &mut V) -> Result<State, V::Error> {
        let offset = self.position - BLOCK as u64;
        let block = self.block.clone();
        let header = Header(&block);
        if header.is_zero() {
            let ended = std::mem::replace(&mut self.after_zero_block, true);
            return Ok(if ended { State::End } else { State::Header });
        }
        if self.after_zero_block {
            return Err(TarError::LoneZeroBlock { offset }.into());
        }
        if !header.checksum_holds() {
            return Err(TarError::Checksum { offset }.into());
        }
        self.headers += 1;
        if self.headers > self.limits.entries {
            let (limit, of) = (self.limits.entries, "headers in one layer");
            return Err(TarError::Limit { offset, limit, of }.into());
        }
        let meta = match header.type_flag() {
            b'x' => MetaKind::Local,
            b'g' => MetaKind::Global,
            b'L' => MetaKind::LongName,
            b'K' => MetaKind::LongLink,
            _ => return self.entry(header, offset, visitor),
        };
        self.meta(meta, header, offset, visitor)
    }

    fn meta<V: Visitor>(
        &mut self,
        kind: MetaKind,
        header: Header<'_>,
        offset: u64,
        visitor: &mut V,
    ) -> Result<State, V::Error> {
        let size = header.size().and_then(|size| u64::try_from(size).ok());
        let remaining = size.ok_or(TarError::Field {
            offset,
            field: "size",
        })?;
        let limit = self.limits.extended_header;
        if remaining > limit {
            let of = "bytes in an extended header";
            return Err(TarError::Limit { offset, limit, of }.into());
        }
        let content = Vec::new();
        let meta = Meta {
            kind,
            offset,
            content,
            remaining,
        };
        if remaining == 0 {
            self.extend(&meta, visitor)?;
            return Ok(State::Header);
        }
        Ok(State::Meta(meta))
    }

    /// Keeps the content of an extended header for the entries that follow.
    pub(super) fn extend<V: Visitor>(
        &mut self,
        meta: &Meta,
        visitor: &mut V,
    ) -> Result<(), V::Error> {
        let Meta {
            kind,
            offset,
            content,
            ..
        } = meta;
        let offset = *offset;
        let name = || Some(number::until_nul(content).to_vec()).filter(|name| !name.is_empty());
        match *kind {
            MetaKind::Local => self.extension.local = Some(Records::parse(content, offset)?),
            MetaKind::LongName => self.extension.long_name = name(),
            MetaKind::LongLink => self.extension.long_link = name(),
            MetaKind::Global => {
                let records = Records::parse(content, offset)?;
                for key in records.meaningful_keys() {
                    visitor.warning(Warning::GlobalRecord { key: key.to_vec() });
                }
                self.globals.apply_global(records);
                if self.globals.byte_count() > MAX_GLOBAL_RECORDS {
                    let (limit, of) = (MAX_GLOBAL_RECORDS as u64, "bytes of global PAX records");
                    return Err(TarError::Limit { offset, limit, of }.into());
                }
            }
        }
        Ok(())
    }

    /// Acts on the header block of an entry.
    fn entry<V: Visitor>(
        &mut self,
        header: Header<'_>,
        offset: u64,
        visitor: &mut V,
    ) -> Result<State, V::Error> {
        let extension = std::mem::take(&mut self.extension);
        let none = Records::default();
        let local = extension.local.as_ref().unwrap_or(&none);
        let records = Effective {
            local,
            global: &self.globals,
        };
        let limits = &self.limits;
        let composer = Composer {
            header,
            offset,
            extension: &extension,
            records,
            limits,
        };
        match composer.compose()? {
            Composed::Bare { entry, skipped } => {
                self.count_metadata(&entry, offset)?;
                visitor.entry(entry)?;
                Ok(State::skipped(skipped, padding_of(skipped)))
            }
            Composed::Unknown {
                path,
                type_flag,
                physical,
            } => {
                visitor.warning(Warning::UnknownType { path, type_flag });
                Ok(State::skipped(physical, padding_of(physical)))
            }
            Composed::File(draft) => match draft.map {
                SparseMap::Continued(_) => Ok(State::Extension(Box::new(draft))),
                SparseMap::InPayload => Ok(State::Map(Box::new(draft), MapText::default())),
                SparseMap::None | SparseMap::Known(_) => self.file(draft, visitor),
            },
        }
    }

    /// Counts what an entry makes its receiver hold.
    pub(super) fn count_metadata(&mut self, entry: &Entry, offset: u64) -> Result<(), TarError> {
        self.metadata += entry.metadata_length();
        let limit = self.limits.metadata;
        if self.metadata > limit {
            let of = "bytes of names, targets and extended attributes in one layer";
            return Err(TarError::Limit { offset, limit, of });
        }
        Ok(())
    }
}
