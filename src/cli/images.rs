//! `brisk pull`, `images`, `rmi` and `prune`.

use clap::Args;
use indicatif::HumanBytes;

use crate::cli::error::CliError;
use crate::cli::global::GlobalOptions;
use crate::cli::image_request::{ImageOptions, absolute_layout};
use crate::cli::output::{SIZE_HEADS, line, print_json, print_table, sizes};
use crate::cli::service::ask;
use crate::daemon::control::{Outcome, Request};

/// Fetch an image whole
#[derive(Args, Clone, Debug)]
pub struct PullArguments {
    #[command(flatten)]
    image: ImageOptions,
    /// The image: NAME[:TAG][@DIGEST] or oci:DIR[:TAG]
    #[arg(value_name = "REF")]
    reference: String,
}

/// List the images that this root knows
#[derive(Args, Clone, Debug)]
pub struct ImagesArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print references only
    #[arg(long, short)]
    quiet: bool,
}

/// Forget images, and drop what nothing else uses
#[derive(Args, Clone, Debug)]
pub struct RmiArguments {
    /// References or manifest digests
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
}

/// Drop what no image and no mount uses
#[derive(Args, Clone, Debug)]
pub struct PruneArguments {
    /// Forget images that nothing has mounted as well
    #[arg(long, short)]
    all: bool,
}

/// Fetches an image whole.
pub fn pull(global: &GlobalOptions, arguments: &PullArguments) -> Result<(), CliError> {
    let image = arguments.image.request(global, &arguments.reference)?;
    ask(global, &Request::Pull { image }).map(drop)
}

/// Lists the known images.
pub fn images(global: &GlobalOptions, arguments: &ImagesArguments) -> Result<(), CliError> {
    let Outcome::Images { images } = ask(global, &Request::Images)? else {
        return Err(CliError::new("the service answered something else"));
    };
    if arguments.json {
        return print_json(&images);
    }
    if arguments.quiet {
        for image in &images {
            line(format_args!("{}", image.reference))?;
        }
        return Ok(());
    }
    let rows = images.iter().map(|image| {
        let [compressed, uncompressed, present] =
            sizes(image.size, image.uncompressed_size, image.bytes_present);
        vec![
            image.reference.clone(),
            image.digest.chars().take("sha256:".len() + 12).collect(),
            image.platform.clone(),
            compressed,
            uncompressed,
            present,
            if image.mounted { "yes" } else { "no" }.to_owned(),
        ]
    });
    let heads = [
        &["REFERENCE", "DIGEST", "PLATFORM"],
        &SIZE_HEADS[..],
        &["MOUNTED"],
    ];
    print_table(&heads.concat(), rows)
}

/// Forgets images.
pub fn rmi(global: &GlobalOptions, arguments: &RmiArguments) -> Result<(), CliError> {
    for reference in &arguments.references {
        let request = Request::RemoveImage {
            reference: absolute_layout(reference)?,
        };
        say_freed(ask(global, &request)?)?;
    }
    Ok(())
}

/// Drops what nothing uses.
pub fn prune(global: &GlobalOptions, arguments: &PruneArguments) -> Result<(), CliError> {
    say_freed(ask(global, &Request::Prune { all: arguments.all })?)
}

fn say_freed(outcome: Outcome) -> Result<(), CliError> {
    if let Outcome::Freed { bytes, images } = outcome {
        for reference in &images {
            line(format_args!("removed {reference}"))?;
        }
        line(format_args!("freed {}", HumanBytes(bytes)))?;
    }
    Ok(())
}
