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
///
/// `refill`, then `read` at most [`MAX_READ`] bits: one load serves several reads, and only
/// `is_exhausted` at the end tells whether there were as many bits as were read.
pub(super) struct BackwardBits<'a> {
    data: &'a [u8],
    /// Bits that are left, negative after too many were read.
    left: i64,
    /// The next bits, from the highest on.
    next: u64,
}

impl<'a> BackwardBits<'a> {
    /// `None` when there is no end mark. The bits are refilled.
    pub(super) fn new(data: &'a [u8]) -> Option<BackwardBits<'a>> {
        let last = data.last().filter(|last| **last != 0)?;
        let left = data.len() as i64 * 8 - i64::from(last.leading_zeros()) - 1;
        let mut bits = BackwardBits {
            data,
            left,
            next: 0,
        };
        bits.refill();
        Some(bits)
    }

    /// Makes the next [`MAX_READ`] bits readable; those beyond the start are zeros.
    #[inline]
    pub(super) fn refill(&mut self) {
        let left = self.left.max(0) as usize;
        let start = left.div_ceil(8).saturating_sub(8);
        let above = 64 - (left - start * 8) as u32;
        // With no bits left there is nothing to shift up, and 64 would be too far.
        self.next = load(self.data, start).checked_shl(above).unwrap_or(0);
    }

    /// The next `count` bits.
    #[inline]
    pub(super) fn read(&mut self, count: u32) -> u64 {
        debug_assert!(count <= MAX_READ, "more bits than a load holds");
        let value = self.next >> 1 >> (63 - count);
        self.next <<= count;
        self.left -= i64::from(count);
        value
    }

    /// Whether exactly all bits have been read.
    pub(super) fn is_exhausted(&self) -> bool {
        self.left == 0
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
        bits.refill();
        assert_eq!(bits.read(1), 0);
        assert!(!bits.is_exhausted());
        assert!(BackwardBits::new(&[1, 0]).is_none());
        assert!(BackwardBits::new(&[]).is_none());
    }

    #[test]
    fn backwards_through_many_loads() {
        let data: Vec<u8> = (0..100u32).map(|at| (at * 37) as u8 | 1).collect();
        for count in 1..=MAX_READ {
            let mut bits = BackwardBits::new(&data).unwrap();
            let mut left = bits.left as usize;
            while left >= count as usize {
                left -= count as usize;
                let expected = (0..count as usize)
                    .map(|bit| u64::from(data[(left + bit) / 8] >> ((left + bit) % 8) & 1) << bit)
                    .sum::<u64>();
                assert_eq!(bits.read(count), expected, "{count} bits at {left}");
                bits.refill();
            }
            assert_eq!(bits.is_exhausted(), left == 0);
        }
    }
}
