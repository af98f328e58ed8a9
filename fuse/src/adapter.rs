//! The tree as fuser's `Filesystem`: requests in, replies out, no decisions.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType,
    Filesystem, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags,
    PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek,
    ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use index_format::{FileKind, InodeNumber, Timestamp};

use crate::attributes::{Attributes, BLOCK_SIZE};
use crate::content::Content;
use crate::error::TreeError;
use crate::requests::{RequestCounts, RequestKind};
use crate::tree::{MountedTree, XattrAnswer};
use crate::waiting::WaitingReads;

/// How long the kernel may keep what it was told: for ever, as nothing changes. In seconds a
/// number that no sum with the clock overflows.
const FOREVER: Duration = Duration::from_secs(1 << 32);

/// A nodeid never means another file, so there is only one generation.
const GENERATION: Generation = Generation(0);

/// What the mount asks of the kernel. What it lacks is left out.
///
/// Not asked for: ASYNC_DIO, with which even a direct read that no server has seen yet cannot be
/// killed; ABORT_ERROR, which would turn the orderly end of an aborted session into an error.
const CAPABILITIES: [InitFlags; 8] = [
    // Always: a walk takes 2 requests for each directory, 2.6 times less time than without.
    InitFlags::FUSE_DO_READDIRPLUS,
    // open and opendir answer ENOSYS once; opening and closing is then 3.7 times faster.
    InitFlags::FUSE_NO_OPEN_SUPPORT,
    InitFlags::FUSE_NO_OPENDIR_SUPPORT,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_PARALLEL_DIROPS,
    // Pages stay until they are told to go, which never happens.
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    // Linux 6.9: reads in flight survive their server.
    InitFlags::FUSE_HAS_RESEND,
    // Linux 6.12: idmapped clones of the mount for user namespaces.
    InitFlags::FUSE_ALLOW_IDMAP,
];

/// Background requests in flight, fixed at the first FUSE_INIT for the life of the mount. With
/// fuser's default of 16, sixteen reads that wait for the network stop every buffered read of the
/// mount, cached files included. The waiting reads are bounded by their registry.
const MAX_BACKGROUND: u16 = u16::MAX;

/// Read-ahead in bytes, the kernel's default. Whole chunks are prefetched behind the mount; more
/// read-ahead moved more bytes in the same time.
const MAX_READAHEAD: u32 = 128 * 1024;

/// Largest request in bytes. It gives the number of pages in a request, 256, which is the
/// kernel's own limit (/proc/sys/fs/fuse/max_pages_limit).
const MAX_REQUEST: u32 = 1024 * 1024;

/// Answers the kernel's requests from a [`MountedTree`].
pub(crate) struct Adapter<C> {
    tree: MountedTree<C>,
    waiting: Arc<WaitingReads>,
    counts: Arc<RequestCounts>,
}

impl<C: Content> Adapter<C> {
    pub(crate) fn new(
        tree: MountedTree<C>,
        waiting: Arc<WaitingReads>,
        counts: Arc<RequestCounts>,
    ) -> Self {
        Self {
            tree,
            waiting,
            counts,
        }
    }

    /// Counts a request, and its time until what is returned is dropped.
    fn timed(&self, kind: RequestKind) -> impl Drop {
        self.counts.time_here(kind)
    }
}

/// The inode behind a nodeid of the kernel.
fn inode(node: INodeNo) -> Result<InodeNumber, TreeError> {
    u32::try_from(node.0)
        .map(InodeNumber)
        .map_err(|_| TreeError::NoSuchNode(node.0))
}

/// The errno for the kernel. Damage is reported here, where it is handled.
fn errno(error: &TreeError) -> Errno {
    if error.is_damage() {
        tracing::error!(%error, "the mounted index is damaged");
    }
    Errno::from_i32(error.errno() as i32)
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        // The tree never gives a marker out.
        FileKind::Regular | FileKind::Whiteout | FileKind::ForeignLink => FileType::RegularFile,
    }
}

fn system_time(time: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let base = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(whole)
    } else {
        UNIX_EPOCH.checked_add(whole)
    };
    base.and_then(|base| base.checked_add(Duration::from_nanos(time.nanoseconds.into())))
        // Cannot happen: SystemTime holds 64-bit seconds, and nanoseconds below a second.
        .unwrap_or(UNIX_EPOCH)
}

fn file_attr(attributes: &Attributes) -> FileAttr {
    let time = system_time(attributes.mtime);
    FileAttr {
        ino: INodeNo(attributes.number.0.into()),
        size: attributes.size,
        blocks: attributes.blocks,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attributes.kind),
        perm: attributes.permissions,
        nlink: attributes.nlink,
        uid: attributes.uid,
        gid: attributes.gid,
        rdev: attributes.rdev,
        blksize: BLOCK_SIZE,
        flags: 0,
    }
}

/// The answer for a name that is not there: nodeid 0 with a lifetime, so that the kernel
/// remembers it (linux/fuse.h: "a zero nodeid means ENOENT, negative entry").
fn negative() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

fn reply_xattr(answer: Result<XattrAnswer, TreeError>, reply: ReplyXattr) {
    match answer {
        Ok(XattrAnswer::Size(size)) => reply.size(size),
        Ok(XattrAnswer::Bytes(bytes)) => reply.data(&bytes),
        Err(error) => reply.error(errno(&error)),
    }
}

impl<C: Content> Filesystem for Adapter<C> {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            if config.add_capabilities(capability).is_err() {
                tracing::info!(?capability, "the kernel lacks a FUSE capability");
            }
        }
        // Each refuses only zero or more than there is, and then names what it takes instead.
        config.set_max_background(MAX_BACKGROUND).ok();
        config.set_congestion_threshold(MAX_BACKGROUND).ok();
        if let Err(offered) = config.set_max_readahead(MAX_READAHEAD) {
            config.set_max_readahead(offered).ok();
        }
        config.set_max_write(MAX_REQUEST).ok();
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _timed = self.timed(RequestKind::Lookup);
        match inode(parent).and_then(|parent| self.tree.lookup(parent, name.as_bytes())) {
            Ok(Some(found)) => reply.entry(&FOREVER, &file_attr(&found), GENERATION),
            Ok(None) => reply.entry(&FOREVER, &negative(), GENERATION),
            Err(error) => reply.error(errno(&error)),
        }
    }

    // Nodeids are inode numbers: there is nothing to forget.
    fn forget(&self, _request: &Request, _node: INodeNo, _lookups: u64) {
        self.counts.add(RequestKind::Forget);
    }

    fn getattr(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let _timed = self.timed(RequestKind::Getattr);
        match inode(node).and_then(|number| self.tree.attributes(number)) {
            Ok(attributes) => reply.attr(&FOREVER, &file_attr(&attributes)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readlink(&self, _request: &Request, node: INodeNo, reply: ReplyData) {
        let _timed = self.timed(RequestKind::Readlink);
        match inode(node).and_then(|number| self.tree.readlink(number)) {
            Ok(target) => reply.data(target),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn read(
        &self,
        request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let timed = self.counts.time(RequestKind::Read);
        let plan = inode(node).and_then(|number| self.tree.read(number, offset, size));
        let plan = match plan {
            Ok(plan) => plan,
            Err(error) => return reply.error(errno(&error)),
        };
        if plan.is_zeros() {
            return reply.data(&vec![0; plan.length]);
        }
        self.waiting.serve(
            self.tree.content(),
            request.pid(),
            plan.pieces,
            plan.length,
            Box::new(move |result| {
                match result {
                    Ok(bytes) => reply.data(bytes),
                    Err(code) => reply.error(Errno::from_i32(code as i32)),
                }
                drop(timed);
            }),
        );
    }

    fn readdir(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _timed = self.timed(RequestKind::Readdir);
        let filled = inode(node).and_then(|directory| {
            for entry in self.tree.directory(directory, offset)? {
                let entry = entry?;
                let node = INodeNo(entry.inode.number.0.into());
                let name = OsStr::from_bytes(entry.name);
                if reply.add(node, entry.next, file_type(entry.inode.kind), name) {
                    break;
                }
            }
            Ok(())
        });
        match filled {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _timed = self.timed(RequestKind::Readdirplus);
        let filled = inode(node).and_then(|directory| {
            for entry in self.tree.directory(directory, offset)? {
                let entry = entry?;
                let attr = file_attr(&self.tree.attributes_of(&entry.inode)?);
                let name = OsStr::from_bytes(entry.name);
                if reply.add(attr.ino, entry.next, name, &FOREVER, &attr, GENERATION) {
                    break;
                }
            }
            Ok(())
        });
        match filled {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn getxattr(
        &self,
        _request: &Request,
        node: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let _timed = self.timed(RequestKind::Getxattr);
        let answer = inode(node).and_then(|number| self.tree.xattr(number, name.as_bytes(), size));
        reply_xattr(answer, reply);
    }

    fn listxattr(&self, _request: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        let _timed = self.timed(RequestKind::Listxattr);
        reply_xattr(
            inode(node).and_then(|number| self.tree.xattr_names(number, size)),
            reply,
        );
    }

    fn statfs(&self, _request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        let _timed = self.timed(RequestKind::Statfs);
        let space = self.tree.space();
        let (block, name) = (BLOCK_SIZE, space.name_length);
        reply.statfs(space.blocks, 0, 0, space.files, 0, block, name, block);
    }

    fn lseek(
        &self,
        _request: &Request,
        node: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let _timed = self.timed(RequestKind::Seek);
        match inode(node).and_then(|number| self.tree.seek(number, offset, whence)) {
            Ok(found) => reply.offset(found),
            Err(error) => reply.error(errno(&error)),
        }
    }

    // ENOSYS means for these: never ask again, and go on as if it had succeeded.

    fn open(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _timed = self.timed(RequestKind::Open);
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _timed = self.timed(RequestKind::Open);
        reply.error(Errno::ENOSYS);
    }

    fn flush(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let _timed = self.timed(RequestKind::Other);
        reply.error(Errno::ENOSYS);
    }

    fn fsync(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let _timed = self.timed(RequestKind::Other);
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _data_only: bool,
        reply: ReplyEmpty,
    ) {
        let _timed = self.timed(RequestKind::Other);
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _request: &Request, _node: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // Not sent: the kernel checks permissions itself (default_permissions).
        let _timed = self.timed(RequestKind::Other);
        reply.error(Errno::ENOSYS);
    }

    fn poll(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        let _timed = self.timed(RequestKind::Other);
        reply.error(Errno::ENOSYS);
    }

    fn getlk(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        // Not sent: locks stay in the kernel unless asked for.
        let _timed = self.timed(RequestKind::Other);
        reply.error(Errno::ENOSYS);
    }

    fn setlk(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _lock_owner: LockOwner,
        _start: u64,
        _end: u64,
        _kind: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        let _timed = self.timed(RequestKind::Other);
        reply.error(Errno::ENOSYS);
    }

    fn bmap(
        &self,
        _request: &Request,
        _node: INodeNo,
        _block_size: u32,
        _block: u64,
        reply: ReplyBmap,
    ) {
        let _timed = self.timed(RequestKind::Other);
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _input: &[u8],
        _output_size: u32,
        reply: ReplyIoctl,
    ) {
        let _timed = self.timed(RequestKind::Other);
        reply.error(Errno::ENOTTY);
    }

    // Everything below would change the tree. The kernel refuses it at the read-only mount
    // already; these answers are for a mount that somebody made writable.

    fn setattr(
        &self,
        _request: &Request,
        _node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn mknod(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn mkdir(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn unlink(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn rmdir(&self, _request: &Request, _parent: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn symlink(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _target: &Path,
        reply: ReplyEntry,
    ) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn rename(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn link(
        &self,
        _request: &Request,
        _node: INodeNo,
        _new_parent: INodeNo,
        _new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn setxattr(
        &self,
        _request: &Request,
        _node: INodeNo,
        _name: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _request: &Request, _node: INodeNo, _name: &OsStr, reply: ReplyEmpty) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn create(
        &self,
        _request: &Request,
        _parent: INodeNo,
        _name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn fallocate(
        &self,
        _request: &Request,
        _node: INodeNo,
        _handle: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _from: INodeNo,
        _from_handle: FileHandle,
        _from_offset: u64,
        _to: INodeNo,
        _to_handle: FileHandle,
        _to_offset: u64,
        _length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _timed = self.timed(RequestKind::Change);
        reply.error(Errno::EROFS);
    }
}
