//! The header before and the trailer after each member's deflate stream.

use flate2::Crc;

/// The two bytes every member starts with (RFC 1952 section 2.3.1).
pub(super) const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// CRC32 and length, after the deflate stream.
pub(super) const TRAILER_LENGTH: usize = 8;

const METHOD_DEFLATE: u8 = 8;
const FLAG_CRC: u8 = 0x02;
const FLAG_EXTRA: u8 = 0x04;
const FLAG_NAME: u8 = 0x08;
const FLAG_COMMENT: u8 = 0x10;
const FLAGS_RESERVED: u8 = 0xe0;

/// The part of the header that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Magic, method, flags, time, extra flags, system: byte `n` of ten.
    Fixed(u8),
    ExtraLength(u8),
    Extra,
    Name,
    Comment,
    HeaderCrc(u8),
    Done,
}

/// Reads a header byte by byte, keeping none of it.
#[derive(Debug)]
pub(super) struct HeaderParser {
    part: Part,
    flags: u8,
    /// What is left of the extra field, in bytes.
    extra: u16,
    crc: Crc,
    expected_crc: u16,
}

impl HeaderParser {
    pub(super) fn new() -> HeaderParser {
        let crc = Crc::new();
        HeaderParser {
            part: Part::Fixed(0),
            flags: 0,
            extra: 0,
            crc,
            expected_crc: 0,
        }
    }

    /// Whether the header is complete; the deflate stream follows.
    pub(super) fn is_done(&self) -> bool {
        self.part == Part::Done
    }

    /// Whether nothing has been read yet.
    pub(super) fn is_new(&self) -> bool {
        self.part == Part::Fixed(0)
    }

    /// Whether the two magic bytes were there.
    pub(super) fn has_magic(&self) -> bool {
        !matches!(self.part, Part::Fixed(0 | 1))
    }

    /// Takes header bytes from `input`, and none after the header. Answers how many.
    pub(super) fn read(&mut self, input: &[u8]) -> Result<usize, &'static str> {
        let mut taken = 0;
        while taken < input.len() && !self.is_done() {
            taken += match self.part {
                Part::Extra => {
                    let run = usize::from(self.extra).min(input.len() - taken);
                    self.crc.update(&input[taken..taken + run]);
                    self.extra -= u16::try_from(run).expect("at most what is left of it");
                    if self.extra == 0 {
                        self.part = self.after(Part::Extra);
                    }
                    run
                }
                _ => {
                    self.read_byte(input[taken])?;
                    1
                }
            };
        }
        Ok(taken)
    }

    fn read_byte(&mut self, byte: u8) -> Result<(), &'static str> {
        if !matches!(self.part, Part::HeaderCrc(_)) {
            self.crc.update(&[byte]);
        }
        self.part = match self.part {
            Part::Fixed(n) => {
                self.check_fixed(n, byte)?;
                if n == 9 {
                    self.after(self.part)
                } else {
                    Part::Fixed(n + 1)
                }
            }
            Part::ExtraLength(0) => {
                self.extra = u16::from(byte);
                Part::ExtraLength(1)
            }
            Part::ExtraLength(_) => {
                self.extra |= u16::from(byte) << 8;
                if self.extra == 0 {
                    self.after(Part::Extra)
                } else {
                    Part::Extra
                }
            }
            Part::Name | Part::Comment if byte == 0 => self.after(self.part),
            Part::HeaderCrc(0) => {
                self.expected_crc = u16::from(byte);
                Part::HeaderCrc(1)
            }
            Part::HeaderCrc(_) => {
                self.expected_crc |= u16::from(byte) << 8;
                if u32::from(self.expected_crc) != self.crc.sum() & 0xffff {
                    return Err("the header's checksum does not match");
                }
                Part::Done
            }
            part => part,
        };
        Ok(())
    }

    fn check_fixed(&mut self, n: u8, byte: u8) -> Result<(), &'static str> {
        match n {
            0 | 1 if byte != MAGIC[usize::from(n)] => Err("no gzip header"),
            2 if byte != METHOD_DEFLATE => Err("a compression method other than deflate"),
            3 if byte & FLAGS_RESERVED != 0 => Err("unknown header flags"),
            3 => {
                self.flags = byte;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The part that the flags announce after `part`.
    fn after(&self, part: Part) -> Part {
        let parts = [
            (FLAG_EXTRA, Part::ExtraLength(0)),
            (FLAG_NAME, Part::Name),
            (FLAG_COMMENT, Part::Comment),
            (FLAG_CRC, Part::HeaderCrc(0)),
        ];
        let passed = match part {
            Part::Fixed(_) => 0,
            Part::ExtraLength(_) | Part::Extra => 1,
            Part::Name => 2,
            Part::Comment => 3,
            Part::HeaderCrc(_) | Part::Done => 4,
        };
        let next = parts[passed..]
            .iter()
            .find(|(flag, _)| self.flags & flag != 0);
        next.map_or(Part::Done, |(_, part)| *part)
    }
}

/// The trailer's CRC32 and length modulo 2^32.
pub(super) fn trailer(bytes: [u8; TRAILER_LENGTH]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = bytes;
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with all fields: extra "EXTRA", name "name", comment "words", its checksum.
    fn full_header() -> Vec<u8> {
        let mut header = vec![0x1f, 0x8b, 8, 0x1e, 1, 2, 3, 4, 0, 3, 5, 0];
        header.extend_from_slice(b"EXTRAname\0words\0");
        let mut crc = Crc::new();
        crc.update(&header);
        header.extend_from_slice(&(crc.sum() as u16).to_le_bytes());
        header
    }

    fn parse(bytes: &[u8], step: usize) -> Result<(usize, bool), &'static str> {
        let mut parser = HeaderParser::new();
        let mut taken = 0;
        for piece in bytes.chunks(step) {
            taken += parser.read(piece)?;
        }
        Ok((taken, parser.is_done()))
    }

    #[test]
    fn every_field_is_passed_in_pieces_of_any_size() {
        let header = full_header();
        let mut with_data = header.clone();
        with_data.extend_from_slice(b"data");
        for step in 1..with_data.len() {
            assert_eq!(parse(&with_data, step), Ok((header.len(), true)));
        }
        assert_eq!(
            parse(&header[..header.len() - 1], 5),
            Ok((header.len() - 1, false))
        );
    }

    #[test]
    fn a_plain_header_has_ten_bytes() {
        assert_eq!(
            parse(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 99], 99),
            Ok((10, true))
        );
    }

    #[test]
    fn an_empty_extra_field_is_passed() {
        let header = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255, 0, 0, 99];
        assert_eq!(parse(&header, 99), Ok((12, true)));
    }

    #[test]
    fn damage_is_told() {
        let mut header = full_header();
        header[14] ^= 1;
        assert_eq!(
            parse(&header, 99),
            Err("the header's checksum does not match")
        );
        assert_eq!(parse(b"BZh9", 99), Err("no gzip header"));
        assert_eq!(
            parse(&[0x1f, 0x8b, 7], 99),
            Err("a compression method other than deflate")
        );
        assert_eq!(
            parse(&[0x1f, 0x8b, 8, 0x20], 99),
            Err("unknown header flags")
        );
    }
}
