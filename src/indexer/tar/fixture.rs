//! Handmade archives and what the reader makes of them, for tests.

use crate::tar::entry::{Entry, EntryKind};
use crate::tar::error::{TarError, Warning};
use crate::tar::limit::TarLimits;
use crate::tar::reader::TarReader;
use crate::tar::visitor::Visitor;

/// A header block to be filled in.
#[derive(Clone)]
pub struct Block([u8; 512]);

/// A ustar header with sane fields.
pub fn ustar(name: &[u8], type_flag: u8) -> Block {
    Block([0; 512])
        .put(0, name)
        .put(100, b"0000644\0")
        .put(108, b"0000000\0")
        .put(116, b"0000000\0")
        .put(124, b"00000000000\0")
        .put(136, b"00000000000\0")
        .put(156, &[type_flag])
        .put(257, b"ustar\x0000")
}

/// A GNU header with sane fields.
pub fn gnu(name: &[u8], type_flag: u8) -> Block {
    ustar(name, type_flag).put(257, b"ustar  \0")
}

/// A header from before ustar.
pub fn v7(name: &[u8], type_flag: u8) -> Block {
    ustar(name, type_flag).put(257, &[0; 8])
}

impl Block {
    /// Overwrites bytes.
    pub fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Sets the size.
    pub fn size(self, size: usize) -> Self {
        self.put(124, format!("{size:011o}\0").as_bytes())
    }

    /// Sets the link target.
    pub fn link(self, target: &[u8]) -> Self {
        self.put(157, target)
    }

    /// The block with its checksum, as unsigned bytes.
    pub fn done(self) -> Vec<u8> {
        let block = self.put(148, b"        ");
        let sum: u32 = block.0.iter().map(|byte| u32::from(*byte)).sum();
        block
            .put(148, format!("{sum:06o}\0 ").as_bytes())
            .0
            .to_vec()
    }

    /// The block with its checksum as signed bytes.
    pub fn done_signed(self) -> Vec<u8> {
        let block = self.put(148, b"        ");
        let sum: i32 = block
            .0
            .iter()
            .map(|byte| i32::from(byte.cast_signed()))
            .sum();
        block
            .put(148, format!("{sum:06o}\0 ").as_bytes())
            .0
            .to_vec()
    }

    /// Header and padded content, with the size set.
    pub fn with(self, content: &[u8]) -> Vec<u8> {
        let header = self.size(content.len()).done();
        [&header[..], &padded(content)].concat()
    }
}

/// Content up to a whole block.
pub fn padded(content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content
}

/// One PAX record.
pub fn record(key: &str, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let rest = key.len() + value.len() + 3;
    let length = (1..8)
        .map(|digits| rest + digits)
        .find(|n| n.to_string().len() + rest == *n);
    [
        length.unwrap().to_string().as_bytes(),
        b" ",
        key.as_bytes(),
        b"=",
        value,
        b"\n",
    ]
    .concat()
}

/// A PAX header, local (`x`) or global (`g`).
pub fn pax(type_flag: u8, records: &[(&str, &[u8])]) -> Vec<u8> {
    let content: Vec<u8> = records
        .iter()
        .flat_map(|(key, value)| record(key, value))
        .collect();
    ustar(b"PaxHeaders/x", type_flag).with(&content)
}

/// The end mark.
pub fn end() -> Vec<u8> {
    vec![0; 1024]
}

/// Everything that the reader said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Entries with their data as it stands in the archive.
    pub entries: Vec<(Entry, Vec<u8>)>,
    /// All bytes that are no payload.
    pub framing: Vec<u8>,
    /// Where in the stream the next byte is.
    position: u64,
    /// What was odd.
    pub warnings: Vec<Warning>,
}

impl Seen {
    /// The only entry.
    pub fn one(&self) -> &Entry {
        assert_eq!(self.entries.len(), 1, "{:?}", self.entries);
        &self.entries[0].0
    }

    /// The paths in order.
    pub fn paths(&self) -> Vec<&[u8]> {
        self.entries
            .iter()
            .map(|(entry, _)| entry.path.as_slice())
            .collect()
    }

    /// A regular file's content as a reader of the file sees it.
    pub fn content(&self, path: &[u8]) -> Vec<u8> {
        let (entry, data) = self
            .entries
            .iter()
            .find(|(entry, _)| entry.path == path)
            .unwrap();
        let EntryKind::Regular { size, extents, .. } = &entry.kind else {
            panic!("not a regular file: {entry:?}");
        };
        let mut content = vec![0; usize::try_from(*size).unwrap()];
        let mut data = &data[..];
        for extent in extents {
            let start = usize::try_from(extent.file_offset).unwrap();
            let (now, later) = data.split_at(usize::try_from(extent.length).unwrap());
            content[start..start + now.len()].copy_from_slice(now);
            data = later;
        }
        assert!(data.is_empty(), "payload without an extent");
        content
    }
}

impl Visitor for Seen {
    type Error = TarError;

    fn framing(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.framing.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn entry(&mut self, entry: Entry) -> Result<(), TarError> {
        if let EntryKind::Regular { extents, .. } = &entry.kind {
            let data_start = extents.first().map(|extent| extent.stream_offset);
            assert!(
                data_start.is_none_or(|start| start == self.position),
                "{entry:?}"
            );
        }
        self.entries.push((entry, Vec::new()));
        Ok(())
    }

    fn payload(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.entries.last_mut().unwrap().1.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn warning(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }
}

/// Reads the pieces of an archive.
pub fn read_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: TarLimits,
) -> Result<Seen, TarError> {
    let mut seen = Seen::default();
    let mut reader = TarReader::new(limits);
    for piece in pieces {
        reader.push(piece, &mut seen)?;
    }
    reader.finish(&mut seen)?;
    Ok(seen)
}

/// Reads an archive whole, byte by byte, and cut in two at every place (every prime-numbered one
/// when it is large), and insists on the same answer each time.
pub fn try_read(archive: &[u8]) -> Result<Seen, TarError> {
    let limits = TarLimits::default();
    let whole = read_pieces([archive], limits);
    assert_eq!(
        read_pieces(archive.chunks(1), limits),
        whole,
        "byte by byte"
    );
    let step = if archive.len() > 8192 { 251 } else { 1 };
    for cut in (0..archive.len()).step_by(step) {
        let (first, second) = archive.split_at(cut);
        assert_eq!(read_pieces([first, second], limits), whole, "cut at {cut}");
    }
    whole
}

/// Reads an archive that must be fine.
pub fn read(parts: &[&[u8]]) -> Seen {
    let archive = parts.concat();
    let seen = try_read(&archive).unwrap();
    let payload: usize = seen.entries.iter().map(|(_, data)| data.len()).sum();
    assert_eq!(
        seen.framing.len() + payload,
        archive.len(),
        "every byte is one or the other"
    );
    seen
}

/// Reads an archive that must be refused.
pub fn refusal(parts: &[&[u8]]) -> TarError {
    try_read(&parts.concat()).unwrap_err()
}
