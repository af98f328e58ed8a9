use std::fs::File;

use fuser::InitFlags;
use index_format::Index;

use super::*;
use crate::content::{Done, Piece};
use crate::image::{Layer, merged};

struct Nothing;

impl Content for Nothing {
    fn read(&self, _pieces: Vec<Piece>, done: Done) {
        done(Err(Errno::EIO));
    }
}

const UNIQUE: u64 = 0x1234_5678_9abc;

/// A FUSE_INIT as Linux 6.18 sends it, but with these capabilities.
fn request(flags: InitFlags, max_readahead: u32) -> Vec<u8> {
    let flags = (flags | InitFlags::FUSE_INIT_EXT | InitFlags::FUSE_MAX_PAGES).bits();
    let mut bytes = Vec::new();
    for word in [
        104,
        26,
        UNIQUE as u32,
        (UNIQUE >> 32) as u32,
        0,
        0,
        0,
        0,
        0,
        0,
    ] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    for word in [7, 45, max_readahead, flags as u32, (flags >> 32) as u32] {
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    bytes.resize(104, 0);
    bytes
}

fn tree() -> MountedTree<Nothing> {
    let index = Index::open(merged(&[Layer::default()])).unwrap();
    MountedTree::new(index, Arc::new(Nothing)).unwrap()
}

fn reply_to(init: &[u8]) -> Vec<u8> {
    let adapter = Adapter::new(tree(), Arc::default(), Arc::default());
    let request = InitRequest::parse(init).unwrap();
    let (_, reply) = shake_hands(adapter, init, &request, 1).unwrap();
    reply
}

fn adopt(init: &[u8], resuming: bool) -> Result<Session<Nothing>, SessionError> {
    let options = SessionOptions {
        threads: 1,
        resuming,
        waiting: Arc::default(),
        requests: Arc::default(),
        replace_descriptor: |_, _| Ok(()),
    };
    let device = File::options().write(true).open("/dev/null").unwrap();
    Session::adopt(device.into(), init, tree(), options)
}

/// `struct fuse_init_out`, at byte 16: major, minor, max_readahead, flags, max_background and
/// congestion_threshold, max_write, time_gran, max_pages and map_alignment, flags2.
fn field(reply: &[u8], number: usize) -> u32 {
    word(reply, OUT_HEADER + 4 * number).unwrap()
}

#[test]
fn the_kernel_is_asked_for_what_the_mount_needs() {
    let reply = reply_to(&request(InitFlags::all(), 131_072));
    assert!(is_success(&reply, UNIQUE));
    assert!(!is_success(&reply, UNIQUE + 1));
    let flags = u64::from(field(&reply, 3)) | u64::from(field(&reply, 8)) << 32;
    let flags = InitFlags::from_bits_retain(flags);
    for wanted in [
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_NO_OPEN_SUPPORT,
        InitFlags::FUSE_NO_OPENDIR_SUPPORT,
        InitFlags::FUSE_CACHE_SYMLINKS,
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        InitFlags::FUSE_HAS_RESEND,
        InitFlags::FUSE_ALLOW_IDMAP,
        InitFlags::FUSE_ASYNC_READ,
        InitFlags::FUSE_MAX_PAGES,
    ] {
        assert!(flags.contains(wanted), "{wanted:?}");
    }
    for unwanted in [
        InitFlags::FUSE_READDIRPLUS_AUTO,
        InitFlags::FUSE_ASYNC_DIO,
        InitFlags::FUSE_ABORT_ERROR,
        InitFlags::FUSE_WRITEBACK_CACHE,
        InitFlags::FUSE_AUTO_INVAL_DATA,
    ] {
        assert!(!flags.contains(unwanted), "{unwanted:?}");
    }
    assert_eq!(field(&reply, 2), 131_072, "read-ahead");
    assert_eq!(
        field(&reply, 4),
        u32::MAX,
        "background requests and congestion threshold"
    );
    assert_eq!(field(&reply, 6), 1, "times to the nanosecond");
    assert_eq!(field(&reply, 7) & 0xffff, 256, "pages of a request");
}

#[test]
fn an_old_kernel_gets_what_it_knows() {
    let reply = reply_to(&request(InitFlags::FUSE_NO_OPEN_SUPPORT, 4096));
    assert!(is_success(&reply, UNIQUE));
    let known =
        InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_MAX_PAGES | InitFlags::FUSE_INIT_EXT;
    let flags = u64::from(field(&reply, 3)) | u64::from(field(&reply, 8)) << 32;
    assert_eq!(flags & !known.bits(), 0);
    assert_eq!(field(&reply, 2), 4096, "no more read-ahead than offered");
}

#[test]
fn a_session_starts_from_the_kept_bytes_alone() {
    assert!(adopt(&request(InitFlags::all(), 131_072), false).is_ok());
    assert!(adopt(&request(InitFlags::all(), 131_072), true).is_ok());
}

#[test]
fn resuming_needs_a_kernel_that_resends() {
    let init = request(InitFlags::FUSE_NO_OPEN_SUPPORT, 131_072);
    assert!(adopt(&init, false).is_ok());
    assert!(adopt(&init, true).err().unwrap().is_resend_unsupported());
}

#[test]
fn unusable_bytes_are_refused() {
    let mut init = request(InitFlags::all(), 131_072);
    assert!(matches!(
        adopt(&init[..103], false),
        Err(SessionError::Init(_))
    ));
    init[4] = 1;
    assert!(matches!(
        adopt(&init, false),
        Err(SessionError::Init(InitError::NotInit(1)))
    ));
}

#[test]
fn a_failed_takeover_is_reported() {
    let options = SessionOptions {
        threads: 9,
        resuming: false,
        waiting: Arc::default(),
        requests: Arc::default(),
        replace_descriptor: |_, _| Err(io::Error::from(Errno::EBUSY)),
    };
    let device = File::open("/dev/null").unwrap();
    let init = request(InitFlags::all(), 131_072);
    let error = Session::adopt(device.into(), &init, tree(), options)
        .err()
        .unwrap();
    assert!(matches!(error, SessionError::Handshake { .. }), "{error}");
}
