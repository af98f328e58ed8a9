//! Little-endian base-128 numbers, as checkpoint records hold them.

/// Appends `value`: seven bits a byte, low ones first, the high bit set on all but the last.
pub(super) fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a number off the front of `bytes`; `None` when it is cut off or above 64 bits.
pub(super) fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if (low << shift) >> shift != low {
            return None;
        }
        value |= low << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Takes `count` bytes off the front of `bytes`; `None` when there are fewer.
pub(super) fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Option<&'a [u8]> {
    let count = usize::try_from(count).ok()?;
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut bytes = Vec::new();
        let values = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        values.iter().for_each(|&value| write(&mut bytes, value));
        let mut rest = &bytes[..];
        for value in values {
            assert_eq!(read(&mut rest), Some(value));
        }
        assert_eq!(read(&mut rest), None);
    }

    #[test]
    fn numbers_above_64_bits_are_refused() {
        assert_eq!(read(&mut &[0xff; 11][..]), None);
        let mut two_to_the_64 = [0x80; 10];
        two_to_the_64[9] = 2;
        assert_eq!(read(&mut &two_to_the_64[..]), None);
    }
}
