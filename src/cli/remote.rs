//! `brisk inspect --remote` and `--raw`: an image as its registry or layout has it, without
//! this root.

use brisk_registry::{Digest, ImageSource, Manifest, RegistryError};
use indicatif::HumanBytes;
use serde::{Deserialize, Serialize};

use crate::cli::error::{CliError, because};
use crate::cli::global::GlobalOptions;
use crate::cli::image_request::{ImageOptions, image_error, query};
use crate::cli::output::{line, print_bytes, print_json, print_table};
use brisk_image::document::is_image_index;

/// Most manifests of one image index that are told of: each costs requests.
const ENTRY_LIMIT: usize = 256;

/// An image as it is stored.
#[derive(Serialize)]
struct Remote {
    /// Digest of what the reference names.
    digest: String,
    media_type: String,
    /// The manifests: that one, or those that it lists.
    manifests: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    digest: String,
    media_type: String,
    /// `os/architecture[/variant]`, where the image index says it.
    platform: Option<String>,
    /// Layers, and their compressed bytes.
    layers: usize,
    size: u64,
    attached: Vec<Attached>,
}

/// What is attached to a manifest.
#[derive(Serialize)]
struct Attached {
    digest: String,
    artifact_type: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    manifests: Vec<ListedManifest>,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct ListedManifest {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

#[derive(Deserialize)]
struct Layer {
    size: u64,
}

/// Prints the manifest or image index, byte by byte.
pub fn raw(global: &GlobalOptions, image: &ImageOptions, reference: &str) -> Result<(), CliError> {
    let source = query(global, image, reference)?.source;
    let manifest = block_on(source.named_manifest())?;
    print_bytes(&manifest.bytes)
}

/// Tells of the manifests of an image, and of what is attached to them.
pub fn remote(
    global: &GlobalOptions,
    image: &ImageOptions,
    reference: &str,
    json: bool,
) -> Result<(), CliError> {
    let asked = query(global, image, reference)?;
    let source = &asked.source;
    let (root, entries) = block_on(async {
        let root = source.named_manifest().await?;
        let mut entries = Vec::new();
        let listed = parse(&root)?;
        if !is_image_index(&root.media_type) {
            entries.push(entry(source, &root, None).await?);
        }
        for one in listed.manifests.into_iter().take(ENTRY_LIMIT) {
            let digest: Digest = one
                .digest
                .parse()
                .map_err(|_| malformed(&root, &one.digest))?;
            let manifest = match source.manifest(digest).await {
                Ok(manifest) => manifest,
                // A layout need not have every platform that it lists.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            entries.push(entry(source, &manifest, one.platform).await?);
        }
        Ok((root, entries))
    })?;
    if json {
        return print_json(&Remote {
            digest: root.digest.to_string(),
            media_type: root.media_type,
            manifests: entries,
        });
    }
    line(format_args!("{} {}", asked.reference, root.digest))?;
    let rows = entries.into_iter().map(|entry| {
        let attached = entry.attached.into_iter();
        let types: Vec<String> = attached
            .map(|one| one.artifact_type.unwrap_or_else(|| "-".to_owned()))
            .collect();
        // The registry's own words: they are not to talk to the terminal.
        let printable = |text: &str| text.chars().filter(|c| !c.is_control()).collect();
        vec![
            entry.digest,
            entry.platform.as_deref().map_or("-".to_owned(), printable),
            entry.layers.to_string(),
            HumanBytes(entry.size).to_string(),
            printable(&types.join(" ")),
        ]
    });
    print_table(
        &["MANIFEST", "PLATFORM", "LAYERS", "COMPRESSED", "ATTACHED"],
        rows,
    )
}

async fn entry(
    source: &ImageSource,
    manifest: &Manifest,
    platform: Option<Platform>,
) -> Result<Entry, RegistryError> {
    let document = parse(manifest)?;
    let attached = source.referrers(manifest.digest, None).await?;
    Ok(Entry {
        digest: manifest.digest.to_string(),
        media_type: manifest.media_type.clone(),
        platform: platform.map(|platform| platform.to_string()),
        layers: document.layers.len(),
        size: document
            .layers
            .iter()
            .fold(0, |sum, layer| sum.saturating_add(layer.size)),
        attached: attached
            .iter()
            .map(|descriptor| Attached {
                digest: descriptor.digest().to_string(),
                artifact_type: descriptor.artifact_type().as_ref().map(ToString::to_string),
            })
            .collect(),
    })
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

fn parse(manifest: &Manifest) -> Result<Listed, RegistryError> {
    serde_json::from_slice(&manifest.bytes).map_err(|error| malformed(manifest, &error.to_string()))
}

fn malformed(manifest: &Manifest, reason: &str) -> RegistryError {
    RegistryError::Malformed {
        at: manifest.digest.to_string(),
        reason: reason.to_owned(),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, RegistryError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Runtime::new().map_err(because)?;
    runtime
        .block_on(work)
        .map_err(|error| image_error(error.into()))
}
