//! The current Authorization header of one (host, repository, action), and where the search
//! for it stands.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use reqwest::header::HeaderValue;

use crate::credentials::Credential;
use crate::error::RegistryError;
use crate::reference::Repository;
use crate::token::Token;

/// What a request does with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// Reads.
    Pull,
    /// Reads and writes.
    Push,
    /// Deletes.
    Delete,
}

impl Action {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "delete",
        }
    }
}

/// A header to send, and which one of its slot it is.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    pub(super) generation: u64,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) state: tokio::sync::Mutex<SlotState>,
    /// The newest generation that the registry has accepted.
    pub(super) proved: AtomicU64,
    /// Failed attempts to obtain a header; requests that waited for one share its failure.
    pub(super) failures: AtomicU64,
}

#[derive(Debug, Default)]
pub(super) struct SlotState {
    pub(super) generation: u64,
    pub(super) token: Option<Token>,
    /// What tokens are asked for.
    pub(super) scope: Option<String>,
    pub(super) candidates: Option<Vec<Candidate>>,
    pub(super) position: usize,
    pub(super) notes: Vec<String>,
    pub(super) last_failure: Option<(String, bool)>,
}

#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) credential: Option<Credential>,
}

impl SlotState {
    pub(super) fn held(&self, now: Instant) -> Option<Authorization> {
        let token = self.token.as_ref()?;
        let fresh = token.renew_at.is_none_or(|renew_at| now < renew_at);
        fresh.then(|| Authorization {
            header: token.header.clone(),
            generation: self.generation,
        })
    }

    pub(super) fn skip_candidate(&mut self) {
        let name = self
            .candidates
            .as_ref()
            .and_then(|all| all.get(self.position))
            .map(|candidate| candidate.name.clone());
        self.notes
            .extend(name.map(|name| format!("{name}: refused")));
        self.position += 1;
    }

    pub(super) fn start_over(&mut self) {
        self.token = None;
        self.candidates = None;
        self.position = 0;
        self.notes.clear();
    }

    pub(super) fn shared_failure(&self, repository: &Repository) -> RegistryError {
        let (reason, retryable) = self.last_failure.clone().unwrap_or_default();
        RegistryError::TokenFlight {
            host: repository.host().to_owned(),
            reason,
            retryable,
        }
    }
}
