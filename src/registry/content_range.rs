//! Answers to range requests, believed only where they are exactly what was asked for.

use std::ops::Range;

use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE};

use crate::error::RegistryError;
use crate::limits::MAX_SKIPPED_BYTES;
use crate::response::Response;

/// A response positioned at the start of the wanted range.
#[derive(Debug)]
pub(super) struct RangeBody {
    response: Response,
    /// Bytes before the range that are still to be dropped.
    skip: u64,
    /// Bytes of the range that are still to come.
    remaining: u64,
    wanted: u64,
    /// The body goes on after the range, because the server sent the whole blob.
    open_ended: bool,
}

impl RangeBody {
    /// Takes a successful response to a request for `wanted` of a blob of `size` bytes. A
    /// 206 must be exactly that range. A 200 is the whole blob: it is read up to the end of
    /// the range, and for a range further inside than [`MAX_SKIPPED_BYTES`] refused.
    pub(super) fn new(
        response: Response,
        wanted: &Range<u64>,
        size: u64,
    ) -> Result<Self, RegistryError> {
        let at = || response.at().to_owned();
        if let Some(encoding) = response.header(CONTENT_ENCODING)
            && !encoding.eq_ignore_ascii_case("identity")
        {
            let encoding = encoding.to_owned();
            return Err(RegistryError::ContentEncoding { at: at(), encoding });
        }
        let length = response.content_length();
        let wrong = |got: String| RegistryError::WrongRange {
            at: at(),
            wanted: wanted.clone(),
            size,
            got,
        };
        let (skip, open_ended) = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let header = response.header(CONTENT_RANGE);
                let exact = header.is_some_and(|value| is_exactly(value, wanted, size));
                if !exact || length.is_some_and(|length| length != wanted.end - wanted.start) {
                    let multipart = response
                        .header(CONTENT_TYPE)
                        .filter(|value| value.starts_with("multipart/"))
                        .unwrap_or_default();
                    let header = header.unwrap_or("none");
                    return Err(wrong(format!(
                        "206, Content-Range {header}, Content-Length {length:?} {multipart}"
                    )));
                }
                (0, false)
            }
            StatusCode::OK if length.is_some_and(|length| length != size) => {
                return Err(wrong(format!("200, Content-Length {length:?}")));
            }
            StatusCode::OK if wanted.start > MAX_SKIPPED_BYTES => {
                let offset = wanted.start;
                return Err(RegistryError::RangeUnsupported { at: at(), offset });
            }
            StatusCode::OK => (wanted.start, wanted.end < size),
            status => return Err(wrong(status.to_string())),
        };
        let remaining = wanted.end - wanted.start;
        Ok(Self {
            response,
            skip,
            remaining,
            wanted: remaining,
            open_ended,
        })
    }

    /// The next bytes of the range; `None` when all of it has come.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        while self.remaining > 0 || !self.open_ended {
            let Some(mut chunk) = self.response.chunk().await? else {
                return match self.remaining {
                    0 => Ok(None),
                    remaining => Err(self.short(remaining)),
                };
            };
            let dropped = self.skip.min(chunk.len() as u64);
            self.skip -= dropped;
            chunk = chunk.split_off(usize::try_from(dropped).expect("at most a chunk's length"));
            if chunk.len() as u64 > self.remaining {
                if !self.open_ended {
                    return Err(self.long());
                }
                chunk.truncate(usize::try_from(self.remaining).expect("less than a chunk"));
            }
            self.remaining -= chunk.len() as u64;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    fn short(&self, remaining: u64) -> RegistryError {
        RegistryError::ShortBody {
            at: self.response.at().to_owned(),
            got: self.wanted - remaining,
            expected: self.wanted,
        }
    }

    fn long(&self) -> RegistryError {
        RegistryError::TooLarge {
            at: self.response.at().to_owned(),
            limit: self.wanted,
        }
    }
}

/// True when a Content-Range value (RFC 9110, 14.4) says `bytes START-LAST/SIZE` for exactly
/// this range and size; the size may be unknown.
fn is_exactly(value: &str, wanted: &Range<u64>, size: u64) -> bool {
    let parsed = || {
        let (unit, rest) = value.trim().split_once(' ')?;
        let (range, total) = rest.trim().split_once('/')?;
        let (start, last) = range.split_once('-')?;
        let total = match total {
            "*" => None,
            number => Some(number.parse::<u64>().ok()?),
        };
        Some((
            unit,
            start.parse::<u64>().ok()?,
            last.parse::<u64>().ok()?,
            total,
        ))
    };
    parsed().is_some_and(|(unit, start, last, total)| {
        unit.eq_ignore_ascii_case("bytes")
            && start == wanted.start
            && last.checked_add(1) == Some(wanted.end)
            && total.is_none_or(|total| total == size)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_range_is_accepted() {
        let wanted = 10..20;
        assert!(is_exactly("bytes 10-19/100", &wanted, 100));
        assert!(is_exactly("Bytes 10-19/*", &wanted, 100));
        for value in [
            "bytes 10-20/100",
            "bytes 9-19/100",
            "bytes 0-9/100",
            "bytes 10-18/100",
            "bytes 10-19/99",
            "bytes 10-19",
            "bytes */100",
            "bytes 10-18446744073709551615/100",
            "bytes 10-99999999999999999999/100",
            "lines 10-19/100",
            "10-19/100",
            "",
        ] {
            assert!(!is_exactly(value, &wanted, 100), "{value}");
        }
    }
}
