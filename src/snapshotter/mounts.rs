//! How a snapshot is mounted.

use std::path::Path;

use crate::directories::Directories;
use crate::metadata::Chain;
use crate::record::{Kind, Record};

/// One mount, in the words of mount(8).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mount {
    /// Type of the file system, or `bind`.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Options.
    pub options: Vec<String>,
}

/// Makes mounts of snapshots as this kernel wants them.
pub struct MountMaker {
    has_index: bool,
}

impl MountMaker {
    /// Looks what the kernel has.
    pub fn new() -> Self {
        MountMaker {
            has_index: Path::new("/sys/module/overlay/parameters/index").exists(),
        }
    }

    /// The mounts of a snapshot on `chain`, whose remote part is mounted at `tree`.
    pub fn mounts(
        &self,
        directories: &Directories,
        record: &Record,
        chain: &Chain,
        tree: Option<&Path>,
    ) -> Vec<Mount> {
        let content = |id| directories.content(id).to_string_lossy().into_owned();
        let is_active = record.kind == Kind::Active;
        let own = || content(record.id);
        match (chain.ordinary.as_slice(), tree, is_active) {
            // An overlay needs a lower, and a single layer no overlay.
            ([], None, true) => vec![bind(own(), "rw")],
            ([], None, false) => vec![bind(own(), "ro")],
            ([only], None, false) => vec![bind(content(*only), "ro")],
            (ordinary, tree, _) => {
                let mut options = Vec::new();
                // The same directories may be mounted more than once, by a `diff` for example.
                if self.has_index {
                    options.push("index=off".to_owned());
                }
                if is_active {
                    let work = directories.work(record.id);
                    options.push(format!("workdir={}", work.display()));
                    options.push(format!("upperdir={}", own()));
                }
                let mut lowers: Vec<_> = ordinary.iter().map(|id| content(*id)).collect();
                if lowers.is_empty() && !is_active {
                    // A bind would inherit that the tree is mounted without set-user-ID bits and
                    // devices; an overlay does not, and needs two lowers. The view's own
                    // directory is empty and looks like the tree's root.
                    lowers.push(own());
                }
                lowers.extend(tree.map(|tree| tree.to_string_lossy().into_owned()));
                options.push(format!("lowerdir={}", lowers.join(":")));
                vec![Mount {
                    kind: "overlay".to_owned(),
                    source: "overlay".to_owned(),
                    options,
                }]
            }
        }
    }
}

impl Default for MountMaker {
    fn default() -> Self {
        MountMaker::new()
    }
}

fn bind(source: String, access: &str) -> Mount {
    Mount {
        kind: "bind".to_owned(),
        source,
        options: vec![access.to_owned(), "rbind".to_owned()],
    }
}
