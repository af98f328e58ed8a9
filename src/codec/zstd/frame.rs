//! Frame headers (RFC 8878 section 3.1.1.1) and skippable frames (section 3.1.2).

/// What every frame starts with.
pub(super) const MAGIC: [u8; 4] = 0xFD2F_B528u32.to_le_bytes();
/// Skippable frames: the low four bits are free.
const SKIPPABLE: u32 = 0x184D_2A50;
/// Magic and length of a skippable frame.
pub(super) const SKIPPABLE_HEADER_LENGTH: usize = 8;
/// Magic and descriptor: enough to know how long the header is.
pub(super) const HEADER_START: usize = 5;
/// XXH64's low half after the last block, when the header says so.
pub(super) const CHECKSUM_LENGTH: usize = 4;

/// What starts at some byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// A frame whose header has this many bytes, the magic included.
    Frame {
        header_length: usize,
    },
    Skippable,
    Unknown,
}

/// Tells what starts with these bytes.
pub(super) fn opening(start: [u8; HEADER_START]) -> Opening {
    let [a, b, c, d, descriptor] = start;
    if [a, b, c, d] == MAGIC {
        let single_segment = descriptor & 0x20 != 0;
        let window = usize::from(!single_segment);
        let fields = dictionary_id_length(descriptor) + content_size_length(descriptor);
        return Opening::Frame {
            header_length: HEADER_START + window + fields,
        };
    }
    if u32::from_le_bytes([a, b, c, d]) & !0xf == SKIPPABLE {
        return Opening::Skippable;
    }
    Opening::Unknown
}

/// Whether `bytes` (fewer than four) may be the beginning of a frame.
pub(super) fn may_be_opening(bytes: &[u8]) -> bool {
    let skippable = SKIPPABLE.to_le_bytes();
    let is_skippable = bytes.iter().enumerate().all(|(at, byte)| match at {
        0 => byte & 0xf0 == skippable[0],
        at => *byte == skippable[at],
    });
    MAGIC.starts_with(bytes) || is_skippable
}

/// The length that a skippable frame's header gives for what follows it.
pub(super) fn skippable_length(header: [u8; SKIPPABLE_HEADER_LENGTH]) -> u32 {
    let [_, _, _, _, a, b, c, d] = header;
    u32::from_le_bytes([a, b, c, d])
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// How far back a match may reach, in bytes.
    pub(super) window: u64,
    /// Whether a checksum follows the last block.
    pub(super) checksum: bool,
    /// The dictionary's number; 0 when there is none.
    pub(super) dictionary_id: u32,
}

/// Reads a header of the length that [`opening`] gave. `None` when it is shorter, or has its
/// reserved bit set.
pub(super) fn parse(header: &[u8]) -> Option<FrameHeader> {
    let descriptor = *header.get(HEADER_START - 1)?;
    if descriptor & 0x08 != 0 {
        return None;
    }
    let mut fields = &header[HEADER_START..];
    let single_segment = descriptor & 0x20 != 0;
    let declared_window = if single_segment {
        None
    } else {
        Some(number(&mut fields, 1)? as u8)
    };
    let dictionary_id = number(&mut fields, dictionary_id_length(descriptor))?;
    let size_length = content_size_length(descriptor);
    let content_size = number(&mut fields, size_length)?;
    // Two-byte sizes count from 256: smaller ones have the one-byte form.
    let content_size = if size_length == 2 {
        content_size + 256
    } else {
        content_size
    };
    Some(FrameHeader {
        window: declared_window.map_or(content_size, window_size),
        checksum: descriptor & 0x04 != 0,
        dictionary_id: u32::try_from(dictionary_id).expect("four bytes at most"),
    })
}

fn dictionary_id_length(descriptor: u8) -> usize {
    [0, 1, 2, 4][usize::from(descriptor & 3)]
}

fn content_size_length(descriptor: u8) -> usize {
    let single_segment = usize::from(descriptor >> 5 & 1);
    [single_segment, 2, 4, 8][usize::from(descriptor >> 6)]
}

fn number(fields: &mut &[u8], length: usize) -> Option<u64> {
    let (taken, rest) = fields.split_at_checked(length)?;
    *fields = rest;
    Some(
        taken
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

fn window_size(descriptor: u8) -> u64 {
    let base = 1u64 << (10 + (descriptor >> 3));
    base + base / 8 * u64::from(descriptor & 7)
}

/// A header for blocks cut out of a frame with this window: no checksum, no content size.
pub(super) fn synthetic(window: u64) -> [u8; 6] {
    let descriptor = (0..=u8::MAX).find(|descriptor| window_size(*descriptor) >= window);
    let [a, b, c, d] = MAGIC;
    [a, b, c, d, 0, descriptor.unwrap_or(u8::MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Option<FrameHeader> {
        match opening(*bytes.first_chunk()?) {
            Opening::Frame { header_length } => parse(bytes.get(..header_length)?),
            _ => None,
        }
    }

    #[test]
    fn fields_are_found_in_every_form() {
        let header = |rest: &[u8]| read(&[&MAGIC, rest].concat()).unwrap();
        let expected = |window, checksum, dictionary_id| FrameHeader {
            window,
            checksum,
            dictionary_id,
        };
        assert_eq!(header(&[0x00, 0x00]), expected(1024, false, 0));
        assert_eq!(header(&[0x04, 0x0b]), expected(2048 + 3 * 256, true, 0));
        assert_eq!(header(&[0x20, 9]), expected(9, false, 0));
        assert_eq!(header(&[0x61, 7, 1, 0]), expected(257, false, 7));
        assert_eq!(
            header(&[0x83, 0x50, 1, 2, 0, 0, 9, 9, 9, 9]),
            expected(1 << 20, false, 513)
        );
        assert_eq!(
            header(&[0xe0, 0, 0, 0, 0, 1, 0, 0, 0]),
            expected(1 << 32, false, 0)
        );
        assert!(read(&[&MAGIC[..], &[0x08, 0]].concat()).is_none());
    }

    #[test]
    fn openings() {
        assert_eq!(opening([0x5f, 0x2a, 0x4d, 0x18, 0]), Opening::Skippable);
        assert_eq!(opening([0x60, 0x2a, 0x4d, 0x18, 0]), Opening::Unknown);
        assert!(may_be_opening(&[]) && may_be_opening(&[0x28, 0xb5]));
        assert!(may_be_opening(&[0x57, 0x2a]) && !may_be_opening(&[0x57, 0xb5]));
    }

    #[test]
    fn a_synthetic_window_is_never_smaller() {
        for window in [0, 1, 1024, 1025, 5000, 1 << 21, (1 << 23) + 1, 1 << 27] {
            let read = read(&synthetic(window)).unwrap();
            assert!(read.window >= window && read.window <= (window + window / 8).max(1024));
            assert_eq!((read.checksum, read.dictionary_id), (false, 0));
        }
        assert!(read(&synthetic(u64::MAX)).is_some());
    }
}
