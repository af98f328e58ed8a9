//! `brisk inspect` and `brisk status`.

use clap::Args;
use indicatif::HumanBytes;

use crate::cli::error::CliError;
use crate::cli::global::GlobalOptions;
use crate::cli::image_request::ImageOptions;
use crate::cli::output::{SIZE_HEADS, line, print_json, print_table, sizes};
use crate::cli::remote;
use crate::cli::service::ask;
use crate::daemon::control::{LayerInspection, Outcome, Request};

/// Tell of an image's layers: lazy or not and why, the source and trust of each index
#[derive(Args, Clone, Debug)]
pub struct InspectArguments {
    #[command(flatten)]
    image: ImageOptions,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Tell of the manifests of every platform and of what is attached to them, as the registry
    /// has them
    #[arg(long)]
    remote: bool,
    /// Print the manifest or image index as the registry has it, byte by byte
    #[arg(long, conflicts_with_all = ["remote", "json"])]
    raw: bool,
    /// The image: NAME[:TAG][@DIGEST] or oci:DIR[:TAG]
    #[arg(value_name = "REF")]
    reference: String,
}

/// Tell of the mounts of this root, the cache and the traffic
#[derive(Args, Clone, Debug)]
pub struct StatusArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Tells of an image's layers.
pub fn inspect(global: &GlobalOptions, arguments: &InspectArguments) -> Result<(), CliError> {
    if arguments.raw {
        return remote::raw(global, &arguments.image, &arguments.reference);
    }
    if arguments.remote {
        let (image, json) = (&arguments.image, arguments.json);
        return remote::remote(global, image, &arguments.reference, json);
    }
    let image = arguments.image.request(global, &arguments.reference)?;
    let Outcome::Inspected(inspection) = ask(global, &Request::Inspect { image })? else {
        return Err(CliError::new("the service answered something else"));
    };
    if arguments.json {
        return print_json(&inspection);
    }
    line(format_args!(
        "{} {} {}",
        inspection.reference, inspection.digest, inspection.platform
    ))?;
    layers(&inspection.layers)
}

/// Tells of the service.
pub fn status(global: &GlobalOptions, arguments: &StatusArguments) -> Result<(), CliError> {
    let Outcome::Status(status) = ask(global, &Request::Status)? else {
        return Err(CliError::new("the service answered something else"));
    };
    if arguments.json {
        return print_json(&status);
    }
    let counters = &status.counters;
    line(format_args!("service    process {}", status.pid))?;
    line(format_args!(
        "cache      {} of {}",
        HumanBytes(status.cache_bytes),
        HumanBytes(status.cache_budget)
    ))?;
    line(format_args!(
        "fetched    {} on demand, {} for the start, {} ahead, {} in the background, {} of metadata",
        HumanBytes(counters.demand_bytes),
        HumanBytes(counters.start_up_bytes),
        HumanBytes(counters.speculation_bytes),
        HumanBytes(counters.background_bytes),
        HumanBytes(counters.metadata_bytes)
    ))?;
    line(format_args!("waiting    {} reads", counters.waiting_reads))?;
    line(format_args!("orphans    timeout {}", status.orphan_timeout))?;
    for mount in &status.mounts {
        line(format_args!(""))?;
        line(format_args!(
            "{} at {}",
            mount.reference,
            mount.directory.display()
        ))?;
        if !mount.containers.is_empty() {
            line(format_args!("containers {}", mount.containers.join(" ")))?;
        }
        layers(&mount.layers)?;
    }
    Ok(())
}

fn layers(layers: &[LayerInspection]) -> Result<(), CliError> {
    let rows = layers.iter().map(|layer| {
        let (source, trust) = layer.index.as_ref().map_or(("-", "-"), |index| {
            (index.source.as_str(), index.trust.as_str())
        });
        let [compressed, uncompressed, present] =
            sizes(layer.size, layer.uncompressed_size, layer.bytes_present);
        vec![
            layer.digest.chars().take("sha256:".len() + 12).collect(),
            compressed,
            uncompressed,
            present,
            if layer.lazy { "lazy" } else { "whole" }.to_owned(),
            source.to_owned(),
            trust.to_owned(),
            layer.reason.clone().unwrap_or_default(),
        ]
    });
    let heads = [
        &["LAYER"],
        &SIZE_HEADS[..],
        &["FETCH", "INDEX", "TRUST", "REASON"],
    ];
    print_table(&heads.concat(), rows)
}
