use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, channel};

use index_format::StreamOffset;

use super::*;

/// Content that answers when it is told to.
#[derive(Default)]
struct Held {
    done: Mutex<Vec<Done>>,
    local: AtomicBool,
}

impl Held {
    fn release(&self, result: Result<&[u8], Errno>) {
        let held = mem::take(&mut *self.done.lock().unwrap());
        assert!(!held.is_empty());
        for done in held {
            done(result);
        }
    }
}

impl Content for Held {
    fn read(&self, _pieces: Vec<Piece>, done: Done) {
        if self.local.load(Ordering::SeqCst) {
            done(Ok(b"data"));
        } else {
            self.done.lock().unwrap().push(done);
        }
    }

    fn is_local(&self, _pieces: &[Piece]) -> bool {
        self.local.load(Ordering::SeqCst)
    }
}

type Answer = Result<Vec<u8>, Errno>;

fn read(registry: &Arc<WaitingReads>, content: &Held, tid: u32) -> Receiver<Answer> {
    let (sender, receiver) = channel();
    let piece = Piece::Stream {
        layer: 0,
        offset: StreamOffset(0),
        length: 4,
    };
    registry.serve(
        content,
        tid,
        vec![piece],
        4,
        Box::new(move |result| sender.send(result.map(<[u8]>::to_vec)).unwrap()),
    );
    receiver
}

fn registry() -> Arc<WaitingReads> {
    Arc::new(WaitingReads::default())
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn local_content_never_waits() {
    let (registry, content) = (registry(), Held::default());
    content.local.store(true, Ordering::SeqCst);
    let answer = read(&registry, &content, 1);
    assert_eq!(answer.try_recv(), Ok(Ok(b"data".to_vec())));
    assert_eq!((registry.waiting(), registry.outstanding()), (0, 0));
    assert!(!registry.watched().has_watcher);
}

#[test]
fn a_late_answer_arrives_once() {
    let (registry, content) = (registry(), Held::default());
    let answer = read(&registry, &content, 0);
    assert_eq!((registry.waiting(), registry.outstanding()), (1, 1));
    assert_eq!(registry.waiting_for(Duration::ZERO), 1);
    assert_eq!(registry.waiting_for(Duration::from_secs(3600)), 0);
    assert!(answer.try_recv().is_err());
    content.release(Ok(b"late"));
    assert_eq!(answer.recv(), Ok(Ok(b"late".to_vec())));
    assert!(answer.recv().is_err(), "the reply is gone");
    assert_eq!((registry.waiting(), registry.outstanding()), (0, 0));
}

#[test]
fn short_content_is_an_error() {
    let (registry, content) = (registry(), Held::default());
    let answer = read(&registry, &content, 0);
    content.release(Ok(b"sho"));
    assert_eq!(answer.recv(), Ok(Err(Errno::EIO)));
}

#[test]
fn dropped_reads_fail_unless_a_successor_answers() {
    let (registry, content) = (registry(), Held::default());
    let answer = read(&registry, &content, 0);
    content.done.lock().unwrap().clear();
    assert_eq!(answer.recv(), Ok(Err(Errno::EIO)));
    assert_eq!((registry.waiting(), registry.outstanding()), (0, 0));

    let answer = read(&registry, &content, 0);
    registry.leave_to_successor();
    content.done.lock().unwrap().clear();
    assert_eq!(answer.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty));
    assert_eq!(registry.outstanding(), 0);
}

#[test]
fn killed_callers_are_released_and_others_are_not() {
    let (registry, content) = (registry(), Held::default());
    let (alive, killed, again, unseen) = (
        read(&registry, &content, 11),
        read(&registry, &content, 12),
        read(&registry, &content, 12),
        read(&registry, &content, 0),
    );
    registry.release_killed(|tid| match tid {
        11 => Caller::Alive,
        12 => Caller::Killed,
        _ => panic!("looked at task {tid}"),
    });
    assert_eq!(killed.recv(), Ok(Err(Errno::EINTR)));
    assert_eq!(again.recv(), Ok(Err(Errno::EINTR)));
    assert!(alive.try_recv().is_err());
    assert_eq!((registry.waiting(), registry.outstanding()), (2, 4));
    // The content comes too late for two of them; nobody is answered twice.
    content.release(Ok(b"late"));
    assert_eq!(alive.recv(), Ok(Ok(b"late".to_vec())));
    assert_eq!(unseen.recv(), Ok(Ok(b"late".to_vec())));
    assert!(killed.recv().is_err());
    assert_eq!((registry.waiting(), registry.outstanding()), (0, 0));
}

#[test]
fn only_a_task_that_was_there_can_be_gone() {
    let (registry, content) = (registry(), Held::default());
    let answer = read(&registry, &content, 11);
    registry.release_killed(|_| Caller::Gone);
    registry.release_killed(|_| Caller::Unknown);
    assert!(
        answer.try_recv().is_err(),
        "it may live in another pid namespace"
    );
    registry.release_killed(|_| Caller::Alive);
    registry.release_killed(|_| Caller::Gone);
    assert_eq!(answer.recv(), Ok(Err(Errno::EINTR)));
}

#[test]
fn reads_above_the_limit_are_told_to_try_again() {
    let (registry, content) = (Arc::new(WaitingReads::with_limit(2)), Held::default());
    let waiting = [read(&registry, &content, 0), read(&registry, &content, 12)];
    assert_eq!(read(&registry, &content, 0).recv(), Ok(Err(Errno::EAGAIN)));
    // A released caller's fetch goes on, so it still counts.
    registry.release_killed(|_| Caller::Killed);
    assert_eq!(read(&registry, &content, 0).recv(), Ok(Err(Errno::EAGAIN)));
    content.local.store(true, Ordering::SeqCst);
    assert_eq!(
        read(&registry, &content, 0).recv(),
        Ok(Ok(b"data".to_vec())),
        "local reads go on"
    );
    content.local.store(false, Ordering::SeqCst);
    content.release(Ok(b"late"));
    assert_eq!(waiting[0].recv(), Ok(Ok(b"late".to_vec())));
    let next = read(&registry, &content, 0);
    assert!(next.try_recv().is_err(), "there is room again");
    content.release(Ok(b"late"));
    assert_eq!(next.recv(), Ok(Ok(b"late".to_vec())));
}

#[test]
fn the_watcher_ends_when_nothing_waits() {
    let (registry, content) = (registry(), Held::default());
    let answer = read(&registry, &content, 0);
    assert!(registry.watched().has_watcher);
    content.release(Ok(b"late"));
    assert_eq!(answer.recv(), Ok(Ok(b"late".to_vec())));
    let deadline = Instant::now() + LONG;
    while registry.watched().has_watcher {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
    // And a new one starts.
    let answer = read(&registry, &content, 0);
    assert!(registry.watched().has_watcher);
    content.release(Ok(b"late"));
    assert_eq!(answer.recv(), Ok(Ok(b"late".to_vec())));
}

/// Answers, kills and drops race; every read is answered exactly once.
#[test]
fn every_read_is_answered_exactly_once() {
    let registry = registry();
    let content = Arc::new(Held::default());
    let answers = Arc::new(AtomicU32::new(0));
    const READS: u32 = 3000;
    thread::scope(|scope| {
        let stop = Arc::new(AtomicBool::new(false));
        for releaser in 0..3 {
            let (registry, content, stop) = (&registry, &content, Arc::clone(&stop));
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) || registry.outstanding() > 0 {
                    match releaser {
                        0 => registry.release_killed(|_| Caller::Killed),
                        1 => drop(content.done.lock().unwrap().pop()),
                        _ => {
                            let done = content.done.lock().unwrap().pop();
                            if let Some(done) = done {
                                done(Ok(b"data"));
                            }
                        }
                    }
                }
            });
        }
        for tid in 1..=READS {
            let answers = Arc::clone(&answers);
            let piece = Piece::Stream {
                layer: 0,
                offset: StreamOffset(0),
                length: 4,
            };
            registry.serve(
                &*content,
                tid,
                vec![piece],
                4,
                Box::new(move |_| {
                    answers.fetch_add(1, Ordering::SeqCst);
                }),
            );
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(answers.load(Ordering::SeqCst), READS);
    assert_eq!((registry.waiting(), registry.outstanding()), (0, 0));
}
