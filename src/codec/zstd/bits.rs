//! The two bit orders of zstd: forwards for table descriptions, backwards for sequences.

/// At most this many bits are read at once.
const MAX_READ: u32 = 56;

/// The eight bytes from `at` on as a number, zeros beyond the end.
fn load(data: &[u8], at: usize) -> u64 {
    let rest = data.get(at..).unwrap_or(&[]);
    match rest.first_chunk() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(bytes)
        }
    }
}

fn low(value: u64, count: u32) -> u64 {
    debug_assert!(count <= MAX_READ, "more bits than a load holds");
    value & ((1 << count) - 1)
}

/// Reads low bits first from the start (RFC 8878 section 4.1.1).
pub(super) struct ForwardBits<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> ForwardBits<'a> {
    pub(super) fn new(data: &'a [u8]) -> ForwardBits<'a> {
        ForwardBits { data, position: 0 }
    }

    /// The next `count` bits, left unread; zeros beyond the end.
    pub(super) fn peek(&self, count: u32) -> u64 {
        low(
            load(self.data, self.position / 8) >> (self.position % 8),
            count,
        )
    }

    pub(super) fn skip(&mut self, count: u32) {
        self.position += count as usize;
    }

    pub(super) fn read(&mut self, count: u32) -> u64 {
        let value = self.peek(count);
        self.skip(count);
        value
    }

    /// How many bytes were begun; `None` when that is more than there are.
    pub(super) fn bytes_read(&self) -> Option<usize> {
        Some(self.position.div_ceil(8)).filter(|bytes| *bytes <= self.data.len())
    }
}

/// Reads from the end backwards; the last set bit marks the end (RFC 8878 section 4.1).
pub(super) struct BackwardBits<'a> {
    data: &'a [u8],
    /// Bits that are left.
    left: usize,
    overrun: bool,
}

impl<'a> BackwardBits<'a> {
    /// `None` when there is no end mark.
    pub(super) fn new(data: &'a [u8]) -> Option<BackwardBits<'a>> {
        let last = data.last().filter(|last| **last != 0)?;
        let left = data.len() * 8 - last.leading_zeros() as usize - 1;
        Some(BackwardBits {
            data,
            left,
            overrun: false,
        })
    }

    /// The next `count` bits; zero once there are fewer.
    #[inline]
    pub(super) fn read(&mut self, count: u32) -> u64 {
        match self.left.checked_sub(count as usize) {
            Some(left) => {
                self.left = left;
                low(load(self.data, left / 8) >> (left % 8), count)
            }
            None => {
                self.overrun = true;
                0
            }
        }
    }

    /// Whether exactly all bits have been read.
    pub(super) fn is_exhausted(&self) -> bool {
        self.left == 0 && !self.overrun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards() {
        let mut bits = ForwardBits::new(&[0b1010_0110, 0b1]);
        assert_eq!(
            (bits.peek(2), bits.read(4), bits.read(5)),
            (0b10, 0b0110, 0b1_1010)
        );
        assert_eq!(bits.bytes_read(), Some(2));
        bits.skip(8);
        assert_eq!((bits.peek(3), bits.bytes_read()), (0, None));
    }

    #[test]
    fn backwards() {
        // The end mark is bit 2 of the second byte.
        let mut bits = BackwardBits::new(&[0b1010_0110, 0b0000_0110]).unwrap();
        assert_eq!(
            (bits.read(3), bits.read(0), bits.read(7)),
            (0b101, 0, 0b010_0110)
        );
        assert!(bits.is_exhausted());
        assert_eq!(bits.read(1), 0);
        assert!(!bits.is_exhausted());
        assert!(BackwardBits::new(&[1, 0]).is_none());
        assert!(BackwardBits::new(&[]).is_none());
    }
}
