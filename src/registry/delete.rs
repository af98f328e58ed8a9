//! Manifests, tags and blobs, deleted.

use reqwest::Method;

use crate::auth_slot::Action;
use crate::client::Client;
use crate::error::RegistryError;
use crate::fallback::Change;
use crate::manifest::ManifestTarget;
use crate::push::Referrer;
use crate::reference::Repository;
use index_format::Digest;

impl Client {
    /// Deletes a tag, or a manifest with every tag that leads to it.
    ///
    /// # Errors
    /// See [`RegistryError`]; a status of 400, 405 or 501 where the registry does not allow it.
    pub async fn delete_manifest(
        &self,
        repository: &Repository,
        target: &ManifestTarget,
    ) -> Result<(), RegistryError> {
        self.delete(repository, &target.path()).await
    }

    /// Deletes a manifest and, where it has a subject, its entry in the list of the subject's
    /// referrers, which a registry without referrers API leaves to its clients.
    ///
    /// # Errors
    /// As [`Client::delete_manifest`].
    pub async fn delete_referrer(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Result<(), RegistryError> {
        let target = ManifestTarget::Digest(digest);
        let manifest = self.manifest_at(repository, &target).await?;
        self.delete_manifest(repository, &target).await?;
        let subject = Referrer::parse(&manifest.bytes)
            .ok()
            .and_then(|referrer| referrer.subject_digest());
        match subject {
            Some(subject) => {
                self.change_fallback_tag(repository, subject, &Change::Remove(digest))
                    .await
            }
            None => Ok(()),
        }
    }

    /// Deletes a blob of a repository.
    ///
    /// # Errors
    /// As [`Client::delete_manifest`].
    pub async fn delete_blob(
        &self,
        repository: &Repository,
        digest: Digest,
    ) -> Result<(), RegistryError> {
        self.delete(repository, &format!("blobs/{digest}")).await
    }

    async fn delete(&self, repository: &Repository, path: &str) -> Result<(), RegistryError> {
        let mut call = self.push_call(repository, Method::DELETE, self.url(repository, path)?);
        call.action = Action::Delete;
        self.repeat(&call).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
