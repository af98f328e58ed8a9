//! PAX extended headers: records `LENGTH KEY=VALUE\n`, for one entry or for all that follow.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::tar::entry::Xattrs;
use crate::tar::error::TarError;
use crate::tar::limit::{MAX_XATTR_LIST, MAX_XATTR_NAME, MAX_XATTR_VALUE};
use crate::tar::number;

/// Keys of extended attributes with their value as it is (star, GNU tar, Go).
const SCHILY_XATTR: &[u8] = b"SCHILY.xattr.";
/// Keys of extended attributes with a %-escaped name and a base64 value (bsdtar).
const LIBARCHIVE_XATTR: &[u8] = b"LIBARCHIVE.xattr.";
/// libarchive leaves the padding out, others write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The records of one header, or all global ones that hold at some point.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Sparse form 0.0 gives its map by repeating two keys, so they cannot be in the table.
    sparse_pairs: Vec<u64>,
}

impl Records {
    /// Reads the content of an extended header, that begins at `offset` of the stream.
    ///
    /// # Errors
    /// [`TarError::Pax`] when it breaks the grammar of POSIX.
    pub fn parse(mut bytes: &[u8], offset: u64) -> Result<Self, TarError> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) =
                record(bytes).map_err(|what| TarError::Pax { offset, what })?;
            bytes = rest;
            match key {
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    let is_offset = key == b"GNU.sparse.offset";
                    let number = number::unsigned(value);
                    let number = number.filter(|_| is_offset == records.pairs_are_whole());
                    let what = "sparse offsets and lengths do not alternate";
                    records
                        .sparse_pairs
                        .push(number.ok_or(TarError::Pax { offset, what })?);
                }
                _ => drop(records.values.insert(key.to_vec(), value.to_vec())),
            }
        }
        Ok(records)
    }

    fn pairs_are_whole(&self) -> bool {
        self.sparse_pairs.len().is_multiple_of(2)
    }

    /// Applies a further global header to the global records: an empty value deletes. Sparse
    /// maps describe one file and are dropped.
    pub fn apply_global(&mut self, newer: Self) {
        for (key, value) in newer.values {
            if key.starts_with(b"GNU.sparse.") {
                continue;
            }
            if value.is_empty() {
                self.values.remove(&key);
            } else {
                self.values.insert(key, value);
            }
        }
    }

    /// Bytes held in keys and values.
    pub fn byte_count(&self) -> usize {
        self.values
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum()
    }

    /// The keys that set something, comments excepted.
    pub fn meaningful_keys(&self) -> impl Iterator<Item = &[u8]> {
        let set = self.values.iter().filter(|(_, value)| !value.is_empty());
        set.map(|(key, _)| key.as_slice())
            .filter(|key| *key != b"comment")
    }
}

/// Key, value, and the bytes behind the record.
type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Splits the first record off.
fn record(bytes: &[u8]) -> Result<Record<'_>, &'static str> {
    // 20 digits are more than any length has; do not search a megabyte for the space.
    let head = &bytes[..bytes.len().min(21)];
    let space = head
        .iter()
        .position(|byte| *byte == b' ')
        .ok_or("a record has no length")?;
    let length = number::unsigned(&bytes[..space]).and_then(|length| usize::try_from(length).ok());
    let length = length.ok_or("a record's length is no number")?;
    if length > bytes.len() || length <= space + 1 {
        return Err("a record's length is wrong");
    }
    let (record, rest) = bytes.split_at(length);
    let [text @ .., b'\n'] = &record[space + 1..] else {
        return Err("a record does not end in a newline");
    };
    let equals = text
        .iter()
        .position(|byte| *byte == b'=')
        .ok_or("a record has no key")?;
    let (key, value) = (&text[..equals], &text[equals + 1..]);
    if key.is_empty() || key.contains(&0) {
        return Err("a key is empty or has a NUL");
    }
    if matches!(key, b"path" | b"linkpath") && value.contains(&0) {
        return Err("a path has a NUL");
    }
    Ok((key, value, rest))
}

/// The records that hold for one entry: its own before the global ones.
#[derive(Clone, Copy)]
pub struct Effective<'a> {
    /// The entry's own.
    pub local: &'a Records,
    /// Those of all global headers so far.
    pub global: &'a Records,
}

impl<'a> Effective<'a> {
    /// The value of `key`. An empty value of the entry's own hides the global one; the header
    /// block's field then holds, as in Go.
    pub fn get(self, key: &[u8]) -> Option<&'a [u8]> {
        let value = self
            .local
            .values
            .get(key)
            .or_else(|| self.global.values.get(key));
        value.map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    /// The map of sparse forms 0.0 and 0.1 as a flat list of numbers; `None` when there is none.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn sparse_numbers(self, limit: usize) -> Result<Option<Vec<u64>>, &'static str> {
        let count = self.get(b"GNU.sparse.numblocks").and_then(number::unsigned);
        let numbers = if self.local.sparse_pairs.is_empty() {
            match self.get(b"GNU.sparse.map") {
                None if count == Some(0) => Vec::new(),
                None => return Ok(None),
                Some(map) => map
                    .split(|byte| *byte == b',')
                    .map(|text| number::unsigned(text).ok_or("it holds no number"))
                    .collect::<Result<_, _>>()?,
            }
        } else {
            self.local.sparse_pairs.clone()
        };
        let pairs = numbers.len() / 2;
        if pairs > limit {
            return Err("it has too many extents");
        }
        if !numbers.len().is_multiple_of(2) || count != u64::try_from(pairs).ok() {
            return Err("its length differs from the number of blocks");
        }
        Ok(Some(numbers))
    }

    /// All extended attributes of the entry at `path`, sorted. Where both forms give one, star's
    /// holds. An empty value is a deletion, as in Go.
    ///
    /// # Errors
    /// [`TarError::Xattr`] beyond the kernel's limits, [`TarError::Pax`] when a value in base64
    /// is none.
    pub fn xattrs(self, path: &[u8], offset: u64) -> Result<Xattrs, TarError> {
        let mut found: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (name, value) in self.with_prefix(LIBARCHIVE_XATTR) {
            let what = "an extended attribute is not in base64";
            let value = BASE64
                .decode(value)
                .map_err(|_| TarError::Pax { offset, what })?;
            found.insert(unescape(name), value);
        }
        for (name, value) in self.with_prefix(SCHILY_XATTR) {
            found.insert(name.to_vec(), value.to_vec());
        }
        let mut list = 0;
        for (name, value) in &found {
            list += name.len() + 1;
            let value_fits = value.len() <= MAX_XATTR_VALUE && list <= MAX_XATTR_LIST;
            let name_fits = !name.is_empty() && name.len() <= MAX_XATTR_NAME && !name.contains(&0);
            if !(value_fits && name_fits) {
                return Err(TarError::Xattr {
                    path: path.to_vec(),
                    name: name.clone(),
                });
            }
        }
        Ok(found.into_iter().collect())
    }

    /// The records whose key begins with `prefix`, without it.
    fn with_prefix(self, prefix: &'static [u8]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let in_range = move |records: &'a Records| {
            let from = records.values.range(prefix.to_vec()..);
            from.take_while(move |(key, _)| key.starts_with(prefix))
        };
        let local = in_range(self.local);
        let global = in_range(self.global)
            .filter(move |(key, _)| !self.local.values.contains_key(key.as_slice()));
        let all = local.chain(global).filter(|(_, value)| !value.is_empty());
        all.map(move |(key, value)| (&key[prefix.len()..], value.as_slice()))
    }
}

/// Replaces %XX by the byte it stands for; anything else stays.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| {
            after
                .get(at)
                .and_then(|digit| char::from(*digit).to_digit(16))
        };
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).expect("two hex digits are one byte"));
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(pairs: &[(&[u8], &[u8])]) -> Records {
        let text: Vec<u8> = pairs
            .iter()
            .flat_map(|(key, value)| line(key, value))
            .collect();
        Records::parse(&text, 0).unwrap()
    }

    fn line(key: &[u8], value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let length = (1..8)
            .map(|digits| body + digits)
            .find(|n| n.to_string().len() + body == *n);
        let length = length.unwrap().to_string();
        [length.as_bytes(), b" ", key, b"=", value, b"\n"].concat()
    }

    #[test]
    fn grammar() {
        let parsed = Records::parse(b"6 a=b\n30 mtime=1350244992.023960108\n", 0).unwrap();
        assert_eq!(
            parsed,
            records(&[(b"a", b"b"), (b"mtime", b"1350244992.023960108")])
        );
        assert_eq!(
            records(&[(b"k", b"a=b\nc\0")]).values[&b"k"[..]],
            b"a=b\nc\0"
        );
        for bad in [
            &b"a=b\n"[..],
            b"7 a=b\n",
            b"5 a=b\n",
            b"-6 a=b\n",
            b"1 a=b\n",
            b"2 ",
            b"6 =bb\n",
            b"6 abb\n",
            b"8 a\0=bb\n",
            b"12 path=a\0\n",
            b"99999999999999999999999 a=b\n",
        ] {
            assert!(Records::parse(bad, 0).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn local_records_hide_global_ones() {
        let local = records(&[(b"uid", b"1"), (b"gid", b"")]);
        let global = records(&[(b"uid", b"7"), (b"gid", b"8"), (b"path", b"p")]);
        let effective = Effective {
            local: &local,
            global: &global,
        };
        assert_eq!(effective.get(b"uid"), Some(&b"1"[..]));
        assert_eq!(effective.get(b"gid"), None);
        assert_eq!(effective.get(b"path"), Some(&b"p"[..]));
    }

    #[test]
    fn an_empty_global_value_deletes() {
        let mut global = records(&[(b"uid", b"7"), (b"gid", b"8")]);
        global.apply_global(records(&[(b"uid", b""), (b"GNU.sparse.map", b"1,2")]));
        assert_eq!(global, records(&[(b"gid", b"8")]));
    }

    #[test]
    fn xattrs_of_both_forms() {
        let local = records(&[
            (b"SCHILY.xattr.user.raw", b"a\0\n=b"),
            (b"SCHILY.xattr.user.gone", b""),
            (b"LIBARCHIVE.xattr.user.raw", b"eA"),
            (b"LIBARCHIVE.xattr.user.%c3%a9%", b"AP8"),
            (b"LIBARCHIVE.xattr.user.padded", b"AA=="),
        ]);
        let global = records(&[
            (b"SCHILY.xattr.user.gone", b"x"),
            (b"SCHILY.xattr.user.g", b"y"),
        ]);
        let xattrs = Effective {
            local: &local,
            global: &global,
        }
        .xattrs(b"p", 0)
        .unwrap();
        let expected: Xattrs = [
            (&b"user.g"[..], &b"y"[..]),
            (b"user.padded", b"\0"),
            (b"user.raw", b"a\0\n=b"),
            (b"user.\xc3\xa9%", b"\0\xff"),
        ]
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .to_vec();
        assert_eq!(xattrs, expected);
    }

    #[test]
    fn xattrs_have_the_kernels_limits() {
        let none = Records::default();
        let xattrs = |pairs: &[(&[u8], &[u8])]| {
            Effective {
                local: &records(pairs),
                global: &none,
            }
            .xattrs(b"p", 0)
        };
        let key = |length| [SCHILY_XATTR, &vec![b'n'; length]].concat();
        assert!(xattrs(&[(&key(MAX_XATTR_NAME), &vec![0; MAX_XATTR_VALUE])]).is_ok());
        assert!(xattrs(&[(&key(MAX_XATTR_NAME + 1), b"v")]).is_err());
        assert!(xattrs(&[(&key(5), &vec![0; MAX_XATTR_VALUE + 1])]).is_err());
        assert!(xattrs(&[(SCHILY_XATTR, b"v")]).is_err());
        assert!(xattrs(&[(b"LIBARCHIVE.xattr.user.x", b"*")]).is_err());
        let many = (0..300).map(|i| [&key(220)[..], format!("{i:03}").as_bytes()].concat());
        let many: Vec<Vec<u8>> = many.collect();
        let many: Vec<(&[u8], &[u8])> = many.iter().map(|key| (&key[..], &b"v"[..])).collect();
        assert!(xattrs(&many[..200]).is_ok());
        assert!(xattrs(&many).is_err());
    }

    #[test]
    fn sparse_pairs_must_alternate() {
        let offset = line(b"GNU.sparse.offset", b"0");
        let length = line(b"GNU.sparse.numbytes", b"5");
        assert!(Records::parse(&[&offset[..], &length].concat(), 0).is_ok());
        assert!(Records::parse(&[&length[..], &offset].concat(), 0).is_err());
        assert!(Records::parse(&[&offset[..], &offset].concat(), 0).is_err());
        assert!(Records::parse(&line(b"GNU.sparse.offset", b"1,2"), 0).is_err());
    }
}
