//! `brisk index build`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::cli::error::{CliError, because, wrong_config};
use crate::cli::global::GlobalOptions;
use crate::cli::image_request::{ImageOptions, image_error, query};
use crate::cli::output::{line, say};
use crate::cli::progress::progress_bar;
use crate::cli::service::absolute;
use crate::daemon::config::{ByteSize, Config};
use brisk_image::Query;
use brisk_image::arrival::{Arrivals, OnBytes};
use brisk_image::error::LAYER_SIZE_HINT;
use brisk_image::index_store::IndexStore;
use brisk_image::publish::{Indexed, IndexedLayer, Publisher};
use brisk_image::store::ImageStore;
use brisk_indexer::{self, BuiltIndex, Discard, IndexOptions, LayerIndexer};

/// Bytes of a layer file read at a time.
const STEP: usize = 1 << 20;

/// What `index build` takes.
#[derive(Args, Clone, Debug)]
pub struct BuildArguments {
    /// Uncompressed bytes between two places where decoding can start, e.g. 1MiB
    #[arg(long, value_name = "SIZE")]
    chunk_size: Option<ByteSize>,
    #[command(flatten)]
    image: ImageOptions,
    /// Where to write the index of a layer file [default: beside it, FILE.index]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A layer file (tar, tar.gz, tar.zst), or an image
    #[arg(value_name = "REF|FILE")]
    what: String,
}

/// Builds indexes.
pub fn build(global: &GlobalOptions, arguments: &BuildArguments) -> Result<(), CliError> {
    let options = options(global, arguments.chunk_size)?;
    let file = Path::new(&arguments.what);
    // A pipe has a layer to give as well.
    if file.exists() && !file.is_dir() {
        return build_file(file, arguments.output.as_deref(), options);
    }
    if let Some(output) = &arguments.output {
        return Err(CliError::new(format!(
            "-o {} is for one layer, and {} is not a layer file",
            output.display(),
            arguments.what
        ))
        .hint("the indexes of an image are kept below the root"));
    }
    let query = query(global, &arguments.image, &arguments.what)?;
    let layers = with_image(global, &query, options)?;
    for layer in &layers {
        line(format_args!(
            "{} {}",
            layer.descriptor.digest,
            layer.index.digest()
        ))?;
    }
    Ok(())
}

/// Builds what is missing of the indexes of an image's layers.
fn with_image(
    global: &GlobalOptions,
    query: &Query,
    options: IndexOptions,
) -> Result<Vec<IndexedLayer>, CliError> {
    let publisher = publisher(global)?;
    let runtime = tokio::runtime::Runtime::new().map_err(because)?;
    runtime.block_on(async {
        let indexed = build_platform(&publisher, query, options, false).await?;
        Ok(indexed.layers)
    })
}

/// What builds and publishes indexes on this root.
pub fn publisher(global: &GlobalOptions) -> Result<Publisher, CliError> {
    let root = absolute(&global.root)?;
    Ok(Publisher {
        images: ImageStore::new(&root),
        indexes: IndexStore::new(&root),
        arrivals: Arrivals::default(),
    })
}

/// Builds what is missing of the indexes of one platform, to be pushed or not, with progress and
/// warnings on stderr.
pub async fn build_platform(
    publisher: &Publisher,
    query: &Query,
    options: IndexOptions,
    push: bool,
) -> Result<Indexed, CliError> {
    let bar = progress_bar("indexing");
    let counted = bar.clone();
    let on_bytes: OnBytes = Arc::new(move |bytes| counted.inc(bytes));
    let built = publisher.build(query, options, on_bytes).await;
    bar.finish_and_clear();
    let (documents, layers) = built.map_err(image_error)?;
    layers.iter().for_each(|layer| say_oddities(layer, push));
    Ok(Indexed { documents, layers })
}

fn say_oddities(layer: &IndexedLayer, push: bool) {
    for warning in &layer.warnings {
        say(format_args!(
            "brisk: warning: layer {}: {warning}",
            layer.descriptor.digest
        ));
    }
    if let Some(reason) = &layer.stream_only {
        let skipped = if push {
            "; its index is not attached"
        } else {
            ""
        };
        say(format_args!(
            "brisk: warning: layer {} can only be fetched whole: {reason}{skipped}",
            layer.descriptor.digest
        ));
    }
}

fn build_file(file: &Path, output: Option<&Path>, options: IndexOptions) -> Result<(), CliError> {
    let output = match output {
        Some(output) => output.to_path_buf(),
        None if !file.is_file() => {
            return Err(
                CliError::new(format!("{} is no regular file", file.display()))
                    .hint("name a file for its index with -o"),
            );
        }
        None => PathBuf::from(format!("{}.index", file.display())),
    };
    let built = index_file(file, options)?;
    for warning in &built.warnings.first {
        say(format_args!("brisk: warning: {warning}"));
    }
    if let Some(reason) = &built.stream_only {
        say(format_args!(
            "brisk: warning: {} can only be read whole: {reason}",
            file.display()
        ));
    }
    write_output(&output, &built.bytes).map_err(|error| {
        CliError::new(format!("writing {}: {error}", output.display()))
            .hint("-o FILE writes the index elsewhere")
    })?;
    line(format_args!("{} {}", built.layer_digest, output.display()))?;
    Ok(())
}

/// Writes an index: a regular file is replaced as a whole, what a symlink names is the file that
/// is meant, and a device or pipe is written to.
fn write_output(output: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let target = std::fs::canonicalize(output).unwrap_or_else(|_| output.to_path_buf());
    match std::fs::metadata(&target) {
        Ok(metadata) if !metadata.is_file() => {
            File::options().write(true).open(&target)?.write_all(bytes)
        }
        _ => brisk_durable::write_file(&target, bytes),
    }
}

/// Indexes a layer file.
pub fn index_file(file: &Path, options: IndexOptions) -> Result<BuiltIndex, CliError> {
    let on_file = |error: std::io::Error| CliError::new(format!("{}: {error}", file.display()));
    let in_file = |error: brisk_indexer::IndexerError| {
        let hint = error
            .is_stream_too_long()
            .then(|| LAYER_SIZE_HINT.to_owned());
        CliError {
            hint,
            ..CliError::new(format!("{}: {}", file.display(), because(error)))
        }
    };
    let mut input = File::open(file).map_err(on_file)?;
    let mut buffer = vec![0; STEP];
    let mut length = fill(&mut input, &mut buffer).map_err(on_file)?;
    let compression = brisk_indexer::detect(&buffer[..length]);
    let mut layer = LayerIndexer::new(compression, options).map_err(in_file)?;
    while length > 0 {
        layer
            .push(&buffer[..length], &mut Discard)
            .map_err(in_file)?;
        length = fill(&mut input, &mut buffer).map_err(on_file)?;
    }
    layer.finish().map_err(in_file)
}

/// Reads until the buffer is full or the input ends: a pipe gives what it has.
fn fill(input: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Options under the configuration's limits.
pub fn options(
    global: &GlobalOptions,
    chunk_size: Option<ByteSize>,
) -> Result<IndexOptions, CliError> {
    let chunk_size = chunk_size.map(|size| size.0);
    if chunk_size.is_some_and(|size| !(4096..=32 << 20).contains(&size)) {
        return Err(CliError::new(
            "the chunk size must be between 4KiB and 32MiB",
        ));
    }
    let config = Config::load(global.config.as_deref()).map_err(wrong_config)?;
    Ok(IndexOptions {
        chunk_size,
        ..config.limits.index_options()
    })
}
