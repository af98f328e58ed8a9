//! `brisk copy` and `brisk push`: images as they are, from one place to another.

use std::sync::Arc;

use clap::Args;

use crate::cli::error::{CliError, because};
use crate::cli::global::GlobalOptions;
use crate::cli::image_request::{ImageOptions, image_error, query};
use crate::cli::output::line;
use crate::cli::progress::progress_bar;
use crate::cli::service::absolute;
use brisk_image::arrival::OnBytes;
use brisk_image::copy::{Copied, Copy};
use brisk_image::destination::Destination;
use brisk_image::platform::Platform;
use brisk_image::store::ImageStore;
use brisk_registry::{
    ArchiveWriter, ImageSource, Layout, LayoutWriter, Place, RegistryError, Source,
};

/// Exit code after an interrupt: 128 and the number of SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Copy an image as it is, with what is attached to it, between registries and OCI layouts
#[derive(Args, Clone, Debug)]
pub struct CopyArguments {
    #[command(flatten)]
    options: CopyOptions,
    /// The image: NAME[:TAG][@DIGEST], oci:DIR[:TAG] or oci-archive:FILE[:TAG]
    #[arg(value_name = "FROM")]
    from: String,
    /// Where it goes: NAME[:TAG], oci:DIR[:TAG] or oci-archive:FILE[:TAG]
    #[arg(value_name = "TO")]
    to: String,
}

/// Push an image of this machine to a registry: an OCI layout, or what this root has resolved
#[derive(Args, Clone, Debug)]
pub struct PushArguments {
    #[command(flatten)]
    options: CopyOptions,
    /// oci:DIR[:TAG], oci-archive:FILE[:TAG], or a reference that `brisk images` lists
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The registry's repository and tag
    #[arg(value_name = "NAME[:TAG]")]
    to: String,
}

#[derive(Args, Clone, Debug)]
struct CopyOptions {
    /// One platform, os/arch[/variant] [default: all of the image]
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// Leave out what is attached to the image: indexes, signatures
    #[arg(long)]
    no_referrers: bool,
}

/// Copies.
pub fn copy(global: &GlobalOptions, arguments: &CopyArguments) -> Result<(), CliError> {
    transfer(global, &arguments.options, &arguments.from, &arguments.to)
}

/// Pushes.
pub fn push(global: &GlobalOptions, arguments: &PushArguments) -> Result<(), CliError> {
    if !matches!(parse(&arguments.to)?, Place::Source(Source::Registry(_))) {
        return Err(
            CliError::new(format!("{} is not in a registry", arguments.to))
                .hint("`brisk copy` writes layouts and archives"),
        );
    }
    let from = match parse(&arguments.image)? {
        Place::Source(Source::Registry(_)) => known(global, &arguments.options, &arguments.image)?,
        _ => arguments.image.clone(),
    };
    transfer(global, &arguments.options, &from, &arguments.to)
}

/// The image that a reference meant when this root resolved it, by its digest.
fn known(
    global: &GlobalOptions,
    options: &CopyOptions,
    reference: &str,
) -> Result<String, CliError> {
    let asked = query(global, &image(options), reference)?;
    let images = ImageStore::new(&absolute(&global.root)?);
    let platform = asked.platform.to_string();
    let record = images.find(&asked.reference, &platform).ok_or_else(|| {
        CliError::new(format!("{} is not known here", asked.reference))
            .hint("`brisk images` lists the known ones; `brisk copy` copies between registries")
    })?;
    Ok(format!("{}@{}", asked.source.scope(), record.manifest))
}

fn transfer(
    global: &GlobalOptions,
    options: &CopyOptions,
    from: &str,
    to: &str,
) -> Result<(), CliError> {
    let platform = options.platform.as_deref().map(str::parse::<Platform>);
    let platform = platform.transpose().map_err(because)?;
    let runtime = tokio::runtime::Runtime::new().map_err(because)?;
    let copied = runtime.block_on(async {
        let source = source(global, options, from).await?;
        // Looked at before anything is made at the destination.
        source.named_manifest().await.map_err(registry_error)?;
        let destination = destination(global, to)?;
        let bar = progress_bar("copying");
        let counted = bar.clone();
        let on_bytes: OnBytes = Arc::new(move |bytes| counted.inc(bytes));
        let copy = Copy {
            source: &source,
            name: from.to_owned(),
            destination: &destination,
            platform: platform.as_ref(),
            referrers: !options.no_referrers,
            on_bytes,
        };
        let copied = tokio::select! {
            copied = copy.run() => copied.map_err(image_error),
            _ = tokio::signal::ctrl_c() => Err(CliError {
                exit_code: EXIT_INTERRUPTED,
                ..CliError::new("interrupted").hint("the same command goes on from here")
            }),
        };
        bar.finish_and_clear();
        copied
    })?;
    say(from, to, &copied)
}

fn say(from: &str, to: &str, copied: &Copied) -> Result<(), CliError> {
    line(format_args!(
        "copied {from} to {to} as {}: {} manifests, {} attached, {} blobs sent ({} bytes), {} not",
        copied.digest,
        copied.manifests,
        copied.referrers,
        copied.sent,
        copied.sent_bytes,
        copied.spared
    ))
}

fn parse(place: &str) -> Result<Place, CliError> {
    place.parse().map_err(because)
}

fn image(options: &CopyOptions) -> ImageOptions {
    ImageOptions {
        platform: options.platform.clone(),
        background: None,
    }
}

async fn source(
    global: &GlobalOptions,
    options: &CopyOptions,
    from: &str,
) -> Result<ImageSource, CliError> {
    match parse(from)? {
        Place::Source(_) => Ok(query(global, &image(options), from)?.source),
        Place::Archive { file, tag } => Ok(ImageSource::Layout {
            layout: Layout::of_archive(file).await.map_err(registry_error)?,
            tag,
            digest: None,
        }),
    }
}

fn destination(global: &GlobalOptions, to: &str) -> Result<Destination, CliError> {
    let any = ImageOptions {
        platform: None,
        background: None,
    };
    match parse(to)? {
        Place::Archive { file, tag } => {
            let writer = ArchiveWriter::create(file).map_err(registry_error)?;
            Ok(Destination::Archive { writer, tag })
        }
        Place::Source(place) if place.has_user_digest() => {
            Err(CliError::new(format!("{to} names a digest"))
                .hint("name a tag: the digest is that of what is copied"))
        }
        Place::Source(Source::Layout { dir, tag, .. }) => {
            let writer = LayoutWriter::open(dir).map_err(registry_error)?;
            Ok(Destination::Layout { writer, tag })
        }
        Place::Source(Source::Registry(_)) => match query(global, &any, to)?.source {
            ImageSource::Registry { client, reference } => {
                Ok(Destination::Registry { client, reference })
            }
            ImageSource::Layout { .. } => Err(CliError::new(format!("{to} is not in a registry"))),
        },
    }
}

fn registry_error(error: RegistryError) -> CliError {
    image_error(error.into())
}
