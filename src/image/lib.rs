//! From a reference to a readable image: manifest, platform, indexes and their trust, config,
//! merge.

pub mod arrival;
pub mod artifact;
pub mod attach;
pub mod candidate;
pub mod copy;
pub mod destination;
pub mod document;
pub mod documents;
pub mod error;
pub mod index_store;
pub mod lowest;
pub mod pack;
pub mod platform;
pub mod publish;
pub mod pull;
pub mod query;
pub mod refusal;
pub mod resolve;
pub mod sign;
pub mod startup;
pub mod store;
pub mod trust;

pub use error::ImageError;
pub use lowest::LowestLayers;
pub use query::Query;
pub use refusal::{Refusal, RefusalCounts, RefusalKind};
pub use resolve::{Observer, ResolvedImage, ResolvedLayer, Resolver};
