//! The server is killed between and during calls: what it answered is there after the next start,
//! what it did not answer is there whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use brisk_snapshotter::wire::services::snapshots::v1 as api;

use crate::harness::{Client, ServerProcess, names};

/// How often the server is killed.
const ROUNDS: usize = 8;
/// Clients that call at once.
const CLIENTS: usize = 4;

/// What one client knows of its own snapshots: name -> parent of those that surely are there, and
/// names of which nobody knows, since no answer came.
#[derive(Default)]
struct Known {
    sure: BTreeMap<String, String>,
    unsure: BTreeSet<String>,
}

impl Known {
    fn doubt(&mut self, name: &str) {
        self.sure.remove(name);
        self.unsure.insert(name.to_owned());
    }
}

/// Makes and removes snapshots until the server answers no more.
async fn work(mut client: Client, prefix: String) -> Known {
    let mut known = Known::default();
    let mut parent = String::new();
    for number in 0.. {
        let (key, name) = (format!("{prefix}/k{number}"), format!("{prefix}/c{number}"));
        if client.prepare(&key, &parent).await.is_err() {
            known.doubt(&key);
            break;
        }
        known.sure.insert(key.clone(), parent.clone());
        if number % 3 == 0 {
            let removed = client.remove(&key).await;
            known.sure.remove(&key);
            if removed.is_err() {
                known.doubt(&key);
                break;
            }
            continue;
        }
        if client.commit(&name, &key).await.is_err() {
            known.doubt(&key);
            known.doubt(&name);
            break;
        }
        known.sure.remove(&key);
        known.sure.insert(name.clone(), parent);
        parent = name;
    }
    known
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_snapshot_is_lost_or_comes_from_nowhere() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    let socket = place.path().join("s.sock");
    let mut sure = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut server = ServerProcess::start(&root, &socket);
        let mut client = server.client().await;
        let mut workers = Vec::new();
        for number in 0..CLIENTS {
            let own = server.client().await;
            workers.push(tokio::spawn(work(own, format!("r{round}/{number}"))));
        }
        // By what was done and not by the clock: another point in each round.
        let wanted = sure.len() + CLIENTS + 7 * round;
        while client.list(&[]).await.unwrap().len() < wanted {
            let ended = workers.iter().any(|w| w.is_finished());
            assert!(!ended, "a call failed though the server lives");
            tokio::task::yield_now().await;
        }
        server.kill();
        let mut unsure = BTreeSet::new();
        for worker in workers {
            let known = worker.await.unwrap();
            sure.extend(known.sure);
            unsure.extend(known.unsure);
        }

        let mut server = ServerProcess::start(&root, &socket);
        let mut client = server.client().await;
        let found = client.list(&[]).await.unwrap();
        check(&mut client, &root, &found, &sure, &unsure).await;
        for info in found {
            sure.insert(info.name, info.parent);
        }
        server.kill();
    }
}

async fn check(
    client: &mut Client,
    root: &Path,
    found: &[api::Info],
    sure: &BTreeMap<String, String>,
    unsure: &BTreeSet<String>,
) {
    let there: BTreeMap<_, _> = found.iter().map(|i| (&i.name, &i.parent)).collect();
    for (name, parent) in sure {
        assert_eq!(there.get(name), Some(&parent), "{name} is lost");
    }
    for info in found {
        let is_known = sure.contains_key(&info.name) || unsure.contains(&info.name);
        assert!(is_known, "{} comes from nowhere", info.name);
        if info.kind() == api::Kind::Active {
            let mounts = client.mounts(&info.name).await.unwrap();
            for option in &mounts[0].options {
                if let Some((_, paths)) = option.split_once('=').filter(|(_, p)| p.starts_with('/'))
                {
                    assert!(paths.split(':').all(|p| Path::new(p).is_dir()), "{paths}");
                }
            }
        }
    }
    assert_eq!(names(&root.join("snapshots")).len(), found.len());
}
