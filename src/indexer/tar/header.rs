//! One 512-byte header block.

use crate::tar::number;
use crate::tar::sparse::SparseFields;

/// Size of a header and the unit that payload is padded to.
pub const BLOCK: usize = 512;

// Fields common to all formats: (start, length), from POSIX ustar.
const NAME: (usize, usize) = (0, 100);
const MODE: (usize, usize) = (NAME.0 + NAME.1, 8);
const UID: (usize, usize) = (MODE.0 + MODE.1, 8);
const GID: (usize, usize) = (UID.0 + UID.1, 8);
const SIZE: (usize, usize) = (GID.0 + GID.1, 12);
const MTIME: (usize, usize) = (SIZE.0 + SIZE.1, 12);
const CHECKSUM: (usize, usize) = (MTIME.0 + MTIME.1, 8);
const TYPE_FLAG: usize = CHECKSUM.0 + CHECKSUM.1;
const LINK_NAME: (usize, usize) = (TYPE_FLAG + 1, 100);
const MAGIC: (usize, usize) = (LINK_NAME.0 + LINK_NAME.1, 8);
const USER_NAME: (usize, usize) = (MAGIC.0 + MAGIC.1, 32);
const GROUP_NAME: (usize, usize) = (USER_NAME.0 + USER_NAME.1, 32);
const DEVICE_MAJOR: (usize, usize) = (GROUP_NAME.0 + GROUP_NAME.1, 8);
const DEVICE_MINOR: (usize, usize) = (DEVICE_MAJOR.0 + DEVICE_MAJOR.1, 8);
const PREFIX: (usize, usize) = (DEVICE_MINOR.0 + DEVICE_MINOR.1, 155);
/// Schily's star cuts the prefix short and ends the block with a mark of its own.
const STAR_PREFIX: (usize, usize) = (PREFIX.0, 131);
const STAR_MARK: (usize, usize) = (508, 4);
/// GNU keeps access and change times where ustar has the prefix.
const GNU_ACCESS_TIME: (usize, usize) = (PREFIX.0, 12);
const GNU_CHANGE_TIME: (usize, usize) = (GNU_ACCESS_TIME.0 + GNU_ACCESS_TIME.1, 12);
const GNU_SPARSE: (usize, usize) = (386, 4 * 24);
const GNU_IS_EXTENDED: usize = GNU_SPARSE.0 + GNU_SPARSE.1;
const GNU_REAL_SIZE: (usize, usize) = (GNU_IS_EXTENDED + 1, 12);

/// Which of the header layouts a block has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// No magic: Seventh Edition Unix.
    V7,
    /// POSIX ustar, and PAX on top of it.
    Ustar,
    /// Schily's star.
    Star,
    /// GNU tar's old format.
    Gnu,
}

/// A whole header block whose checksum may not have been checked yet.
#[derive(Clone, Copy)]
pub struct Header<'a>(pub &'a [u8; BLOCK]);

impl<'a> Header<'a> {
    fn bytes(self, field: (usize, usize)) -> &'a [u8] {
        &self.0[field.0..field.0 + field.1]
    }

    /// Whether all bytes are zero: one half of the end mark.
    pub fn is_zero(self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Whether the checksum holds, summed as unsigned bytes (POSIX) or signed ones (old Suns).
    pub fn checksum_holds(self) -> bool {
        let Some(expected) = number::field(self.bytes(CHECKSUM)) else {
            return false;
        };
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (position, byte) in self.0.iter().enumerate() {
            let inside = (CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1).contains(&position);
            let byte = if inside { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        expected == unsigned || expected == signed
    }

    /// The layout that magic, version and star's mark say.
    pub fn layout(self) -> Layout {
        let magic = self.bytes(MAGIC);
        if magic.starts_with(b"ustar\0") {
            if self.bytes(STAR_MARK) == b"tar\0" {
                Layout::Star
            } else {
                Layout::Ustar
            }
        } else if magic == b"ustar  \0" {
            Layout::Gnu
        } else {
            Layout::V7
        }
    }

    /// The byte that says what the entry is.
    pub fn type_flag(self) -> u8 {
        self.0[TYPE_FLAG]
    }

    /// The entry's name with the prefix, uncleaned.
    pub fn name(self) -> Vec<u8> {
        let name = number::until_nul(self.bytes(NAME));
        let prefix = number::until_nul(self.prefix());
        if prefix.is_empty() {
            name.to_vec()
        } else {
            [prefix, b"/", name].concat()
        }
    }

    fn prefix(self) -> &'a [u8] {
        match self.layout() {
            Layout::V7 => &[],
            Layout::Ustar => self.bytes(PREFIX),
            Layout::Star => self.bytes(STAR_PREFIX),
            Layout::Gnu => {
                // Go before 1.8 wrote GNU headers with ustar's prefix. They are told by times
                // that are no numbers, as Go's own reader does.
                let time = |field| number::field(self.bytes(field)).is_some();
                let times = time(GNU_ACCESS_TIME) && time(GNU_CHANGE_TIME);
                let prefix = number::until_nul(self.bytes(PREFIX));
                if times || !prefix.is_ascii() {
                    &[]
                } else {
                    prefix
                }
            }
        }
    }

    /// The target of a link, as it stands in the block.
    pub fn link_name(self) -> &'a [u8] {
        number::until_nul(self.bytes(LINK_NAME))
    }

    /// Mode bits; `None` when the field is no number. The same holds for those below.
    pub fn mode(self) -> Option<i64> {
        number::field(self.bytes(MODE))
    }

    /// Owner.
    pub fn uid(self) -> Option<i64> {
        number::field(self.bytes(UID))
    }

    /// Group.
    pub fn gid(self) -> Option<i64> {
        number::field(self.bytes(GID))
    }

    /// Bytes of payload in the archive, for the types that have any.
    pub fn size(self) -> Option<i64> {
        number::field(self.bytes(SIZE))
    }

    /// Modification time in seconds since the epoch.
    pub fn mtime(self) -> Option<i64> {
        number::field(self.bytes(MTIME))
    }

    /// Major number of a device; zero in the layout that has none.
    pub fn device_major(self) -> Option<i64> {
        self.device_field(DEVICE_MAJOR)
    }

    /// Minor number of a device; zero in the layout that has none.
    pub fn device_minor(self) -> Option<i64> {
        self.device_field(DEVICE_MINOR)
    }

    fn device_field(self, field: (usize, usize)) -> Option<i64> {
        if self.layout() == Layout::V7 {
            Some(0)
        } else {
            number::field(self.bytes(field))
        }
    }

    /// Logical size of an old GNU sparse file.
    pub fn gnu_real_size(self) -> Option<i64> {
        number::field(self.bytes(GNU_REAL_SIZE))
    }

    /// The start of an old GNU sparse file's map.
    pub fn gnu_sparse(self) -> SparseFields<'a> {
        SparseFields {
            pairs: self.bytes(GNU_SPARSE),
            is_extended: self.0[GNU_IS_EXTENDED] != 0,
        }
    }
}
