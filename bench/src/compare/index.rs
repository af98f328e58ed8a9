//! Building, opening and using an index.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufReader};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use bench::layout::Layout;
use bench::node::Node;
use bench::samples::Samples;
use flate2::bufread::MultiGzDecoder;
use index_format::{Index, InodeNumber};

/// Opens and lookups are too short to time one by one.
const REPEATS: u32 = 1000;

/// Prints `brisk index build` against plain decompression in memory, then what opening and
/// looking up cost.
pub async fn compare(directory: &Path, brisk: &Path, layer: &Path, rounds: usize) -> Result<()> {
    let layer = &if layer.is_dir() {
        let layers = Layout::open(layer)?.layers;
        let largest = layers.into_iter().max_by_key(|(_, size)| *size);
        largest.context("an image without layers")?.0
    } else {
        layer.to_owned()
    };
    let node = Node::new(brisk, directory.join("root"));
    let output = directory.join("index");
    let words = [
        "index".as_ref(),
        "build".as_ref(),
        "-o".as_ref(),
        output.as_os_str(),
        layer.as_os_str(),
    ];
    let mut build = Samples::new("s");
    for _ in 0..rounds {
        let started = Instant::now();
        let file = BufReader::with_capacity(1 << 20, File::open(layer)?);
        io::copy(&mut MultiGzDecoder::new(file), &mut io::sink())?;
        build.add("decompression (flate2)", started.elapsed().as_secs_f64());
        let started = Instant::now();
        node.run(&words).await?;
        build.add("brisk index build", started.elapsed().as_secs_f64());
    }
    println!("{}", build.table("index build"));
    let bytes = std::fs::read(&output)?;
    println!(
        "index of {}: {} bytes for a layer of {}\n",
        layer.display(),
        bytes.len(),
        layer.metadata()?.len()
    );
    println!("{}", access(&bytes, rounds)?.table("access"));
    Ok(())
}

fn access(bytes: &[u8], rounds: usize) -> Result<Samples> {
    let index = Index::open(bytes.to_vec())?;
    let names = names(&index)?;
    let mut samples = Samples::new("us");
    for _ in 0..rounds {
        let copies: Vec<Vec<u8>> = (0..8).map(|_| bytes.to_vec()).collect();
        let count = copies.len() as f64;
        let started = Instant::now();
        for copy in copies {
            black_box(Index::open(copy)?);
        }
        samples.add("open", started.elapsed().as_secs_f64() * 1e6 / count);
        let started = Instant::now();
        black_box(&index).validate()?;
        samples.add("validate", started.elapsed().as_secs_f64() * 1e6);
        let started = Instant::now();
        for number in 0..REPEATS as usize {
            let (directory, name) = &names[number * 7919 % names.len()];
            black_box(index.lookup(*directory, name)?.context("a listed name")?);
        }
        let each = started.elapsed().as_secs_f64() * 1e6 / f64::from(REPEATS);
        samples.add("lookup of a name", each);
    }
    Ok(samples)
}

/// Every name of the tree, with its directory.
fn names(index: &Index) -> Result<Vec<(InodeNumber, Vec<u8>)>> {
    let mut names = Vec::new();
    let mut waiting = vec![InodeNumber(1)];
    while let Some(directory) = waiting.pop() {
        for entry in index.entries(directory)? {
            let entry = entry?;
            names.push((directory, entry.name.to_vec()));
            if index.inode(entry.inode)?.kind == index_format::FileKind::Directory {
                waiting.push(entry.inode);
            }
        }
    }
    Ok(names)
}
