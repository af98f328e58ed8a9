//! Regular files: their sparse maps, wherever those stand, and their place in the stream.

use crate::tar::compose::{FileDraft, SparseMap};
use crate::tar::entry::{DataExtent, EntryKind};
use crate::tar::error::TarError;
use crate::tar::reader::TarReader;
use crate::tar::sparse::{self, MapText, SparseFields};
use crate::tar::state::{State, padding_of};
use crate::tar::visitor::Visitor;

impl TarReader {
    /// Takes a complete block that continues an old GNU sparse map.
    pub(super) fn continue_map<V: Visitor>(
        &mut self,
        mut draft: Box<FileDraft>,
        visitor: &mut V,
    ) -> Result<State, V::Error> {
        let offset = draft.offset;
        let fields = SparseFields::extension(&self.block);
        let is_extended = fields.is_extended;
        let SparseMap::Continued(runs) = &mut draft.map else {
            unreachable!("only continued maps come here");
        };
        let bad = |what| TarError::Sparse { offset, what };
        fields.append_to(runs).ok_or(bad("it holds no number"))?;
        if runs.len() > self.limits.sparse_extents {
            return Err(bad("it has too many extents").into());
        }
        if is_extended {
            return Ok(State::Extension(draft));
        }
        draft.map = SparseMap::Known(std::mem::take(runs));
        self.file(*draft, visitor)
    }

    /// Reads map text in front of a file's data, up to the end of `bytes` or of the map.
    pub(super) fn map_text<'b, V: Visitor>(
        &mut self,
        mut draft: Box<FileDraft>,
        mut map: MapText,
        bytes: &'b [u8],
        visitor: &mut V,
    ) -> Result<(State, &'b [u8]), V::Error> {
        let bad = |what| TarError::Sparse {
            offset: draft.offset,
            what,
        };
        for (position, byte) in bytes.iter().enumerate() {
            let left = draft.physical.checked_sub(1);
            draft.physical = left.ok_or(bad("it is longer than the entry"))?;
            let complete = map.push(*byte, self.limits.sparse_extents).map_err(bad)?;
            if !complete {
                continue;
            }
            let mut taken = position as u64 + 1;
            let (_, rest) = self.frame(bytes, &mut taken, visitor)?;
            draft.map = SparseMap::Known(map.into_runs());
            // Headers and maps begin at whole blocks, so this is where the map's last one ends.
            let remaining = padding_of(self.position);
            let left = draft.physical.checked_sub(remaining);
            draft.physical = left.ok_or(bad("it is longer than the entry"))?;
            if remaining == 0 {
                return Ok((self.file(*draft, visitor)?, rest));
            }
            return Ok((State::MapPadding(draft, remaining), rest));
        }
        let mut unlimited = u64::MAX;
        let (_, rest) = self.frame(bytes, &mut unlimited, visitor)?;
        Ok((State::Map(draft, map), rest))
    }

    /// Hands out a regular file whose data begins here.
    pub(super) fn file<V: Visitor>(
        &mut self,
        draft: FileDraft,
        visitor: &mut V,
    ) -> Result<State, V::Error> {
        let FileDraft {
            mut entry,
            offset,
            logical,
            physical,
            map,
        } = draft;
        let EntryKind::Regular { extents, .. } = &mut entry.kind else {
            unreachable!("drafts are regular files");
        };
        if let SparseMap::Known(runs) = map {
            let placed = sparse::place(&runs, logical, self.position, physical);
            *extents = placed.map_err(|what| TarError::Sparse { offset, what })?;
            self.sparse_extents += extents.len() as u64;
            let limit = self.limits.sparse_extents_per_layer;
            if self.sparse_extents > limit {
                let of = "extents of sparse files in one layer";
                return Err(TarError::Limit { offset, limit, of }.into());
            }
        } else if physical > 0 {
            let (file_offset, stream_offset) = (0, self.position);
            extents.push(DataExtent {
                file_offset,
                stream_offset,
                length: physical,
            });
        }
        self.count_metadata(&entry, offset)?;
        visitor.entry(entry)?;
        Ok(State::payload(physical, padding_of(physical)))
    }
}
