//! `publish.auto`: a node that has pulled an image without an index attaches the index for
//! everyone else.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::daemon::config::Config;
use brisk_image::arrival::Arrivals;
use brisk_image::artifact::ARTIFACT_TYPE;
use brisk_image::destination::Destination;
use brisk_image::index_store::IndexStore;
use brisk_image::publish::Publisher;
use brisk_image::sign::SigningKey;
use brisk_image::store::ImageStore;
use brisk_image::trust::Source;
use brisk_image::{ImageError, Query, ResolvedImage};
use brisk_registry::ImageSource;
use index_format::Digest;

/// Publishes what this root has indexed, where the configuration asks for it.
pub struct AutoPublish {
    config: Config,
    publisher: Publisher,
    /// One file for each repository that has refused, so that it is said once.
    refusals: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The manifests whose indexes are being published, or wait for it.
    under_way: HashSet<Digest>,
    /// What is still to be said.
    notes: Vec<String>,
}

impl AutoPublish {
    /// Publishing of what is in these stores of a root.
    pub fn new(root: &Path, config: Config, images: ImageStore, indexes: IndexStore) -> Arc<Self> {
        Arc::new(AutoPublish {
            config,
            publisher: Publisher {
                images,
                indexes,
                arrivals: Arrivals::default(),
            },
            refusals: root.join("publish-refused"),
            state: Mutex::default(),
        })
    }

    /// Takes note of an image that has just been resolved: where its layers had to be pulled
    /// whole, its indexes are attached after a while, unless somebody else has done so.
    pub fn consider(self: &Arc<Self>, query: &Query, image: &ResolvedImage) {
        let was_pulled = image
            .layers
            .iter()
            .any(|l| l.decision.source == Source::Built);
        if !self.config.publish.auto || !image.is_new || !was_pulled {
            return;
        }
        let (ImageSource::Registry { client, reference }, Ok(manifest)) =
            (&query.source, image.record.manifest.parse::<Digest>())
        else {
            // A layout directory is its owner's.
            return;
        };
        // Exactly what was pulled, wherever its tag points by then.
        let query = Query {
            source: ImageSource::Registry {
                client: client.clone(),
                reference: reference.resolved(manifest),
            },
            ..query.clone()
        };
        if self.state().under_way.insert(manifest) {
            let publishing = self.clone();
            tokio::spawn(async move {
                publishing.publish(&query, manifest).await;
                publishing.state().under_way.remove(&manifest);
            });
        }
    }

    /// Whether something is being published, or waits for it.
    pub fn is_under_way(&self) -> bool {
        !self.state().under_way.is_empty()
    }

    /// What is to be said to whoever asks next.
    pub fn take_notes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().notes)
    }

    async fn publish(&self, query: &Query, manifest: Digest) {
        tokio::time::sleep(random_part(self.config.publish.delay)).await;
        let place = query.elsewhere.as_ref().unwrap_or(&query.source).clone();
        match self.attach(query, &place, manifest).await {
            Ok(Some(artifact)) => {
                tracing::info!(reference = query.reference, %artifact, "indexes attached");
                let _ = std::fs::remove_file(self.refusal(&place));
            }
            Ok(None) => tracing::info!(reference = query.reference, "an index is attached"),
            Err(ImageError::Registry(error)) if error.is_unauthorized() => {
                self.say_once(&place, &error.to_string());
            }
            Err(error) => {
                tracing::warn!(reference = query.reference, %error, "indexes are not attached");
            }
        }
    }

    /// Attaches, after having looked; none where something is attached.
    async fn attach(
        &self,
        query: &Query,
        place: &ImageSource,
        manifest: Digest,
    ) -> Result<Option<Digest>, ImageError> {
        let attached = place.referrers(manifest, Some(ARTIFACT_TYPE)).await?;
        if !attached.is_empty() {
            return Ok(None);
        }
        let options = self.config.limits.index_options();
        let built = self.publisher.build(query, options, Arc::new(|_| ()));
        let (documents, layers) = built.await?;
        let key = self.config.publish.key.as_deref().map(SigningKey::read);
        let key = key.transpose()?;
        let destination = Destination::beside(place)?;
        let pushed = self
            .publisher
            .push(&destination, &documents, &layers, key.as_ref());
        Ok(Some(pushed.await?.artifact))
    }

    /// Says that a repository takes nothing from here, if that has not been said before.
    fn say_once(&self, place: &ImageSource, error: &str) {
        let path = self.refusal(place);
        if path.exists() {
            return;
        }
        let repository = place.scope();
        let note = format!(
            "publish.auto: no index can be attached in {repository}: {error}; it stays on this \
             node (log in with the right to push, or name another `repository` in section \
             [publish] of the configuration)"
        );
        tracing::warn!("{note}");
        self.state().notes.push(note);
        let kept = std::fs::create_dir_all(&self.refusals)
            .and_then(|()| brisk_durable::write_file(&path, repository.as_bytes()));
        if let Err(error) = kept {
            tracing::warn!(%error, "a refusal is not remembered");
        }
    }

    fn refusal(&self, place: &ImageSource) -> PathBuf {
        self.refusals
            .join(Digest::of(place.scope().as_bytes()).hex())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

/// A random part of a time.
fn random_part(longest: Duration) -> Duration {
    // The standard library seeds its hashers randomly; more randomness is not needed.
    let random = RandomState::new().build_hasher().finish();
    longest.mul_f64(random as f64 / u64::MAX as f64)
}
