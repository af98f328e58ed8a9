//! Sizes, processor counts and process limits as people write them.

/// Parses `512m`, `1.5g`, `64KiB` or a plain number of bytes. Units are powers of 1024,
/// as docker reads them.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        "p" | "pb" | "pib" => 1 << 50,
        _ => return Err("unknown unit; use b, k, m, g, t or p".to_owned()),
    };
    scaled(number, factor)
}

/// Parses a number of processors such as `2` or `0.5` into thousandths.
pub fn parse_cpus(text: &str) -> Result<u64, String> {
    scaled(text.trim(), 1000)
}

/// `number` times `factor`, rounded down; the number may have a decimal point.
fn scaled(number: &str, factor: u64) -> Result<u64, String> {
    /// Digits after the point that are looked at: more cannot matter below a petabyte.
    const FRACTION_DIGITS: usize = 9;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let numeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !numeric(whole) || !numeric(fraction) {
        return Err("not a number".to_owned());
    }
    let too_large = || "too large".to_owned();
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| too_large())?
    };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let mut numerator: u128 = 0;
    let mut denominator: u128 = 1;
    for digit in fraction.bytes() {
        numerator = numerator * 10 + u128::from(digit - b'0');
        denominator *= 10;
    }
    // At most 10^9 * 2^50 < 2^80, so the product fits.
    let part = u64::try_from(numerator * u128::from(factor) / denominator)
        .expect("a fraction below one times a u64 fits");
    whole
        .checked_mul(factor)
        .and_then(|bytes| bytes.checked_add(part))
        .ok_or_else(too_large)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("0"), Ok(0));
        assert_eq!(parse_bytes("1048576"), Ok(1 << 20));
        assert_eq!(parse_bytes("512m"), Ok(512 << 20));
        assert_eq!(parse_bytes("1G"), Ok(1 << 30));
        assert_eq!(parse_bytes("1.5g"), Ok(3 << 29));
        assert_eq!(parse_bytes("64KiB"), Ok(64 << 10));
        assert_eq!(parse_bytes(".5k"), Ok(512));
        assert_eq!(parse_bytes("7b"), Ok(7));
    }

    #[test]
    fn what_is_no_size() {
        for text in [
            "",
            "m",
            ".",
            "-1",
            "1.2.3",
            "1x",
            "12 parsecs",
            "1e3",
            "0x10",
        ] {
            assert!(parse_bytes(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_bytes("99999999p"), Err("too large".to_owned()));
        assert_eq!(
            parse_bytes("99999999999999999999"),
            Err("too large".to_owned())
        );
    }

    #[test]
    fn processors() {
        assert_eq!(parse_cpus("1.5"), Ok(1500));
        assert_eq!(parse_cpus("0.01"), Ok(10));
        assert!(parse_cpus("two").is_err());
    }
}
