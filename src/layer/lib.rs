//! Readable layers: an index, a cache file and a blob make one.
//!
//! [`Layer`] answers reads of a layer's stream. What is in the cache is read at once; what is
//! not is fetched as whole chunks, decoded, verified leaf by leaf, stored and answered. No byte
//! leaves this floor that does not match a leaf digest of the layer's index. [`ImageContent`]
//! is what the mounted tree of an image reads its files through, [`BackgroundFetch`] brings the
//! rest of an image, and the [`FetchGate`] of a host keeps it out of the way of readers.
//!
//! A chunk is the unit of fetching and a leaf that of verification, and their boundaries
//! differ: the leaf at a chunk's edge can be verified only together with the neighbour's part.
//! Such parts wait, unverified and never served, in [`Scratch`] until the neighbour comes, or
//! the reader that needs the leaf fetches both chunks.

mod answer;
mod background;
mod cause;
mod checkpoints;
mod closing;
mod comparison;
mod content;
mod counters;
mod decode;
mod decoded;
mod error;
mod exec_ahead;
mod fetch;
mod flight;
mod gate;
mod ledger;
mod local;
mod memory;
mod missing;
mod pace;
mod pack;
mod passing;
mod plan;
mod policy;
mod prefetch;
mod read;
mod readable;
mod recorder;
mod request;
mod resources;
mod scratch;
mod sequence;
mod startup;
mod stream;
mod warmth;

pub use background::{BackgroundFetch, BackgroundMode, BackgroundOutcome};
pub use cause::{Account, Cause, Purpose};
pub use checkpoints::{
    CheckpointError, CheckpointSource, Checkpoints, FetchedCheckpoints, IndexCheckpoints,
};
pub use closing::{CloseError, Closing};
pub use comparison::{Comparison, LayerOwner};
pub use content::{ImageContent, MAX_WAITING_READS};
pub use counters::{Counters, Phase};
pub use error::ReadError;
pub use exec_ahead::fetch_before_exec;
pub use gate::{FetchGate, FetchLimits, Permit};
pub use pace::Arrival;
pub use pack::{
    MAX_PACK_LEAVES, PACK_LEVEL, PackDownload, PackError, PackFault, PackFetch, PackOutcome,
    write_pack,
};
pub use policy::{OnOutage, Policy};
pub use readable::{Layer, LayerParts};
pub use recorder::Recorder;
pub use resources::Resources;
pub use scratch::Scratch;
pub use startup::StartupFetch;

#[cfg(test)]
mod tests;
