//! What a lazy start without background fetching brings over the link at several chunk sizes.

use anyhow::{Result, ensure};
use bench::samples::Samples;

use crate::Bench;

/// The chunk sizes compared.
const SIZES: [&str; 5] = ["256KiB", "512KiB", "1MiB", "2MiB", "4MiB"];

/// Prints index size, bytes over the link until the end of the program, and time to first
/// output for each chunk size.
pub async fn compare(bench: &Bench, rounds: usize) -> Result<()> {
    let mut index_sizes = Samples::new("MB");
    for size in SIZES {
        let bytes = bench.publish_indexed(&size.to_lowercase(), size).await?;
        index_sizes.add(size, bytes as f64 / 1e6);
    }
    let mut fetched = Samples::new("MB");
    let mut requests = Samples::new("");
    let mut times = Samples::new("s");
    for _ in 0..rounds {
        for size in SIZES {
            let node = bench.node("lazy");
            let reference = bench.reference(&size.to_lowercase());
            let (before, asked) = (bench.fetched(), bench.registry.requests());
            let ran = node
                .first_output(&["run", "--rm", "--background", "off", &reference], || {})
                .await?;
            let bytes = bench.fetched() - before;
            requests.add(size, (bench.registry.requests() - asked) as f64);
            node.close().await?;
            ensure!(!ran.output.is_empty(), "the image's program says nothing");
            fetched.add(size, bytes as f64 / 1e6);
            times.add(size, ran.first.as_secs_f64());
        }
    }
    println!(
        "image: {:.1} MB compressed",
        bench.layout.size() as f64 / 1e6
    );
    println!("{}", index_sizes.table("index as pushed"));
    println!("{}", fetched.table("over the link, index included"));
    println!("{}", requests.table("requests"));
    println!("{}", times.table("time to first output"));
    Ok(())
}
