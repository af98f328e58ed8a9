//! System calls newer than a profile. A program that tries one falls back to an older one when it
//! hears ENOSYS, but not when it hears EPERM, which is what a profile's default says of a call
//! that its author could not know of.

/// `AUDIT_ARCH_*` of the machine, linux/audit.h. None: no answer is given there.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_00B7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// From here on the numbers of x86-64 are those of its x32 form.
const X32: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`, linux/seccomp.h.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// Instructions of classic BPF, linux/filter.h.
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ABOVE: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// `SECCOMP_RET_ERRNO` with ENOSYS.
const NO_SUCH_CALL: u32 = 0x0005_0000 | 38;

/// Instructions to come before a filter: calls of the machine's own architecture with a number
/// above `newest` fail with ENOSYS, all others go on to what follows.
pub fn answer_beyond(newest: u32) -> Vec<u8> {
    let Some(architecture) = ARCHITECTURE else {
        return Vec::new();
    };
    let instructions = [
        (LOAD, 0, 0, ARCH),
        (JUMP_EQUAL, 0, 4, architecture),
        (LOAD, 0, 0, NUMBER),
        (JUMP_AT_LEAST, 2, 0, X32),
        (JUMP_ABOVE, 0, 1, newest),
        (RETURN, 0, 0, NO_SUCH_CALL),
    ];
    let mut bytes = Vec::with_capacity(instructions.len() * 8);
    for (code, yes, no, operand) in instructions {
        let (code, operand): (u16, u32) = (code, operand);
        bytes.extend_from_slice(&code.to_ne_bytes());
        bytes.extend_from_slice(&[yes, no]);
        bytes.extend_from_slice(&operand.to_ne_bytes());
    }
    bytes
}
