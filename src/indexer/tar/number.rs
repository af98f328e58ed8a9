//! Numbers in tar: octal and base-256 header fields, decimal PAX values and times.

/// Reads a numeric header field: octal text padded with spaces or NULs, or big-endian two's
/// complement when the first bit is set (GNU base-256, negative when the second bit is set too).
/// A blank field is zero. `None` when it is neither, or does not fit.
pub fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base256(bytes),
        _ => octal(bytes),
    }
}

fn base256(bytes: &[u8]) -> Option<i64> {
    // The marker bit is not part of the number: sign-extend from bit 6 of the first byte.
    let negative = bytes[0] & 0x40 != 0;
    let mut value: i64 = if negative { -1 } else { 0 };
    for (position, byte) in bytes.iter().enumerate() {
        let byte = match position {
            0 if negative => *byte,
            0 => byte & 0x7f,
            _ => *byte,
        };
        value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
    }
    Some(value)
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let padding = |byte: &u8| *byte == b' ' || *byte == 0;
    let Some(start) = bytes.iter().position(|byte| !padding(byte)) else {
        return Some(0);
    };
    let digits = &bytes[start..];
    let end = digits
        .iter()
        .rposition(|byte| !padding(byte))
        .map_or(0, |last| last + 1);
    // Anything after a NUL is not part of the text.
    let digits = until_nul(&digits[..end]);
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}

/// The part of `bytes` before its first NUL.
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    &bytes[..end]
}

/// Reads a decimal number with an optional sign.
pub fn decimal(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        value = value.checked_mul(10)?;
        value = if negative {
            value.checked_sub(digit)?
        } else {
            value.checked_add(digit)?
        };
    }
    Some(value)
}

/// Reads an unsigned decimal number.
pub fn unsigned(text: &[u8]) -> Option<u64> {
    decimal(text).and_then(|value| u64::try_from(value).ok())
}

/// Reads a PAX time: decimal seconds since the epoch with an optional fraction. Digits beyond
/// nanoseconds are cut off. Returns seconds rounded down and the nanoseconds above them, so
/// `-1.25` is (-2, 750,000,000).
pub fn time(text: &[u8]) -> Option<(i64, u32)> {
    let dot = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match dot {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    let seconds = decimal(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds: u32 = 0;
    for position in 0..9 {
        let digit = fraction
            .get(position)
            .map_or(0, |digit| u32::from(digit - b'0'));
        nanoseconds = nanoseconds * 10 + digit;
    }
    // "-0.5" has a sign that the number 0 cannot carry.
    if whole.first() == Some(&b'-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_fields() {
        assert_eq!(field(b"0000644\0"), Some(0o644));
        assert_eq!(field(b" 644 \0\0\0"), Some(0o644));
        assert_eq!(field(b"\x00\x00644\0"), Some(0o644));
        assert_eq!(field(b"77777777777"), Some(0o77_777_777_777));
        assert_eq!(field(b"12\0junk"), Some(0o12));
        assert_eq!(field(b"0008"), None);
        assert_eq!(field(b"-1"), None);
        assert_eq!(field(b"7777777777777777777777777"), None);
    }

    #[test]
    fn blank_fields_are_zero() {
        assert_eq!(field(b"        "), Some(0));
        assert_eq!(field(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(field(b""), Some(0));
    }

    #[test]
    fn base256_fields() {
        assert_eq!(field(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(field(&[0xff; 12]), Some(-1));
        assert_eq!(
            field(&[
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00
            ]),
            Some(-256)
        );
        // The first byte carries number bits as well.
        assert_eq!(field(&[0x81, 0, 0]), Some(0x1_0000));
        assert_eq!(field(&[0xfe, 0, 0]), Some(-0x2_0000));
        let mut largest = [0xff; 12];
        largest[..4].copy_from_slice(&[0x80, 0, 0, 0]);
        largest[4] = 0x7f;
        assert_eq!(field(&largest), Some(i64::MAX));
        largest[4] = 0xff;
        assert_eq!(field(&largest), None);
        let mut smallest = [0; 12];
        smallest[..5].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x80]);
        assert_eq!(field(&smallest), Some(i64::MIN));
        smallest[3] = 0xfe;
        assert_eq!(field(&smallest), None);
    }

    #[test]
    fn times() {
        assert_eq!(
            time(b"1350244992.023960108"),
            Some((1_350_244_992, 23_960_108))
        );
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"7"), Some((7, 0)));
        assert_eq!(time(b"7."), Some((7, 0)));
        assert_eq!(time(b"1.0000000019"), Some((1, 1)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-1"), Some((-1, 0)));
        assert_eq!(time(b"-0.5"), Some((-1, 500_000_000)));
        for bad in [
            &b""[..],
            b".5",
            b"1.-5",
            b"1.5.5",
            b"x",
            b"9223372036854775808",
        ] {
            assert_eq!(time(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn decimals() {
        assert_eq!(decimal(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX));
        assert_eq!(decimal(b"9223372036854775808"), None);
        assert_eq!(decimal(b"-"), None);
        assert_eq!(unsigned(b"-1"), None);
    }
}
