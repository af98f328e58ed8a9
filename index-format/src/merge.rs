//! The union of an image's layers, as unpacking them one after the other into an empty
//! directory would leave it.
//!
//! Per layer: first everything its whiteouts and opaque directories hide is removed from the
//! layers below; then its entries are put in place; then its links into lower layers are
//! resolved. Directories that a layer only passes through keep the attributes they have below,
//! and where the layers below have a symlink in their place, the symlink is followed, as
//! unpackers do: `lib/x` over a symlink `lib` to `usr/lib` lands in `usr/lib`.

mod apply;
mod foreign;
mod layer;
mod remove;
mod resolve;

use crate::digest::Digest;
use crate::draft::{Attributes, Draft, DraftContent, DraftId, DraftNode};
use crate::error::FormatError;
use crate::header::{Compression, Features, IndexKind};
use crate::index::Index;
use crate::limit::{Limits, MAX_INODES, MAX_LAYERS};
use crate::record::LayerRecord;
use crate::section::SectionId;
use crate::write::{HeaderFields, WriteError, assemble, lay_out, verified};
use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

/// Layers that cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// More layers than the limit.
    #[error("{count} layers are more than the limit of {MAX_LAYERS}")]
    TooManyLayers {
        /// How many.
        count: usize,
    },
    /// A merged index among the layers.
    #[error("layer {layer}: its index is a merged one")]
    NotALayer {
        /// Position of the layer, bottom 0.
        layer: u32,
    },
    /// A layer's index that is damaged.
    #[error("layer {layer}: {source}")]
    Layer {
        /// Position of the layer, bottom 0.
        layer: u32,
        /// What is wrong with it.
        source: FormatError,
    },
    /// More inodes than an index can hold.
    #[error("the layers have more than {MAX_INODES} inodes together")]
    TooManyInodes,
    /// The result is larger than the caller allows.
    #[error("the merged index has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Bytes of the merged index.
        size: u64,
        /// The caller's limit.
        limit: u64,
    },
    /// The result cannot be written.
    #[error("the merged index cannot be written: {0}")]
    Write(#[from] WriteError),
}

/// Something that was merged otherwise than its layer may have meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeWarning {
    /// A hardlink whose target is no file of the layers below: dropped, with what its path
    /// named below. A plain unpack would have failed.
    #[error(
        "layer {layer}: {:?} links to {:?}, which no layer below has",
        String::from_utf8_lossy(path),
        String::from_utf8_lossy(target)
    )]
    UnresolvedLink {
        /// Position of the layer, bottom 0.
        layer: u32,
        /// The path of the link.
        path: Vec<u8>,
        /// The path it links to.
        target: Vec<u8>,
    },
    /// A layer has entries below a path that is neither directory nor symlink to one in the
    /// layers below: a directory took its place. A plain unpack would have failed.
    #[error(
        "layer {layer}: {:?} becomes a directory without an entry of its own",
        String::from_utf8_lossy(path)
    )]
    ReplacedByDirectory {
        /// Position of the layer, bottom 0.
        layer: u32,
        /// The path.
        path: Vec<u8>,
    },
}

/// The outcome of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The complete merged index.
    pub bytes: Vec<u8>,
    /// What is worth reporting.
    pub warnings: Vec<MergeWarning>,
}

/// Merges the indexes of an image's layers, bottom first. Their cold sections are not needed.
/// The same layers always give the same bytes.
///
/// # Errors
/// Indexes that are damaged or not of layers, or a limit.
pub fn merge(layers: &[Index], limits: &Limits) -> Result<Merged, MergeError> {
    if layers.len() > MAX_LAYERS {
        return Err(MergeError::TooManyLayers {
            count: layers.len(),
        });
    }
    let mut merger = Merger::new();
    for (index, layer) in layers.iter().zip(0..) {
        if index.kind() != IndexKind::Layer {
            return Err(MergeError::NotALayer { layer });
        }
        merger.add(index, layer)?;
    }
    let mut sections = lay_out(&merger.draft)?;
    let records: Vec<LayerRecord> = layers.iter().map(layer_record).collect();
    sections.set(SectionId::Layers, records.as_bytes().to_vec());
    let bytes = assemble(
        &HeaderFields {
            kind: IndexKind::Merged,
            compression: Compression::None,
            features: Features::default(),
            layer_digest: Digest::ZERO,
            diff_id: Digest::ZERO,
            compressed_size: 0,
            stream_size: 0,
        },
        sections,
    );
    let size = bytes.len() as u64;
    if size > limits.hot_size {
        return Err(MergeError::TooLarge {
            size,
            limit: limits.hot_size,
        });
    }
    Ok(Merged {
        bytes: verified(bytes)?,
        warnings: merger.warnings,
    })
}

fn layer_record(index: &Index) -> LayerRecord {
    LayerRecord {
        layer_digest: *index.layer_digest().as_bytes(),
        diff_id: *index.diff_id().as_bytes(),
        index_digest: *index.digest().as_bytes(),
        compressed_size: U64::new(index.compressed_size()),
        stream_size: U64::new(index.stream_size()),
        compression: index.compression().number(),
        reserved: [0; 7],
    }
}

/// The union so far.
struct Merger<'a> {
    draft: Draft<'a>,
    /// Of every directory of the draft, the one that holds it; the root's is the root. Of
    /// no meaning for other nodes.
    parents: Vec<DraftId>,
    warnings: Vec<MergeWarning>,
}

const ROOT: DraftId = 0;

impl<'a> Merger<'a> {
    fn new() -> Merger<'a> {
        let root = DraftNode {
            attributes: Attributes::IMPLICIT_DIRECTORY,
            layer: 0,
            opaque: false,
            implicit: true,
            xattrs: Vec::new(),
            digest: None,
            content: DraftContent::Directory(Vec::new()),
        };
        Merger {
            draft: Draft { nodes: vec![root] },
            parents: vec![ROOT],
            warnings: Vec::new(),
        }
    }

    /// Puts a layer on top.
    fn add(&mut self, index: &'a Index, number: u32) -> Result<(), MergeError> {
        let damaged = |source| MergeError::Layer {
            layer: number,
            source,
        };
        let layer = layer::Layer::read(index, number).map_err(damaged)?;
        let below = self.foreign_targets(&layer);
        self.remove_hidden(&layer);
        let links = self.apply(&layer)?;
        self.link_foreign(&layer, &links, &below);
        Ok(())
    }

    fn node(&self, id: DraftId) -> &DraftNode<'a> {
        &self.draft.nodes[id as usize]
    }

    fn children(&self, directory: DraftId) -> &[(&'a [u8], DraftId)] {
        match &self.node(directory).content {
            DraftContent::Directory(children) => children,
            _ => &[],
        }
    }

    fn children_mut(&mut self, directory: DraftId) -> Option<&mut Vec<(&'a [u8], DraftId)>> {
        match &mut self.draft.nodes[directory as usize].content {
            DraftContent::Directory(children) => Some(children),
            _ => None,
        }
    }

    fn child(&self, directory: DraftId, name: &[u8]) -> Option<DraftId> {
        let children = self.children(directory);
        let position = children
            .binary_search_by(|(candidate, _)| (*candidate).cmp(name))
            .ok()?;
        Some(children[position].1)
    }

    /// Gives `directory`'s `name` to `child`, whatever had it before.
    fn link(&mut self, directory: DraftId, name: &'a [u8], child: DraftId) {
        if let Some(children) = self.children_mut(directory) {
            match children.binary_search_by(|(candidate, _)| (*candidate).cmp(name)) {
                Ok(position) => children[position].1 = child,
                Err(position) => children.insert(position, (name, child)),
            }
        }
    }

    fn allocate(&mut self, node: DraftNode<'a>, parent: DraftId) -> Result<DraftId, MergeError> {
        let id = u32::try_from(self.draft.nodes.len()).ok();
        // Replaced nodes count as well: sixteen million nodes are the bound of the work.
        let id = id
            .filter(|id| *id < MAX_INODES)
            .ok_or(MergeError::TooManyInodes)?;
        self.draft.nodes.push(node);
        self.parents.push(parent);
        Ok(id)
    }

    /// The path of `name` in a directory, for reports.
    fn path_of(&self, mut directory: DraftId, name: &[u8]) -> Vec<u8> {
        let mut path = name.to_vec();
        while directory != ROOT {
            let parent = self.parents[directory as usize];
            let entry = self
                .children(parent)
                .iter()
                .find(|(_, child)| *child == directory);
            let Some((name, _)) = entry else { break };
            path.splice(0..0, [*name, b"/"].concat());
            directory = parent;
        }
        path
    }
}
