//! Three kinds of byte offset that must never be mixed up, each a type of its own.

use std::fmt;

macro_rules! offset {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// This offset moved on by `length` bytes; `None` where that overflows.
            pub fn checked_add(self, length: u64) -> Option<$name> {
                self.0.checked_add(length).map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, out)
            }
        }
    };
}

offset! {
    /// Bytes from the start of a layer's compressed blob.
    CompressedOffset
}

offset! {
    /// Bytes from the start of a layer's uncompressed stream.
    StreamOffset
}

offset! {
    /// Bytes from the start of a file.
    FileOffset
}
