//! What layers hold, made from a seed.

use crate::writers::Random;

/// The kinds of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Words of a small vocabulary with lines and numbers between.
    Text,
    /// 512-byte headers, files of text and of noise, zero padding; pieces come back later.
    Tar,
    /// Nothing repeats.
    Noise,
    Zeros,
    /// Short periods of changing length, which make long matches.
    Periods,
    /// A bit of everything, in runs of up to 200 KiB.
    Mixed,
}

pub(super) const KINDS: [Kind; 6] = [
    Kind::Text,
    Kind::Tar,
    Kind::Noise,
    Kind::Zeros,
    Kind::Periods,
    Kind::Mixed,
];

/// `length` bytes of that kind.
pub(super) fn make(kind: Kind, seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(length + 4096);
    while bytes.len() < length {
        match kind {
            Kind::Text => text(&mut random, &mut bytes),
            Kind::Tar => tar(&mut random, &mut bytes),
            Kind::Noise => bytes.extend_from_slice(&random.next().to_le_bytes()),
            Kind::Zeros => bytes.resize(length, 0),
            Kind::Periods => periods(&mut random, &mut bytes),
            Kind::Mixed => {
                let kind = KINDS[random.below(5)];
                let run = 1 + random.below(200 * 1024);
                bytes.extend(make(kind, random.next(), run));
            }
        }
    }
    bytes.truncate(length);
    bytes
}

fn text(random: &mut Random, bytes: &mut Vec<u8>) {
    let word = random.below(900) * random.below(900) / 900;
    let mut letters = Random::new(word as u64 + 7);
    for _ in 0..2 + letters.below(8) {
        bytes.push(b'a' + (letters.below(26) * letters.below(26) / 26) as u8);
    }
    match random.below(24) {
        0 => bytes.extend_from_slice(b";\n    "),
        1 => bytes.extend_from_slice(format!(" {} ", random.below(100_000)).as_bytes()),
        _ => bytes.push(b' '),
    }
}

fn tar(random: &mut Random, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    let name = format!(
        "usr/lib/python3/dist-packages/m{}/f{}.py",
        random.below(9),
        start / 512
    );
    bytes.extend_from_slice(name.as_bytes());
    bytes.resize(start + 100, 0);
    bytes.extend_from_slice(b"0000644\x000000000\x000000000\x00");
    bytes.resize(start + 512, 0);
    let length = 1 + random.below(20_000);
    let content = bytes.len();
    match random.below(4) {
        0 => bytes.extend(make(Kind::Noise, random.next(), length)),
        1 if content > length => {
            let from = random.below(content - length);
            bytes.extend_from_within(from..from + length);
        }
        _ => bytes.extend(make(Kind::Text, random.next(), length)),
    }
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

fn periods(random: &mut Random, bytes: &mut Vec<u8>) {
    let period = make(Kind::Noise, random.next(), 1 + random.below(700));
    for _ in 0..1 + random.below(400) {
        bytes.extend_from_slice(&period);
    }
}
