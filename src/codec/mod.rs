//! Compressed layers: decode from a checkpoint, make checkpoints, for gzip, zstd and plain streams.
