//! `bpf(2)`, as far as device programs of cgroup2 need it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of `<linux/bpf.h>`: `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Instruction {
    /// Class, operation and source.
    pub code: u8,
    /// Destination in the lower, source in the upper four bits.
    pub registers: u8,
    /// Instructions to jump over, or bytes into memory.
    pub offset: i16,
    /// The constant.
    pub immediate: i32,
}

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;

const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of the cgroups above count too, and several may be attached to one.
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// The programs of one cgroup that are looked at: the kernel attaches no more.
const PROGRAM_LIMIT: usize = 64;

#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().unsigned_abs()
}

fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: each caller passes the structure of its command with its size; the kernel takes a
    // shorter one than its own as ending in zeroes. What the structure points to outlives the
    // call, as the callers hold it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn descriptor(result: libc::c_long) -> io::Result<OwnedFd> {
    let raw = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor (close-on-exec); nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Has the kernel verify and load a device program.
///
/// # Errors
/// What bpf(2) reports: `EPERM` without CAP_BPF and CAP_NET_ADMIN or CAP_SYS_ADMIN, `EINVAL` for
/// a program that the verifier refuses.
pub fn load_device_program(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let count = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    let mut attributes = Load {
        program_type: TYPE_CGROUP_DEVICE,
        instruction_count: count,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    descriptor(call(PROG_LOAD, &mut attributes)?)
}

/// Attaches `program` to the cgroup2 directory `cgroup`, in the place of `replaced` where given.
///
/// # Errors
/// What bpf(2) reports.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attributes = Attach {
        target: number(cgroup),
        program: number(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        ..Attach::default()
    };
    if let Some(replaced) = replaced {
        attributes.flags |= REPLACE;
        attributes.replaced = number(replaced);
    }
    call(PROG_ATTACH, &mut attributes).map(drop)
}

/// Detaches `program` from the cgroup2 directory `cgroup`.
///
/// # Errors
/// What bpf(2) reports.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = Attach {
        target: number(cgroup),
        program: number(program),
        attach_type: ATTACH_CGROUP_DEVICE,
        ..Attach::default()
    };
    call(PROG_DETACH, &mut attributes).map(drop)
}

/// The device programs that are attached to the cgroup2 directory itself.
///
/// # Errors
/// What bpf(2) reports.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; PROGRAM_LIMIT];
    let mut query = Query {
        target: number(cgroup),
        attach_type: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: PROGRAM_LIMIT as u32,
        ..Query::default()
    };
    call(PROG_QUERY, &mut query)?;
    let found = ids.iter().take(query.count as usize);
    let open = |&id: &u32| {
        let mut attributes = ById {
            id,
            ..ById::default()
        };
        descriptor(call(PROG_GET_FD_BY_ID, &mut attributes)?)
    };
    found.map(open).collect()
}
