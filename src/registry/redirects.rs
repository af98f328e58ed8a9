//! Where blobs really are: redirect targets, remembered until they stop working.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;
use reqwest::Url;

use crate::limits::MAX_REMEMBERED_REDIRECTS;
use crate::reference::Repository;
use index_format::Digest;

type Key = (Repository, Digest);

/// The final URL of each blob, per repository: a signed URL was given to one repository's
/// readers. Belongs to one set of credentials for the same reason.
#[derive(Debug)]
pub(super) struct Redirects {
    targets: Mutex<LruCache<Key, Url>>,
}

impl Redirects {
    pub(super) fn new() -> Self {
        let limit = NonZeroUsize::new(MAX_REMEMBERED_REDIRECTS).expect("the limit is not zero");
        Self {
            targets: Mutex::new(LruCache::new(limit)),
        }
    }

    pub(super) fn get(&self, repository: &Repository, digest: Digest) -> Option<Url> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.get(&(repository.clone(), digest)).cloned()
    }

    pub(super) fn put(&self, repository: &Repository, digest: Digest, url: Url) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.put((repository.clone(), digest), url);
    }

    /// Forgets a target, unless another request has replaced it already.
    pub(super) fn forget(&self, repository: &Repository, digest: Digest, stale: &Url) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (repository.clone(), digest);
        if targets.peek(&key) == Some(stale) {
            targets.pop(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;

    #[test]
    fn a_replaced_target_survives_the_forgetting_of_the_old_one() {
        let redirects = Redirects::new();
        let reference: Reference = "r.example/a".parse().unwrap();
        let (repository, digest) = (reference.repository(), Digest::of(b"x"));
        let old = Url::parse("https://cdn.example/1").unwrap();
        let new = Url::parse("https://cdn.example/2").unwrap();
        redirects.put(repository, digest, old.clone());
        redirects.put(repository, digest, new.clone());
        redirects.forget(repository, digest, &old);
        assert_eq!(redirects.get(repository, digest), Some(new.clone()));
        redirects.forget(repository, digest, &new);
        assert_eq!(redirects.get(repository, digest), None);
    }
}
