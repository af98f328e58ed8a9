//! The trait that the mounted tree reads through.

use std::sync::mpsc;
use std::thread::ThreadId;
use std::time::Duration;

use fuse::{Content, Piece};
use index_format::StreamOffset;
use nix::errno::Errno;

use super::{World, gzip};
use crate::ImageContent;
use brisk_blob::faulty::Fault;

type Answer = (Result<Vec<u8>, Errno>, ThreadId);

fn read(content: &ImageContent, pieces: Vec<Piece>) -> mpsc::Receiver<Answer> {
    let (sender, receiver) = mpsc::channel();
    let done = move |result: Result<&[u8], Errno>| {
        sender
            .send((result.map(<[u8]>::to_vec), std::thread::current().id()))
            .unwrap();
    };
    content.read(pieces, Box::new(done));
    receiver
}

fn piece(layer: u32, offset: u64, length: u64) -> Piece {
    Piece::Stream {
        layer,
        offset: StreamOffset(offset),
        length,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_reads_are_answered_at_once_and_others_later() {
    let world = World::new(gzip(1_500_000));
    let content = ImageContent::new(vec![world.layer.clone()], world.resources.clone());
    let here = std::thread::current().id();
    let pieces = vec![
        piece(0, 10, 5),
        Piece::Zeros { length: 3 },
        piece(0, 1_000_000, 100_000),
    ];
    let stream = &world.fixture.stream;
    let right = [&stream[10..15], &[0; 3], &stream[1_000_000..1_100_000]].concat();
    assert!(!content.is_local(&pieces));
    world.blob.stand(Some(Fault::Hang));
    let later = read(&content, pieces.clone());
    assert!(later.try_recv().is_err());
    world.blob.stand(None);
    let (bytes, thread) = later.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(bytes.unwrap() == right);
    assert_ne!(thread, here);
    assert!(content.is_local(&pieces));
    let (bytes, thread) = read(&content, pieces).try_recv().unwrap();
    assert!(bytes.unwrap() == right);
    assert_eq!(thread, here);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_an_errno() {
    let world = World::new(gzip(1_500_000));
    let content = ImageContent::new(vec![world.layer.clone()], world.resources.clone());
    for pieces in [vec![piece(1, 0, 5)], vec![piece(0, 1_499_999, 2)]] {
        let (answer, _) = read(&content, pieces)
            .recv_timeout(Duration::from_secs(5))
            .unwrap();
        assert_eq!(answer, Err(Errno::EIO));
    }
    world.blob.inject([Fault::Permanent]);
    let answer = read(&content, vec![Piece::Zeros { length: 1 }, piece(0, 0, 5)]);
    assert_eq!(
        answer.recv_timeout(Duration::from_secs(5)).unwrap().0,
        Err(Errno::EIO)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_reads_than_places_are_all_answered() {
    let world = World::new(gzip(3_000_000));
    let content = ImageContent::new(vec![world.layer.clone()], world.resources.clone());
    world
        .blob
        .stand(Some(Fault::Delay(Duration::from_millis(20))));
    let answers: Vec<_> = (0..200)
        .map(|i| (i, read(&content, vec![piece(0, i * 14_000, 9000)])))
        .collect();
    for (i, answer) in answers {
        let (bytes, _) = answer.recv_timeout(Duration::from_secs(20)).unwrap();
        let at = i as usize * 14_000;
        assert!(
            bytes.unwrap() == world.fixture.stream[at..at + 9000],
            "read {i}"
        );
    }
}
