//! `brisk tags` and `brisk delete`: what a repository of a registry has.

use clap::Args;

use crate::cli::error::{CliError, because};
use crate::cli::global::GlobalOptions;
use crate::cli::image_request::{ImageOptions, image_error, query};
use crate::cli::output::{line, print_json};
use brisk_registry::{Client, ImageSource, ManifestTarget, Reference, RegistryError};

/// List the tags of a repository
#[derive(Args, Clone, Debug)]
pub struct TagsArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The repository; a tag or digest is ignored
    #[arg(value_name = "NAME")]
    name: String,
}

/// Delete tags, or manifests with every tag of theirs, from a registry
#[derive(Args, Clone, Debug)]
pub struct DeleteArguments {
    /// Delete what is attached to a manifest as well
    #[arg(long)]
    referrers: bool,
    /// NAME:TAG for a tag, NAME@DIGEST for a manifest
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
}

/// Lists tags.
pub fn tags(global: &GlobalOptions, arguments: &TagsArguments) -> Result<(), CliError> {
    let (client, reference) = remote(global, &arguments.name)?;
    let runtime = tokio::runtime::Runtime::new().map_err(because)?;
    let tags = runtime.block_on(client.tags(reference.repository()));
    let tags = tags.map_err(registry_error)?;
    if arguments.json {
        return print_json(&tags);
    }
    tags.iter().try_for_each(|tag| line(format_args!("{tag}")))
}

/// Deletes.
pub fn delete(global: &GlobalOptions, arguments: &DeleteArguments) -> Result<(), CliError> {
    let mut chosen = Vec::new();
    for text in &arguments.references {
        let (client, reference) = remote(global, text)?;
        let is_named = reference.digest().is_some() || text.ends_with(&tag_of(&reference));
        if !is_named {
            return Err(
                CliError::new(format!("{text} names neither a tag nor a digest"))
                    .hint("nothing is deleted by default: write NAME:TAG or NAME@DIGEST"),
            );
        }
        chosen.push((client, reference));
    }
    let runtime = tokio::runtime::Runtime::new().map_err(because)?;
    runtime.block_on(async {
        for (client, reference) in &chosen {
            let deleted = match reference.digest() {
                Some(digest) if arguments.referrers => {
                    delete_whole(client, reference, digest).await
                }
                Some(digest) => client.delete_referrer(reference.repository(), digest).await,
                None => {
                    client
                        .delete_manifest(reference.repository(), &reference.target())
                        .await
                }
            };
            if let Err(error) = deleted {
                return Err(refused(client, reference, error).await);
            }
            line(format_args!("deleted {reference}"))?;
        }
        Ok(())
    })
}

/// A manifest, and before it what is attached to it.
async fn delete_whole(
    client: &Client,
    reference: &Reference,
    digest: brisk_registry::Digest,
) -> Result<(), RegistryError> {
    let repository = reference.repository();
    for referrer in client.referrers(repository, digest, None).await? {
        let Ok(attached) = referrer.digest().to_string().parse() else {
            continue;
        };
        match client.delete_referrer(repository, attached).await {
            Err(error) if error.is_not_found() => {}
            other => other?,
        }
    }
    client.delete_referrer(repository, digest).await
}

/// A refusal in words: most registries do not delete unless told to, and many delete manifests
/// but no tags.
async fn refused(client: &Client, reference: &Reference, error: RegistryError) -> CliError {
    let is_unsupported = matches!(error.status(), Some(400 | 405 | 501));
    let failed = registry_error(error);
    if !is_unsupported {
        return failed;
    }
    let ManifestTarget::Tag(_) = reference.target() else {
        return failed.hint(
            "this registry does not delete; docker-registry does with `storage.delete.enabled`",
        );
    };
    match client.manifest(reference).await {
        Ok(manifest) => failed.hint(format!(
            "this registry deletes no tags, perhaps whole manifests with all their tags: \
             brisk delete {}@{}",
            reference.repository(),
            manifest.digest
        )),
        Err(error) => registry_error(error),
    }
}

fn tag_of(reference: &Reference) -> String {
    format!(":{}", reference.tag().unwrap_or_default())
}

fn remote(global: &GlobalOptions, text: &str) -> Result<(Client, Reference), CliError> {
    let any = ImageOptions {
        platform: None,
        background: None,
    };
    match query(global, &any, text)?.source {
        ImageSource::Registry { client, reference } => Ok((client, reference)),
        ImageSource::Layout { .. } => Err(CliError::new(format!("{text} is not in a registry"))),
    }
}

fn registry_error(error: RegistryError) -> CliError {
    image_error(error.into())
}
