//! Ctrl-C while an image is on its way.

use std::process::Stdio;
use std::time::{Duration, Instant};

use bench::link::{Link, Shape};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::lab::Lab;
use crate::support::registry::until;
use crate::traces::{has_trusted_index, is_clean};

#[test]
fn an_interrupted_start_leaves_nothing() {
    let lab = Lab::unindexed("zoo");
    let reactor = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    // The image takes some twenty seconds.
    let link = reactor
        .block_on(Link::start(lab.registry.address(), Shape::new(20, 2)))
        .unwrap();
    let image = format!("{}/tests/image:latest", link.address());
    let place = lab.node.directory("place");
    let mount = ["mount", &image, place.to_str().unwrap()];
    for (words, code) in [
        (&["run", "--rm", &image, "true"][..], Some(130)),
        (&["run", "-d", &image, "true"], Some(130)),
        (&mount, None),
        (&["pull", &image], None),
    ] {
        let before = link
            .traffic()
            .down
            .load(std::sync::atomic::Ordering::Relaxed);
        let mut command = lab.node.command(words);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the first bytes", Duration::from_secs(30), || {
            link.traffic()
                .down
                .load(std::sync::atomic::Ordering::Relaxed)
                > before + 200_000
        });
        let started = Instant::now();
        kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
        let status = child.wait().unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "{words:?}");
        assert_eq!(status.code(), code, "{words:?}: {status}");
        is_clean(&lab.node);
    }
    // Nothing goes on in the background either.
    until("the end of the transfer", Duration::from_secs(10), || {
        let down = || {
            link.traffic()
                .down
                .load(std::sync::atomic::Ordering::Relaxed)
        };
        let before = down();
        crate::support::registry::pause(500);
        down() == before
    });
    let inspected = lab.node.inspect(&lab.image);
    let layers = inspected["layers"].as_array().unwrap();
    let largest = layers
        .iter()
        .max_by_key(|layer| layer["size"].as_u64())
        .unwrap();
    assert!(!has_trusted_index(
        &lab.node,
        largest["digest"].as_str().unwrap()
    ));
    assert_eq!(lab.run(&[], &[]).out, "READY zoo\n");
}
