//! What the kernel and ld.so look for in a program (elf(5)): the interpreter and the libraries
//! that it needs. 64-bit little-endian only: every platform that images are commonly made for.

use std::ops::Range;

/// Bytes at the start of a file that are enough for its header, and nearly always for the
/// program headers.
pub(super) const HEAD: u64 = 4096;

/// The most bytes of a dynamic section and of its strings that are looked at.
const MAX_DYNAMIC: u64 = 64 << 10;
const MAX_STRINGS: u64 = 1 << 20;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_RPATH: u64 = 15;
const DT_RUNPATH: u64 = 29;

/// A program header's part of the file, and where it is mapped.
#[derive(Debug, Clone)]
struct Segment {
    file: Range<u64>,
    address: u64,
}

/// The program headers of interest.
#[derive(Debug, Default)]
pub(super) struct Program {
    load: Vec<Segment>,
    /// The part of the file that names the interpreter.
    pub(super) interpreter: Option<Range<u64>>,
    /// The dynamic section's part of the file.
    pub(super) dynamic: Option<Range<u64>>,
}

/// The dynamic section's strings of interest, as offsets into its strings.
#[derive(Debug, Default)]
pub(super) struct Dynamic {
    needed: Vec<u64>,
    paths: Vec<u64>,
    /// The strings' part of the file.
    pub(super) strings: Option<Range<u64>>,
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(length)?)?;
    let digits = field.iter().rev();
    Some(digits.fold(0, |number, digit| number << 8 | u64::from(*digit)))
}

fn range(start: u64, length: u64, limit: u64) -> Option<Range<u64>> {
    (length <= limit).then_some(start..start.checked_add(length)?)
}

/// The program headers of a file that begins so; `None` where it is no program of ours.
pub(super) fn program(head: &[u8]) -> Option<Program> {
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let start = usize::try_from(number(head, 32, 8)?).ok()?;
    let (size, count) = (number(head, 54, 2)? as usize, number(head, 56, 2)? as usize);
    let mut program = Program::default();
    for position in 0..count {
        let at = start.checked_add(position * size)?;
        // What lies behind the head is left out.
        let Some(length) = number(head, at.checked_add(32)?, 8) else {
            break;
        };
        let kind = number(head, at, 4)? as u32;
        let (offset, address) = (number(head, at + 8, 8)?, number(head, at + 16, 8)?);
        match kind {
            PT_LOAD => program.load.push(Segment {
                file: range(offset, length, u64::MAX)?,
                address,
            }),
            PT_INTERP => program.interpreter = range(offset, length, HEAD),
            PT_DYNAMIC => program.dynamic = range(offset, length, MAX_DYNAMIC),
            _ => {}
        }
    }
    Some(program)
}

impl Program {
    /// Where an address lies in the file.
    fn offset(&self, address: u64) -> Option<u64> {
        self.load.iter().find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            let length = segment.file.end - segment.file.start;
            (within < length).then_some(segment.file.start + within)
        })
    }

    /// What the dynamic section says.
    pub(super) fn read_dynamic(&self, section: &[u8]) -> Dynamic {
        let mut dynamic = Dynamic::default();
        let (mut strings, mut size) = (None, 0);
        for entry in section.chunks_exact(16) {
            let tag = number(entry, 0, 8).unwrap_or_default();
            let value = number(entry, 8, 8).unwrap_or_default();
            match tag {
                0 => break,
                DT_NEEDED => dynamic.needed.push(value),
                DT_RPATH | DT_RUNPATH => dynamic.paths.push(value),
                DT_STRTAB => strings = self.offset(value),
                DT_STRSZ => size = value,
                _ => {}
            }
        }
        dynamic.strings = strings.and_then(|start| range(start, size, MAX_STRINGS));
        dynamic
    }
}

impl Dynamic {
    /// The libraries needed, and the directories to look in first.
    pub(super) fn names(&self, strings: &[u8]) -> (Vec<String>, Vec<String>) {
        let text = |offset: &u64| string(strings.get(usize::try_from(*offset).ok()?..)?);
        let needed = self.needed.iter().filter_map(text).collect();
        let paths = self.paths.iter().filter_map(text);
        let paths = paths.flat_map(|paths| paths.split(':').map(str::to_owned).collect::<Vec<_>>());
        (needed, paths.collect())
    }
}

/// The text up to a NUL.
pub(super) fn string(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let text = std::str::from_utf8(&bytes[..end]).ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{program, string};

    /// This test's own program, and its C library's names as ld.so sees them.
    #[test]
    fn a_real_program_names_its_interpreter_and_libraries() {
        let file = std::fs::read("/bin/sh").unwrap();
        let part = |range: std::ops::Range<u64>| &file[range.start as usize..range.end as usize];
        let program = program(&file[..super::HEAD as usize]).unwrap();
        let interpreter = string(part(program.interpreter.clone().unwrap())).unwrap();
        assert!(interpreter.contains("/ld-linux"), "{interpreter}");
        let dynamic = program.read_dynamic(part(program.dynamic.clone().unwrap()));
        let (needed, _) = dynamic.names(part(dynamic.strings.clone().unwrap()));
        assert!(needed.iter().any(|name| name == "libc.so.6"), "{needed:?}");
    }

    #[test]
    fn damaged_programs_are_no_programs_or_need_nothing() {
        let file = std::fs::read("/bin/sh").unwrap();
        let head = &file[..super::HEAD as usize];
        for length in 0..200 {
            let _ = program(&head[..length]);
        }
        for at in 0..400 {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = head.to_vec();
                damaged[at] = value;
                if let Some(program) = program(&damaged) {
                    let _ = program.read_dynamic(&damaged);
                }
            }
        }
        assert!(program(b"#!/bin/sh").is_none());
    }
}
