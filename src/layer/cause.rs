//! Why something is fetched, and for which image.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Counters, Resources};

/// Why something is fetched, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A reader waits.
    Demand,
    /// Starts of the image before have read it, in a known order.
    StartUp,
    /// A reader will probably ask for it: what follows in a file, what lies beside it.
    Speculation,
    /// The rest of the image.
    Background,
}

impl Cause {
    /// All causes, the most urgent first.
    pub const ALL: [Cause; 4] = [
        Cause::Demand,
        Cause::StartUp,
        Cause::Speculation,
        Cause::Background,
    ];

    /// The cause's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Demand => "demand",
            Cause::StartUp => "startup",
            Cause::Speculation => "speculation",
            Cause::Background => "background",
        }
    }
}

/// An image on whose behalf layers are read and fetched. Requests of one class take turns
/// between images, and what was done for an image is counted apart.
#[derive(Debug)]
pub struct Account {
    number: u64,
    counters: Counters,
    guided: AtomicBool,
}

impl Account {
    /// An account that nothing has been done for.
    pub fn new(resources: &Resources) -> Arc<Account> {
        Arc::new(Account {
            number: resources.next_number(),
            counters: Counters::default(),
            guided: AtomicBool::new(false),
        })
    }

    /// What was done for the image.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What is read until the image's program is ready is known and on its way, or is not any
    /// more: nothing is guessed from what is read meanwhile.
    pub fn guide(&self, guided: bool) {
        self.guided.store(guided, Ordering::Relaxed);
    }

    pub(super) fn is_guided(&self) -> bool {
        self.guided.load(Ordering::Relaxed)
    }

    /// Its number: in the order in which images were opened.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// Why and for whom something is fetched.
#[derive(Debug, Clone)]
pub struct Purpose {
    /// Why.
    pub cause: Cause,
    /// For which image.
    pub account: Arc<Account>,
}

impl Purpose {
    /// The purpose of a fetch for this image.
    pub fn new(cause: Cause, account: &Arc<Account>) -> Purpose {
        Purpose {
            cause,
            account: account.clone(),
        }
    }
}
