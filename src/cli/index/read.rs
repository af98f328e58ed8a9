//! `brisk index inspect`, `verify`, `ls` and `cat`.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;
use index_format::{FileKind, Index, Inode, InodeNumber, SectionId};
use serde_json::json;

use crate::cli::error::{CliError, because};
use crate::cli::global::GlobalOptions;
use crate::cli::index::build::{index_file, options};
use crate::cli::index::layer::{IndexedFile, open_index};
use crate::cli::output::{line, print_json};

/// What `index inspect` takes.
#[derive(Args, Clone, Debug)]
pub struct InspectArguments {
    /// An index file
    index: PathBuf,
}

/// What `index verify` takes.
#[derive(Args, Clone, Debug)]
pub struct VerifyArguments {
    /// An index file
    index: PathBuf,
    /// The layer file that it is of: it is indexed anew and compared
    layer: Option<PathBuf>,
}

/// What `index ls` takes.
#[derive(Args, Clone, Debug)]
pub struct ListArguments {
    /// An index file
    index: PathBuf,
    /// The directory to begin at
    #[arg(default_value = "/")]
    path: PathBuf,
}

/// What `index cat` takes.
#[derive(Args, Clone, Debug)]
pub struct CatArguments {
    /// An index file
    index: PathBuf,
    /// The layer file that it is of
    layer: PathBuf,
    /// The file to print
    path: PathBuf,
}

/// Prints what an index says of itself, as JSON.
pub fn inspect(arguments: &InspectArguments) -> Result<(), CliError> {
    let index = open_index(&arguments.index)?;
    let sections: serde_json::Map<String, serde_json::Value> = SectionId::ALL
        .into_iter()
        .filter(|section| index.has_section(*section))
        .map(|section| {
            (
                section.name().to_owned(),
                index.section_length(section).into(),
            )
        })
        .collect();
    print_json(&json!({
        "digest": index.digest().to_string(),
        "layer": index.layer_digest().to_string(),
        "diff_id": index.diff_id().to_string(),
        "compression": format!("{:?}", index.compression()).to_lowercase(),
        "compressed_size": index.compressed_size(),
        "stream_size": index.stream_size(),
        "inodes": index.inode_count(),
        "chunks": index.chunk_count(),
        "sections": sections,
    }))
}

/// Checks an index.
pub fn verify(global: &GlobalOptions, arguments: &VerifyArguments) -> Result<(), CliError> {
    let index = open_index(&arguments.index)?;
    let Some(layer) = &arguments.layer else {
        line(format_args!(
            "{}: sound; without its layer, its truth is not checked",
            index.digest()
        ))?;
        return Ok(());
    };
    let built = index_file(layer, options(global, None)?)?;
    let own = Index::open(built.bytes).map_err(because)?;
    // Chunks may have been cut at other places; everything else is decided by the layer.
    let sections = [
        SectionId::Inodes,
        SectionId::Entries,
        SectionId::Names,
        SectionId::Xattrs,
        SectionId::Extents,
        SectionId::Leaves,
    ];
    let same_header = own.layer_digest() == index.layer_digest()
        && own.diff_id() == index.diff_id()
        && own.stream_size() == index.stream_size();
    let differing: Vec<&str> = sections
        .into_iter()
        .filter(|s| own.section_digest(*s) != index.section_digest(*s))
        .map(SectionId::name)
        .collect();
    if !same_header || !differing.is_empty() {
        return Err(CliError::new(format!(
            "{} does not tell the truth about {}: {}",
            arguments.index.display(),
            layer.display(),
            if same_header {
                differing.join(", ")
            } else {
                "it is of another layer".to_owned()
            }
        ))
        .hint("build it again with `brisk index build`"));
    }
    line(format_args!(
        "{}: true to {}",
        index.digest(),
        own.layer_digest()
    ))?;
    Ok(())
}

/// Lists a tree.
pub fn list(arguments: &ListArguments) -> Result<(), CliError> {
    let index = open_index(&arguments.index)?;
    let start = find(&index, &arguments.path)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let top = arguments.path.as_os_str().as_bytes();
    let top = top.strip_suffix(b"/").unwrap_or(top).to_vec();
    let listed = walk(&index, start, &top, &mut out).and_then(|()| out.flush());
    match listed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(because(error)),
        _ => Ok(()),
    }
}

fn walk(index: &Index, start: InodeNumber, top: &[u8], out: &mut impl Write) -> io::Result<()> {
    let mut waiting = vec![(top.to_vec(), start)];
    while let Some((path, number)) = waiting.pop() {
        let inode = index.inode(number).map_err(io::Error::other)?;
        print_entry(index, &path, &inode, out)?;
        if inode.kind == FileKind::Directory {
            let entries = index.entries(number).map_err(io::Error::other)?;
            let mut below = Vec::new();
            for entry in entries {
                let entry = entry.map_err(io::Error::other)?;
                below.push(([path.as_slice(), b"/", entry.name].concat(), entry.inode));
            }
            waiting.extend(below.into_iter().rev());
        }
    }
    Ok(())
}

fn print_entry(index: &Index, path: &[u8], inode: &Inode, out: &mut impl Write) -> io::Result<()> {
    let letter = match inode.kind {
        FileKind::Directory => 'd',
        FileKind::Regular => '-',
        FileKind::Symlink => 'l',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::Whiteout => 'w',
        FileKind::ForeignLink => 'h',
    };
    write!(
        out,
        "{letter}{:04o} {:>3} {:>5} {:>5} {:>10} {:>11}.{:09} ",
        inode.permissions,
        inode.nlink,
        inode.uid,
        inode.gid,
        inode.size,
        inode.mtime.seconds,
        inode.mtime.nanoseconds
    )?;
    out.write_all(if path.is_empty() { b"/" } else { path })?;
    if matches!(inode.kind, FileKind::Symlink | FileKind::ForeignLink) {
        out.write_all(b" -> ")?;
        out.write_all(
            index
                .symlink_target(inode.number)
                .map_err(io::Error::other)?,
        )?;
    }
    if inode.opaque {
        out.write_all(b" (opaque)")?;
    }
    out.write_all(b"\n")
}

/// Prints a file.
pub fn cat(arguments: &CatArguments) -> Result<(), CliError> {
    let file = IndexedFile::open(&arguments.index, &arguments.layer)?;
    let inode = find(file.index(), &arguments.path)?;
    let kind = file.index().inode(inode).map_err(because)?.kind;
    if kind != FileKind::Regular {
        return Err(CliError::new(format!(
            "{} is a {kind:?}, not a regular file",
            arguments.path.display()
        )));
    }
    let mut out = io::stdout().lock();
    file.read(inode, |bytes| out.write_all(bytes).map_err(because))
}

fn find(index: &Index, path: &std::path::Path) -> Result<InodeNumber, CliError> {
    let relative = path.as_os_str().as_bytes();
    let relative = relative.strip_prefix(b"/").unwrap_or(relative);
    let relative = relative.strip_suffix(b"/").unwrap_or(relative);
    index
        .resolve(relative)
        .map_err(because)?
        .ok_or_else(|| CliError::new(format!("the layer has no {}", path.display())))
}
