//! The control socket's protocol: one JSON line a request, any number of lines in answer, the
//! last of them final. The socket is root's alone.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Name of the control socket in the root's `run` directory.
pub const SOCKET: &str = "service.sock";
/// Longest line of either side: an answer about an image with 128 layers is below 256 KiB.
pub const LINE_LIMIT: u64 = 4 * 1024 * 1024;

/// How an image is named and reached, as the client's user would.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageRequest {
    /// The reference as the user typed it.
    pub reference: String,
    /// `os/arch[/variant]`, where the user asked for one.
    pub platform: Option<String>,
    /// Plain HTTP to this image's registry.
    pub plain_http: bool,
    /// The user's docker configuration directory.
    pub docker_config: Option<PathBuf>,
    /// Background fetching, where the user asked for other than the configured.
    pub background: Option<Background>,
}

/// Which program of an image a container runs, for what is known of its starts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Program {
    /// Replaces the image's Entrypoint; empty clears it.
    pub entrypoint: Option<String>,
    /// Replace the image's Cmd.
    pub command: Vec<String>,
    /// A request says when it is ready; until then nothing else is taken for it.
    pub told_when_ready: bool,
    /// It wants a mount that no other container shares, so that everything it reads is seen.
    pub alone: bool,
}

/// What is fetched while nothing is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Background {
    /// The whole image, within the cache budget.
    #[default]
    Full,
    /// The image while its first container starts, then nothing.
    UntilReady,
    /// Nothing.
    Off,
}

/// Requests to the service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Mounts an image for a container; containers of one image share the mount.
    Acquire {
        /// The image.
        image: ImageRequest,
        /// The container that holds it from now on.
        container: String,
        /// What it runs.
        #[serde(default)]
        program: Program,
    },
    /// A container needs its image no longer.
    Release {
        /// The container.
        container: String,
    },
    /// The container's program has shown that it runs: `until-ready` background ends, and so
    /// does the recording of what its start needs.
    Ready {
        /// The container.
        container: String,
    },
    /// Mounts an image at a directory of the user's.
    Mount {
        /// The image.
        image: ImageRequest,
        /// An existing empty directory, absolute.
        directory: PathBuf,
        /// Honour set-user-ID bits and file capabilities.
        suid: bool,
        /// Honour device nodes.
        dev: bool,
    },
    /// Ends a mount made by `Mount`.
    Unmount {
        /// Its directory.
        directory: PathBuf,
    },
    /// Resolves an image and tells of every layer; mounts nothing.
    Inspect {
        /// The image.
        image: ImageRequest,
    },
    /// Tells what is known of the starts of a program.
    DescribeStartup {
        /// The image.
        image: ImageRequest,
        /// The program.
        program: Program,
    },
    /// Makes the pack of a program's recorded starts and attaches it to its image.
    PushPack {
        /// The image.
        image: ImageRequest,
        /// The program.
        program: Program,
    },
    /// Fetches an image whole.
    Pull {
        /// The image.
        image: ImageRequest,
    },
    /// The images that this root knows.
    Images,
    /// Forgets an image.
    RemoveImage {
        /// Reference or manifest digest.
        reference: String,
    },
    /// Drops what no image and no mount uses.
    Prune {
        /// Forget images that no mount uses as well.
        all: bool,
    },
    /// What a container's start has cost so far.
    Timeline {
        /// The container.
        container: String,
    },
    /// Mounts, counters, budget.
    Status,
    /// Ends the service; mounts stay with the keeper unless `unmount`.
    Stop {
        /// Take every mount down as well.
        unmount: bool,
    },
}

impl Request {
    /// Whether asking again comes to the same, though the first time may have been carried out.
    pub fn is_repeatable(&self) -> bool {
        match self {
            Request::Release { .. }
            | Request::Ready { .. }
            | Request::Inspect { .. }
            | Request::DescribeStartup { .. }
            | Request::PushPack { .. }
            | Request::Pull { .. }
            | Request::Images
            | Request::Prune { .. }
            | Request::Timeline { .. }
            | Request::Status => true,
            Request::Acquire { .. }
            | Request::Mount { .. }
            | Request::Unmount { .. }
            | Request::RemoveImage { .. }
            | Request::Stop { .. } => false,
        }
    }

    /// Whether what the service does about it depends on how it reaches registries.
    pub fn reaches_registries(&self) -> bool {
        use Request::{Acquire, DescribeStartup, Inspect, Mount, Pull, PushPack};
        matches!(
            self,
            Acquire { .. }
                | Mount { .. }
                | Inspect { .. }
                | DescribeStartup { .. }
                | PushPack { .. }
                | Pull { .. }
        )
    }
}

/// One line of an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Something is under way; more lines follow.
    Progress(Progress),
    /// Words for the user on stderr; more lines follow.
    Warning {
        /// The words.
        message: String,
    },
    /// The request is carried out. Final.
    Done(Box<Outcome>),
    /// The request failed. Final.
    Failed(Failure),
}

/// How far a long request is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub stage: String,
    /// Bytes done.
    pub bytes: u64,
    /// Bytes in all, zero where unknown.
    pub total: u64,
}

/// What a finished request gives.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing but that it is done.
    Nothing,
    /// A mounted image.
    Mounted(MountedImage),
    /// An image's layers.
    Inspected(Inspection),
    /// What is known of a program's starts; none where none was recorded.
    Startup {
        /// What is known.
        startup: Option<Startup>,
    },
    /// A pack that is attached to its image.
    PackPushed(PackPushed),
    /// The known images.
    Images {
        /// One row a reference.
        images: Vec<ImageRow>,
    },
    /// What was freed.
    Freed {
        /// Bytes of layer content.
        bytes: u64,
        /// References forgotten.
        images: Vec<String>,
    },
    /// What a start has cost.
    Timeline(Box<StartTimeline>),
    /// The service's state.
    Status(Box<Status>),
}

/// A mounted image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountedImage {
    /// The reference, normalised.
    pub reference: String,
    /// Digest of the image manifest.
    pub manifest: String,
    /// Where the merged tree is mounted.
    pub directory: PathBuf,
    /// The image config, verbatim JSON.
    pub config: String,
}

/// A pack that is attached to its image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackPushed {
    /// The reference, normalised.
    pub reference: String,
    /// Digest of the artifact's manifest; none where exactly this pack was attached before.
    pub artifact: Option<String>,
    /// Bytes of the pack.
    pub size: u64,
    /// Leaves in it.
    pub leaves: u64,
}

/// The recorded starts of one program of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Startup {
    /// The reference, normalised.
    pub reference: String,
    /// Digest of the image manifest.
    pub manifest: String,
    /// Digest of the program's arguments.
    pub command: String,
    /// Starts that were recorded, old ones counting less.
    pub starts: u32,
    /// Leaves, of 64 KiB each, that at least half of them touched.
    pub leaves: u64,
    /// Digests of the layers that they belong to.
    pub layers: Vec<String>,
}

/// What `brisk inspect --json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Inspection {
    /// The reference, normalised.
    pub reference: String,
    /// Digest of the image manifest.
    pub digest: String,
    /// The chosen platform.
    pub platform: String,
    /// The layers from the bottom up.
    pub layers: Vec<LayerInspection>,
}

/// One layer of an inspection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerInspection {
    /// Digest of the compressed layer.
    pub digest: String,
    /// Compressed size in bytes.
    pub size: u64,
    /// Media type.
    pub media_type: String,
    /// Whether its content can be fetched as it is touched.
    pub lazy: bool,
    /// Why not, and what to do about it; or what was refused on the way.
    pub reason: Option<String>,
    /// The index in use.
    pub index: Option<IndexInspection>,
    /// Size of its uncompressed stream in bytes; none where no index says it.
    #[serde(default)]
    pub uncompressed_size: Option<u64>,
    /// Bytes of its uncompressed stream that are in the cache.
    pub bytes_present: u64,
}

/// The index of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IndexInspection {
    /// Where it came from.
    pub source: String,
    /// How far it is trusted.
    pub trust: String,
    /// Its identity.
    pub digest: String,
    /// The believed key that has signed it for this image, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
}

/// One known image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageRow {
    /// The reference, normalised.
    pub reference: String,
    /// Digest of the image manifest.
    pub digest: String,
    /// The platform.
    pub platform: String,
    /// Compressed size of all layers in bytes.
    pub size: u64,
    /// Uncompressed size of all layers in bytes; none where an index is gone.
    #[serde(default)]
    pub uncompressed_size: Option<u64>,
    /// Bytes of uncompressed content in the cache.
    pub bytes_present: u64,
    /// Whether something has it mounted.
    pub mounted: bool,
}

/// The service's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Process ID of the service.
    pub pid: u32,
    /// The mounts.
    pub mounts: Vec<MountStatus>,
    /// Counters since the service started.
    pub counters: Counters,
    /// Layers that were pulled whole for want of a usable index, by reason.
    #[serde(default)]
    pub not_lazy: Vec<NotLazy>,
    /// Bytes of layer content on disk.
    pub cache_bytes: u64,
    /// Bytes that it may take.
    pub cache_budget: u64,
    /// How long mounts wait for a service before they are aborted: `off` for ever.
    pub orphan_timeout: String,
}

/// One mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountStatus {
    /// Where it is.
    pub directory: PathBuf,
    /// The image.
    pub reference: String,
    /// Digest of the image manifest.
    pub manifest: String,
    /// The containers that hold it; empty for a user's own mount.
    pub containers: Vec<String>,
    /// Reads that wait for content now.
    pub waiting_reads: u64,
    /// Its layers.
    pub layers: Vec<LayerInspection>,
}

/// Layers that were not lazy for one reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotLazy {
    /// The reason's name in metrics.
    pub reason: String,
    /// Layers since the service started.
    pub layers: u64,
}

/// Counters since the service started.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Reads that wait for content now, over all mounts.
    pub waiting_reads: u64,
    /// Those of them that have been waiting for more than 30 seconds.
    #[serde(default)]
    pub hung_reads: u64,
    /// Reads that the cache had everything for.
    #[serde(default)]
    pub cache_hits: u64,
    /// Reads that had to fetch.
    #[serde(default)]
    pub cache_misses: u64,
    /// Reads answered with an error.
    #[serde(default)]
    pub failed_reads: u64,
    /// Compressed bytes fetched because a read asked for them.
    pub demand_bytes: u64,
    /// Compressed bytes fetched because earlier starts of the image have read them.
    #[serde(default)]
    pub start_up_bytes: u64,
    /// Compressed bytes fetched because a reader would probably ask for them: what follows in a
    /// file, what lies beside it.
    #[serde(default)]
    pub speculation_bytes: u64,
    /// Compressed bytes fetched in the background, and by whole pulls.
    pub background_bytes: u64,
    /// Bytes of manifests, configs, referrers and indexes.
    pub metadata_bytes: u64,
    /// HTTP requests sent.
    pub requests: u64,
    /// Chunks or layers whose bytes did not match their digest.
    pub verification_failures: u64,
}

/// What the service knows of one start: times in microseconds, compressed bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StartTimeline {
    /// Until manifest, config and the list of indexes were known; 0 where the root knew them.
    pub resolve_us: u64,
    /// From then until every layer had its index and they were merged.
    pub index_us: u64,
    /// From then until the tree was mounted.
    pub mount_us: u64,
    /// What was fetched, by cause, the most urgent first.
    pub causes: Vec<CauseTimeline>,
    /// Bytes fetched for the start-up set or on speculation that nobody has read of so far.
    pub wasted_bytes: u64,
    /// Reads that had to wait for content.
    pub missing_reads: u64,
    /// Time during which at least one of them waited.
    pub stalled_us: u64,
    /// Their fetches' time until their turn came, added up over those side by side.
    pub queue_us: u64,
    /// Their fetches' time until the bytes had arrived.
    pub network_us: u64,
    /// Their fetches' time until the bytes were decoded, verified and stored.
    pub decode_us: u64,
}

/// What was fetched for one cause.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CauseTimeline {
    /// Its name.
    pub cause: String,
    /// Bytes that arrived.
    pub bytes: u64,
    /// Requests for them.
    pub requests: u64,
}

/// A failed request.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What is wrong, naming the input.
    pub message: String,
    /// What to do about it, where something can be done.
    pub hint: Option<String>,
}
