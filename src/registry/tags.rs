//! The tags of a repository.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::client::Client;
use crate::error::RegistryError;
use crate::host::shown;
use crate::limits::{MAX_TAGS, MAX_TAGS_PAGE_BYTES, TAGS_PER_PAGE};
use crate::paging::next_page;
use crate::reference::{Repository, check_tag};

/// A page of tags (distribution specification, "Listing Tags"). Some registries write `null`
/// for none.
#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

impl Client {
    /// The tags of a repository, each once, in lexical order.
    ///
    /// # Errors
    /// See [`RegistryError`]; `Malformed` for a list that has what is no tag, does not get on,
    /// or has more than [`MAX_TAGS`].
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<String>, RegistryError> {
        let mut call = self.get(repository, "tags/list")?;
        call.url
            .query_pairs_mut()
            .append_pair("n", &TAGS_PER_PAGE.to_string());
        let mut found = BTreeSet::new();
        loop {
            let response = self.repeat(&call).await?;
            let malformed = |reason: String| RegistryError::Malformed {
                at: shown(&call.url),
                reason,
            };
            let next = next_page(&call, &response)?;
            let page = response.bytes(MAX_TAGS_PAGE_BYTES).await?;
            let page: Page = serde_json::from_slice(&page)
                .map_err(|error| malformed(format!("no list of tags: {error}")))?;
            let before = found.len();
            for tag in page.tags.into_iter().flatten() {
                // Whoever prints them must not be talked to by a registry.
                check_tag(&tag).map_err(|problem| malformed(problem.to_string()))?;
                found.insert(tag);
            }
            if found.len() > MAX_TAGS {
                return Err(malformed(format!("more than {MAX_TAGS} tags")));
            }
            match next {
                Some(_) if found.len() == before => {
                    let reason = "a page without new tags has a next one".to_owned();
                    return Err(malformed(reason));
                }
                Some(url) => call.url = url,
                None => return Ok(found.into_iter().collect()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
