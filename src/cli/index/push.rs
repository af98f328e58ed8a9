//! `brisk index push`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::error::{CliError, because};
use crate::cli::global::GlobalOptions;
use crate::cli::image_request::{ImageOptions, image_error, query};
use crate::cli::index::build::{build_platform, options, publisher};
use crate::cli::output::line;
use crate::daemon::config::ByteSize;
use brisk_image::Query;
use brisk_image::destination::Destination;
use brisk_image::documents::every_platform;
use brisk_image::publish::{self, Indexed, Publisher};
use brisk_image::sign::SigningKey;
use brisk_registry::{ImageSource, Manifest, Reference};

/// What `index push` takes.
#[derive(Args, Clone, Debug)]
pub struct PushArguments {
    /// Uncompressed bytes between two places where decoding can start, e.g. 1MiB
    #[arg(long, value_name = "SIZE")]
    chunk_size: Option<ByteSize>,
    /// One platform, os/arch[/variant] [default: every one that the image has]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Attach the indexes to the image in this repository of a registry, which has the same
    /// image or will have it [default: where the image is]
    #[arg(long, value_name = "REF")]
    to: Option<String>,
    /// Sign the indexes with this private key
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// Write the image anew with the indexes bound by its digest, and tag it where a tag is given
    #[arg(long, value_name = "TAG", num_args = 0..=1, require_equals = true)]
    bind: Option<Option<String>>,
    /// The image: NAME[:TAG][@DIGEST] or oci:DIR[:TAG]
    #[arg(value_name = "REF")]
    reference: String,
}

/// Builds indexes and attaches them.
pub fn push(global: &GlobalOptions, arguments: &PushArguments) -> Result<(), CliError> {
    let image = |platform: &Option<String>| ImageOptions {
        platform: platform.clone(),
        background: None,
    };
    let asked = query(global, &image(&arguments.platform), &arguments.reference)?;
    let key = arguments.sign.as_deref().map(SigningKey::read).transpose();
    let key = key.map_err(|error| {
        because(error).hint("`brisk key generate FILE` makes one, and FILE.pub with the public key")
    })?;
    let options = options(global, arguments.chunk_size)?;
    let destination = match &arguments.to {
        Some(to) => registry(query(global, &image(&None), to)?)?,
        None => Destination::beside(&asked.source).map_err(|e| image_error(e.into()))?,
    };
    if let Some(Some(tag)) = &arguments.bind {
        // A tag is part of a reference; a wrong one is found before anything is built.
        format!("registry.invalid/name:{tag}")
            .parse::<Reference>()
            .map_err(|_| CliError::new(format!("--bind={tag}: {tag:?} is no tag")))?;
    }
    let publisher = publisher(global)?;
    let runtime = tokio::runtime::Runtime::new().map_err(because)?;
    runtime.block_on(async {
        let queries = match arguments.platform {
            Some(_) => vec![asked.clone()],
            None => every_platform(&asked).await.map_err(image_error)?,
        };
        let mut platforms = Vec::new();
        for query in &queries {
            let indexed = build_platform(&publisher, query, options, true).await?;
            attach(&publisher, &destination, query, &indexed, key.as_ref()).await?;
            platforms.push(indexed);
        }
        if let Some(tag) = &arguments.bind {
            let bound = publish::bind(&publisher, &asked, &destination, &platforms, key.as_ref());
            let bound = bound.await.map_err(image_error)?;
            let named = tagged(destination, tag.as_deref());
            if tag.is_some() || matches!(named, Destination::Layout { .. }) {
                named
                    .name(&bound)
                    .await
                    .map_err(|e| image_error(e.into()))?;
            }
            say_bound(&named, &bound, tag.as_deref())?;
        }
        Ok(())
    })
}

async fn attach(
    publisher: &Publisher,
    destination: &Destination,
    query: &Query,
    indexed: &Indexed,
    key: Option<&SigningKey>,
) -> Result<(), CliError> {
    let published = publisher.push(destination, &indexed.documents, &indexed.layers, key);
    let published = published.await.map_err(image_error)?;
    let state = match published.was_there {
        true => "already attached",
        false => "attached",
    };
    let place = match destination {
        Destination::Registry { reference, .. } => reference.to_string(),
        Destination::Layout { .. } | Destination::Archive { .. } => query.reference.clone(),
    };
    let skipped = match published.skipped {
        0 => String::new(),
        count => format!("; {count} without an index"),
    };
    line(format_args!(
        "{state} {} to {place} {}: {} layers, {} bytes{skipped}",
        published.artifact, query.platform, published.layers, published.size
    ))
}

/// A repository of a registry as a destination.
fn registry(query: Query) -> Result<Destination, CliError> {
    match query.source {
        ImageSource::Registry { client, reference } => {
            Ok(Destination::Registry { client, reference })
        }
        ImageSource::Layout { .. } => Err(CliError::new(format!(
            "--to {} is not in a registry",
            query.reference
        ))),
    }
}

/// The destination under another tag.
fn tagged(destination: Destination, tag: Option<&str>) -> Destination {
    match destination {
        Destination::Registry { client, reference } => {
            let text = match tag {
                Some(tag) => format!("{}:{tag}", reference.repository()),
                None => reference.repository().to_string(),
            };
            // Both parts have been parsed before.
            let reference = text.parse().unwrap_or(reference);
            Destination::Registry { client, reference }
        }
        Destination::Layout { writer, .. } => {
            let tag = tag.map(str::to_owned);
            Destination::Layout { writer, tag }
        }
        archive @ Destination::Archive { .. } => archive,
    }
}

fn say_bound(
    destination: &Destination,
    bound: &Manifest,
    tag: Option<&str>,
) -> Result<(), CliError> {
    let place = match destination {
        Destination::Registry { reference, .. } => reference.repository().to_string(),
        Destination::Layout { writer, .. } => format!("oci:{}", writer.dir().display()),
        Destination::Archive { .. } => String::new(),
    };
    let tag = tag.map_or_else(String::new, |tag| format!(":{tag}"));
    line(format_args!("bound {place}{tag}@{}", bound.digest))
}
