//! Answers to a registry's refusals: which credential, which token, and until when.
//!
//! Each (host, repository, action) has a slot with its current Authorization header. A slot
//! is locked while a token is obtained, so that any number of requests cause one. When the
//! registry refuses a header, the slot moves on: a header that had worked has expired, so
//! the credentials are looked up anew; one that never worked is followed by the next
//! candidate. Candidates are the credential sources in their order, then anonymous access.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use lru::LruCache;
use reqwest::Url;
use reqwest::header::HeaderValue;

use crate::auth_slot::{Action, Authorization, Candidate, Slot, SlotState};
use crate::challenge::{Challenge, Challenges};
use crate::credentials::{Credential, CredentialSource};
use crate::error::RegistryError;
use crate::hosts::Endpoint;
use crate::limits::MAX_REMEMBERED_SCOPES;
use crate::reference::Repository;
use crate::token::{self, Token, TokenRequest};
use crate::transport::Transport;

/// The refused request: its header's generation, the answer's status and challenge.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) sent: Option<Authorization>,
    pub(super) status: u16,
    pub(super) challenge: Option<Challenge>,
}

type SlotKey = (Repository, Action);

/// The credentials of one client, and the tokens obtained with them.
#[derive(Debug)]
pub(super) struct Authenticator {
    transport: Arc<Transport>,
    sources: Vec<CredentialSource>,
    slots: Mutex<LruCache<SlotKey, Arc<Slot>>>,
    challenges: Arc<Challenges>,
}

impl Authenticator {
    pub(super) fn new(
        transport: Arc<Transport>,
        sources: Vec<CredentialSource>,
        challenges: Arc<Challenges>,
    ) -> Self {
        let limit = NonZeroUsize::new(MAX_REMEMBERED_SCOPES).expect("the limit is not zero");
        Self {
            transport,
            sources,
            slots: Mutex::new(LruCache::new(limit)),
            challenges,
        }
    }

    fn slot(&self, key: &SlotKey) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.get_or_insert(key.clone(), Arc::default))
    }

    /// The header to send with a request now: none as long as the registry has not asked.
    /// A token about to expire is renewed; one for another repository of a registry that is
    /// known to ask is obtained without being refused first.
    pub(super) async fn current(
        &self,
        server: &Endpoint,
        repository: &Repository,
        action: Action,
    ) -> Result<Option<Authorization>, RegistryError> {
        let Some(challenge) = self.challenges.of(repository.host()) else {
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
        let obtained = self.obtain(server, &key, &slot, &mut state, &challenge, 401);
        match obtained.await {
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
        server: &Endpoint,
        repository: &Repository,
        action: Action,
        refusal: Refusal,
    ) -> Result<(), RegistryError> {
        let asked_scope = refusal
            .challenge
            .as_ref()
            .and_then(|c| c.scope_covering(action.words()));
        let challenge = match refusal.challenge {
            Some(challenge) => {
                self.challenges
                    .remember(repository.host(), challenge.clone());
                Some(challenge)
            }
            None => self.challenges.of(repository.host()),
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
        self.obtain(server, &key, &slot, &mut state, &challenge, refusal.status)
            .await
    }

    /// Fills a slot from the first candidate that gives a header.
    async fn obtain(
        &self,
        server: &Endpoint,
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
                .header_of(server, repository, candidate, challenge, &scope)
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
        server: &Endpoint,
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
                let realm = realm_of(server, realm)?;
                let request = TokenRequest {
                    realm: &realm,
                    service: service.as_deref(),
                    scope,
                    credential: credential.as_ref(),
                    tls: server.tls.as_ref(),
                };
                token::fetch(&self.transport, &request).await
            }
        }
    }
}

/// The token service's URL. Credentials go there, so a server reached by HTTPS cannot name one
/// without it.
fn realm_of(server: &Endpoint, realm: &str) -> Result<Url, RegistryError> {
    let challenge = |reason: String| RegistryError::Challenge {
        host: server.host.clone(),
        reason,
    };
    let url = Url::parse(realm).map_err(|error| challenge(format!("realm {realm:?}: {error}")))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if server.base.scheme() == "http" => Ok(url),
        _ => Err(challenge(format!("realm {realm:?} is not https"))),
    }
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
