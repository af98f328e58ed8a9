//! What registries answer on the way: challenges, redirects, refusals, half and wrong bodies.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::gateway::{Answer, Gateway, Request};
use crate::support::lab::Lab;
use crate::support::node::Node;
use crate::support::registry::DockerRegistry;
use crate::support::{Done, done};

/// Reads in places so far apart that each needs a request of its own, one after the other.
const SCATTERED: &str = "for i in 0 3 6 1 4 7 2 5; do for f in random large; do \
    dd if=/zoo/$f bs=65536 skip=$((i * 8)) count=1 2>/dev/null; done; done | \
    sha256sum | cut -c1-8";
const EVERYTHING: &str = "cat /zoo/random /zoo/large | wc -c";

/// Runs a script in the lab's image by way of a gateway, without background.
fn run_by(gateway: &Gateway, node: &Node, script: &str) -> Done {
    let image = format!("{}/tests/image:latest", gateway.host());
    let words = [
        "run",
        "--rm",
        "--background",
        "off",
        &image,
        "sh",
        "-c",
        script,
    ];
    done(&node.command(words))
}

/// What the script prints where nothing is in the way.
fn undisturbed(lab: &Lab, script: &str) -> String {
    lab.shell(&[], script)
}

fn largest_layer(lab: &Lab) -> String {
    let inspected = lab.node.inspect(&lab.image);
    let layers = inspected["layers"].as_array().unwrap();
    let size = |layer: &&serde_json::Value| layer["size"].as_u64();
    let largest = layers.iter().max_by_key(size).unwrap();
    largest["digest"].as_str().unwrap().to_owned()
}

#[test]
fn passwords_come_from_credential_helpers() {
    let registry = DockerRegistry::start_guarded();
    let image = registry.push_as("zoo", "tests/image", &["--dest-creds", "tester:secret"]);
    let node = Node::new();
    let programs = node.directory("programs");
    let helper = programs.join("docker-credential-scripted");
    let script = format!(
        "#!/bin/sh\nread host\n[ \"$1 $host\" = 'get {}' ] || {{ echo no such host; exit 1; }}\n\
         echo '{{\"Username\": \"tester\", \"Secret\": \"secret\"}}'\n",
        registry.host()
    );
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
    let config = format!(
        r#"{{"credHelpers": {{"{}": "scripted"}}}}"#,
        registry.host()
    );
    std::fs::write(node.directory("docker").join("config.json"), config).unwrap();
    let path = format!(
        "{}:{}",
        programs.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut command = node.command(["run", "--rm", &image]);
    let run = done(command.env("PATH", path));
    assert_eq!((run.code, run.out.as_str()), (0, "READY zoo\n"), "{run:?}");
}

/// A registry whose tokens are for who knows the password; the first ends in the middle of a run.
fn token_rule(issued: Arc<AtomicUsize>) -> impl Fn(&Request) -> Answer + Send + Sync {
    let blobs = AtomicUsize::new(0);
    move |request| {
        let authorization = request.header("authorization").unwrap_or_default();
        if request.target.starts_with("/token") {
            // tester:secret
            if authorization != "Basic dGVzdGVyOnNlY3JldA==" {
                return Answer::status(401);
            }
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            let body = format!(r#"{{"token": "number-{number}", "expires_in": 3600}}"#);
            let json = vec![("Content-Type", "application/json".to_owned())];
            return Answer::Reply(200, json, body.into_bytes());
        }
        let is_over = request.is_blob() && blobs.fetch_add(1, Ordering::SeqCst) >= 4;
        let number = authorization.strip_prefix("Bearer number-");
        match number.and_then(|number| number.parse::<usize>().ok()) {
            Some(number) if number > 1 || !is_over => Answer::Pass,
            _ => {
                let host = request.header("host").unwrap_or_default();
                let challenge = format!(
                    "Bearer realm=\"http://{host}/token\",service=\"here\",\
                     scope=\"repository:tests/image:pull\""
                );
                Answer::Reply(401, vec![("WWW-Authenticate", challenge)], Vec::new())
            }
        }
    }
}

#[test]
fn tokens_are_renewed_while_a_container_reads() {
    let lab = Lab::new("zoo");
    let issued = Arc::new(AtomicUsize::new(0));
    let gateway = Gateway::start(lab.registry.address(), token_rule(Arc::clone(&issued)));
    let node = Node::new();
    let auths = format!(
        r#"{{"auths": {{"{}": {{"auth": "dGVzdGVyOnNlY3JldA=="}}}}}}"#,
        gateway.host()
    );
    std::fs::write(node.directory("docker").join("config.json"), auths).unwrap();
    let run = run_by(&gateway, &node, SCATTERED);
    assert_eq!((run.code, &run.out), (0, &undisturbed(&lab, SCATTERED)));
    assert!(issued.load(Ordering::SeqCst) >= 2, "{issued:?}");
    let renewed = |r: &Request| r.is_blob() && r.header("authorization") == Some("Bearer number-2");
    assert!(gateway.count(renewed) > 0);
}

#[test]
fn redirects_are_remembered_and_renewed_when_they_expire() {
    for expired in [401, 403] {
        let lab = Lab::new("zoo");
        let layer = largest_layer(&lab);
        // The signature of the first target serves for two reads.
        let uses = Arc::new(AtomicUsize::new(0));
        let (counted, wanted) = (Arc::clone(&uses), layer.clone());
        let store = Gateway::start(lab.registry.address(), move |request| {
            let is_first = request.digest() == Some(&wanted) && !request.target.ends_with("=2");
            match is_first && counted.fetch_add(1, Ordering::SeqCst) >= 2 {
                true => Answer::status(expired),
                false => Answer::Pass,
            }
        });
        let port = store.port();
        let gateway = Gateway::start(lab.registry.address(), move |request| {
            if !request.is_blob() {
                return Answer::Pass;
            }
            let signature = if uses.load(Ordering::SeqCst) < 2 {
                1
            } else {
                2
            };
            let target = &request.target;
            // Another name is another host.
            Answer::redirect(format!(
                "http://localhost:{port}{target}?signature={signature}"
            ))
        });
        let run = run_by(&gateway, &Node::new(), SCATTERED);
        let expected = undisturbed(&lab, SCATTERED);
        assert_eq!((run.code, &run.out), (0, &expected), "{run:?}");
        let of_layer = |request: &Request| request.digest() == Some(&layer);
        let (asked, redirected) = (store.count(of_layer), gateway.count(of_layer));
        assert!(redirected >= 2, "renewed: {redirected}");
        assert!(
            asked > redirected,
            "{asked} reads by {redirected} redirects: remembered"
        );
        let last = store.seen().into_iter().rev().find(of_layer).unwrap();
        assert!(last.target.ends_with("signature=2"), "{last:?}");
    }
}

#[test]
fn refusals_are_waited_out_as_long_as_they_say() {
    let lab = Lab::new("zoo");
    let (manifests, blobs) = (AtomicBool::new(false), AtomicUsize::new(0));
    let gateway = Gateway::start(lab.registry.address(), move |request| {
        let later = |status| {
            let headers = vec![("Retry-After", "1".to_owned())];
            Answer::Reply(status, headers, b"busy".to_vec())
        };
        if request.target.ends_with("/manifests/latest") && !manifests.swap(true, Ordering::SeqCst)
        {
            later(429)
        } else if request.is_blob() && blobs.fetch_add(1, Ordering::SeqCst) == 3 {
            later(503)
        } else {
            Answer::Pass
        }
    });
    let began = Instant::now();
    let run = run_by(&gateway, &Node::new(), EVERYTHING);
    assert_eq!((run.code, run.out.as_str()), (0, "9000000\n"), "{run:?}");
    // Both waits were the registry's.
    assert!(began.elapsed() >= Duration::from_secs(2));
}

#[test]
fn broken_bodies_are_completed() {
    let lab = Lab::new("zoo");
    let bare = Lab::unindexed("zoo");
    for registry in [&lab.registry, &bare.registry] {
        // The first answer for each blob breaks off.
        let broken = Mutex::new(Vec::new());
        let gateway = Gateway::start(registry.address(), move |request| {
            let digest = request.digest().unwrap_or_default().to_owned();
            let mut broken = broken.lock().unwrap();
            if !request.is_blob() || broken.contains(&digest) {
                return Answer::Pass;
            }
            broken.push(digest);
            Answer::Cut(100)
        });
        let run = run_by(&gateway, &Node::new(), EVERYTHING);
        assert_eq!((run.code, run.out.as_str()), (0, "9000000\n"), "{run:?}");
    }
}

#[test]
fn a_wrong_body_is_fetched_again() {
    let lab = Lab::new("zoo");
    let layer = largest_layer(&lab);
    let (reads, wanted) = (AtomicUsize::new(0), layer.clone());
    let gateway = Gateway::start(lab.registry.address(), move |request| {
        let is_layer = request.is_blob() && request.digest() == Some(&wanted);
        match is_layer && reads.fetch_add(1, Ordering::SeqCst) == 1 {
            true => Answer::Garble,
            false => Answer::Pass,
        }
    });
    let node = Node::new();
    let run = run_by(&gateway, &node, EVERYTHING);
    assert_eq!((run.code, run.out.as_str()), (0, "9000000\n"), "{run:?}");
}
