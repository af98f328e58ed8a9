//! Answers to a registry's refusals: which credential, which token, and until when.
//!
//! Each (host, repository, action) has a slot with its current Authorization header. A slot
//! is locked while a token is obtained, so that any number of requests cause one. When the
//! registry refuses a header, the slot moves on: a header that had worked has expired, so
//! the credentials are looked up anew; one that never worked is followed by the next
//! candidate. Candidates are the credential sources in their order, then anonymous access.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use lru::LruCache;
use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::registry::challenge::Challenge;
use crate::registry::credentials::{Credential, CredentialSource};
use crate::registry::error::RegistryError;
use crate::registry::limits::{MAX_REMEMBERED_HOSTS, MAX_REMEMBERED_SCOPES};
use crate::registry::reference::Repository;
use crate::registry::token::{self, Token, TokenRequest};
use crate::registry::transport::Transport;

/// What a request does with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    /// Reads.
    Pull,
    /// Reads and writes.
    Push,
}

impl Action {
    fn words(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// A header to send, and which one of its slot it is.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    generation: u64,
}

/// The refused request: its header's generation, the answer's status and challenge.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) sent: Option<Authorization>,
    pub(super) status: u16,
    pub(super) challenge: Option<Challenge>,
}

#[derive(Debug, Default)]
struct Slot {
    state: tokio::sync::Mutex<SlotState>,
    /// The newest generation that the registry has accepted.
    proved: AtomicU64,
    /// Failed attempts to obtain a header; requests that waited for one share its failure.
    failures: AtomicU64,
}

#[derive(Debug, Default)]
struct SlotState {
    generation: u64,
    token: Option<Token>,
    /// What tokens are asked for.
    scope: Option<String>,
    candidates: Option<Vec<Candidate>>,
    position: usize,
    notes: Vec<String>,
    last_failure: Option<(String, bool)>,
}

#[derive(Debug)]
struct Candidate {
    name: String,
    credential: Option<Credential>,
}

type SlotKey = (Repository, Action);

/// The credentials of one client, and the tokens obtained with them.
#[derive(Debug)]
pub(super) struct Authenticator {
    transport: Arc<Transport>,
    sources: Vec<CredentialSource>,
    slots: Mutex<LruCache<SlotKey, Arc<Slot>>>,
    challenges: Mutex<LruCache<String, Challenge>>,
}

impl Authenticator {
    pub(super) fn new(transport: Arc<Transport>, sources: Vec<CredentialSource>) -> Self {
        let bounded = |limit| NonZeroUsize::new(limit).expect("the limits are not zero");
        Self {
            transport,
            sources,
            slots: Mutex::new(LruCache::new(bounded(MAX_REMEMBERED_SCOPES))),
            challenges: Mutex::new(LruCache::new(bounded(MAX_REMEMBERED_HOSTS))),
        }
    }

    fn slot(&self, key: &SlotKey) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.get_or_insert(key.clone(), Arc::default))
    }

    fn known_challenge(&self, host: &str) -> Option<Challenge> {
        let mut challenges = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        challenges.get(host).cloned()
    }

    /// The header to send with a request now: none as long as the registry has not asked.
    /// A token about to expire is renewed; one for another repository of a registry that is
    /// known to ask is obtained without being refused first.
    pub(super) async fn current(
        &self,
        repository: &Repository,
        action: Action,
    ) -> Result<Option<Authorization>, RegistryError> {
        let Some(challenge) = self.known_challenge(repository.host()) else {
            return Ok(None);
        };
        let key = (repository.clone(), action);
        let slot = self.slot(&key);
        let failures = slot.failures.load(Ordering::Acquire);
        let mut state = slot.state.lock().await;
        if let Some(held) = state.held(Instant::now()) {
            return Ok(Some(held));
        }
        if slot.failures.load(Ordering::Acquire) != failures {
            let error = state.shared_failure(repository);
            return if error.is_retryable() {
                Err(error)
            } else {
                Ok(None)
            };
        }
        match self.obtain(&key, &slot, &mut state, &challenge, 401).await {
            Ok(()) => Ok(state.held(Instant::now())),
            // Asked for elsewhere in this registry, perhaps not here.
            Err(error) if error.is_unauthorized() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes that the registry accepted a header.
    pub(super) fn accepted(&self, repository: &Repository, action: Action, sent: &Authorization) {
        let slot = self.slot(&(repository.clone(), action));
        slot.proved.fetch_max(sent.generation, Ordering::AcqRel);
    }

    /// Moves on after a refusal. `Ok` means that there is another header to try.
    pub(super) async fn refused(
        &self,
        repository: &Repository,
        action: Action,
        refusal: Refusal,
    ) -> Result<(), RegistryError> {
        let asked_scope = scope_asked(action, refusal.challenge.as_ref());
        let challenge = match refusal.challenge {
            Some(challenge) => {
                let mut known = self
                    .challenges
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                known.put(repository.host().to_owned(), challenge.clone());
                Some(challenge)
            }
            None => self.known_challenge(repository.host()),
        };
        let key = (repository.clone(), action);
        let slot = self.slot(&key);
        let failures = slot.failures.load(Ordering::Acquire);
        let mut state = slot.state.lock().await;
        let refused = refusal.sent.map(|sent| sent.generation);
        if refused.unwrap_or(0) < state.generation && state.token.is_some() {
            return Ok(());
        }
        if slot.failures.load(Ordering::Acquire) != failures {
            return Err(state.shared_failure(repository));
        }
        let Some(challenge) = challenge else {
            let tried = "no credential, the registry did not ask for one".to_owned();
            return Err(unauthorized(repository, refusal.status, tried));
        };
        let rescoped = asked_scope.is_some() && asked_scope != state.scope;
        state.scope = asked_scope.or(state.scope.take());
        match refused {
            Some(generation) if slot.proved.load(Ordering::Acquire) < generation => {
                // A token for another scope says nothing about the credential.
                if !rescoped {
                    state.skip_candidate();
                }
            }
            // It had worked, or nothing was sent: look everything up anew.
            _ => state.start_over(),
        }
        self.obtain(&key, &slot, &mut state, &challenge, refusal.status)
            .await
    }

    /// Fills a slot from the first candidate that gives a header.
    async fn obtain(
        &self,
        (repository, action): &SlotKey,
        slot: &Slot,
        state: &mut SlotState,
        challenge: &Challenge,
        status: u16,
    ) -> Result<(), RegistryError> {
        state.token = None;
        if state.candidates.is_none() {
            let (candidates, notes) = self.candidates(repository, challenge).await;
            state.candidates = Some(candidates);
            state.notes = notes;
            state.position = 0;
        }
        let own_scope = || format!("repository:{}:{}", repository.name(), action.words());
        let scope = state.scope.get_or_insert_with(own_scope).clone();
        loop {
            let candidate = state
                .candidates
                .as_ref()
                .and_then(|all| all.get(state.position));
            let Some(candidate) = candidate else {
                let tried = state.notes.join("; ");
                state.start_over();
                slot.failures.fetch_add(1, Ordering::AcqRel);
                let error = unauthorized(repository, status, tried);
                state.last_failure = Some((error.to_string(), false));
                return Err(error);
            };
            match self
                .header_of(repository, candidate, challenge, &scope)
                .await
            {
                Ok(token) => {
                    state.token = Some(token);
                    state.generation += 1;
                    return Ok(());
                }
                Err(error) if error.is_retryable() => {
                    slot.failures.fetch_add(1, Ordering::AcqRel);
                    state.last_failure = Some((error.to_string(), true));
                    return Err(error);
                }
                Err(error) => {
                    let note = format!("{}: {error}", candidate.name);
                    state.notes.push(note);
                    state.position += 1;
                }
            }
        }
    }

    async fn candidates(
        &self,
        repository: &Repository,
        challenge: &Challenge,
    ) -> (Vec<Candidate>, Vec<String>) {
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut notes = Vec::new();
        for source in &self.sources {
            match source.look_up(repository).await {
                Ok(credential) => {
                    let credential = Some(credential);
                    if candidates
                        .iter()
                        .all(|other| other.credential != credential)
                    {
                        candidates.push(Candidate {
                            name: source.to_string(),
                            credential,
                        });
                    }
                }
                Err(reason) => notes.push(reason),
            }
        }
        if matches!(challenge, Challenge::Bearer { .. }) {
            candidates.push(Candidate {
                name: "anonymous".to_owned(),
                credential: None,
            });
        }
        (candidates, notes)
    }

    async fn header_of(
        &self,
        repository: &Repository,
        candidate: &Candidate,
        challenge: &Challenge,
        scope: &str,
    ) -> Result<Token, RegistryError> {
        let host = repository.host();
        let unusable = |reason: &str| RegistryError::Challenge {
            host: host.to_owned(),
            reason: reason.to_owned(),
        };
        let lasting = |header: Option<HeaderValue>| {
            header
                .map(|header| Token {
                    header,
                    renew_at: None,
                })
                .ok_or_else(|| unusable("the credential has invalid characters"))
        };
        match (challenge, &candidate.credential) {
            (_, Some(Credential::RegistryToken(token))) => lasting(token::bearer(token)),
            (Challenge::Basic, Some(Credential::Basic { user, password })) => {
                lasting(token::basic(user, password))
            }
            (Challenge::Basic, Some(Credential::IdentityToken(_))) => Err(unusable(
                "it wants user and password, there is only an identity token",
            )),
            (Challenge::Basic, None) => Err(unusable("it wants user and password")),
            (Challenge::Bearer { realm, service, .. }, credential) => {
                let realm = self.realm(repository, realm)?;
                let request = TokenRequest {
                    realm: &realm,
                    service: service.as_deref(),
                    scope,
                    credential: credential.as_ref(),
                };
                token::fetch(&self.transport, &request).await
            }
        }
    }

    /// The token service's URL. Credentials go there, so a registry reached by HTTPS cannot
    /// name one without it.
    fn realm(&self, repository: &Repository, realm: &str) -> Result<Url, RegistryError> {
        let host = repository.host();
        let challenge = |reason: String| RegistryError::Challenge {
            host: host.to_owned(),
            reason,
        };
        let url =
            Url::parse(realm).map_err(|error| challenge(format!("realm {realm:?}: {error}")))?;
        let plain_allowed = self.transport.config.schemes.is_plain(host);
        match url.scheme() {
            "https" => Ok(url),
            "http" if plain_allowed => Ok(url),
            _ => Err(challenge(format!("realm {realm:?} is not https"))),
        }
    }
}

impl SlotState {
    fn held(&self, now: Instant) -> Option<Authorization> {
        let token = self.token.as_ref()?;
        let fresh = token.renew_at.is_none_or(|renew_at| now < renew_at);
        fresh.then(|| Authorization {
            header: token.header.clone(),
            generation: self.generation,
        })
    }

    fn skip_candidate(&mut self) {
        let name = self
            .candidates
            .as_ref()
            .and_then(|all| all.get(self.position))
            .map(|candidate| candidate.name.clone());
        self.notes
            .extend(name.map(|name| format!("{name}: refused")));
        self.position += 1;
    }

    fn start_over(&mut self) {
        self.token = None;
        self.candidates = None;
        self.position = 0;
        self.notes.clear();
    }

    fn shared_failure(&self, repository: &Repository) -> RegistryError {
        let (reason, retryable) = self.last_failure.clone().unwrap_or_default();
        RegistryError::TokenFlight {
            host: repository.host().to_owned(),
            reason,
            retryable,
        }
    }
}

/// The scope in a challenge, where it covers the action. The registry's own words are
/// preferred to ours: behind a proxy it may know the repository by another name.
fn scope_asked(action: Action, challenge: Option<&Challenge>) -> Option<String> {
    let Some(Challenge::Bearer {
        scope: Some(asked), ..
    }) = challenge
    else {
        return None;
    };
    let covers = asked.split_ascii_whitespace().any(|scope| {
        scope.rsplit_once(':').is_some_and(|(_, actions)| {
            action
                .words()
                .split(',')
                .all(|need| actions.split(',').any(|a| a == need))
        })
    });
    covers.then(|| asked.clone())
}

fn unauthorized(repository: &Repository, status: u16, tried: String) -> RegistryError {
    RegistryError::Unauthorized {
        host: repository.host().to_owned(),
        repository: repository.name().to_owned(),
        status,
        tried: if tried.is_empty() {
            "no credential".to_owned()
        } else {
            tried
        },
    }
}

#[cfg(test)]
mod tests;
