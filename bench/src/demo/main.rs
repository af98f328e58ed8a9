//! The main job, with nothing else installed: an image of this machine's /usr in a registry
//! behind a slow link, started once after a full pull and once lazily.

mod closure;
mod image;
mod layer;
mod program;
mod run;
mod show;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("brisk-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("mounting needs root; hint: sudo make demo");
    }
    let brisk = bench::node::brisk_beside()?;
    // /tmp may be memory, and the demo writes more than 1 GB in all.
    let directory = tempfile::Builder::new()
        .prefix("brisk-demo-")
        .tempdir_in("/var/tmp")
        .context("making a directory in /var/tmp")?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        let demo = run::Demo::new(&brisk, directory.path());
        let result = tokio::select! {
            result = demo.run() => result,
            () = interrupted() => Err(anyhow::anyhow!("interrupted")),
        };
        demo.close().await;
        result
    });
    drop(runtime);
    let removed = directory.close().context("removing the demo's directory");
    result.and(removed)
}

/// Returns when the user or the machine asks for the end.
async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
