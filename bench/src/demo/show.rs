//! What the user sees: a progress bar while it works, a table at the end.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

/// How often a bar is drawn anew.
const TICK: Duration = Duration::from_millis(100);

/// A step under way: a bar on a terminal, a line elsewhere.
pub struct Progress {
    bar: ProgressBar,
    task: JoinHandle<()>,
}

impl Progress {
    /// A step of which `done` of `total` bytes are done.
    pub fn bytes(
        what: &'static str,
        total: u64,
        done: impl Fn() -> u64 + Send + 'static,
    ) -> Progress {
        let template = "{msg:32} [{bar:30}] {bytes}/{total_bytes} {elapsed}";
        Self::start(ProgressBar::new(total), template, what, done)
    }

    /// A step whose end nobody knows.
    pub fn steps(what: &'static str) -> Progress {
        let template = "{msg:32} {spinner} {elapsed}";
        Self::start(ProgressBar::new_spinner(), template, what, || 0)
    }

    fn start(
        bar: ProgressBar,
        template: &str,
        what: &'static str,
        done: impl Fn() -> u64 + Send + 'static,
    ) -> Progress {
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what);
        if !std::io::stderr().is_terminal() {
            eprintln!("{what} ...");
        }
        let drawn = bar.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                let length = drawn.length().unwrap_or(u64::MAX);
                drawn.set_position(done().min(length));
                drawn.tick();
            }
        });
        Progress { bar, task }
    }

    /// Ends the step.
    pub fn finish(self) {}
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

/// One way of starting.
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Time to the first output.
    pub first: Duration,
    /// Bytes over the link until then.
    pub fetched: u64,
    /// Compressed size of the image.
    pub size: u64,
}

/// The table of all ways; the first is what the others are compared with.
pub fn table(rows: &[Row]) -> String {
    let mut table = format!(
        "{:<12} {:>20} {:>26} {:>12} {:>8}\n",
        "", "time to first output", "fetched until first output", "image size", "of image"
    );
    for row in rows {
        table += &format!(
            "{:<12} {:>18.2} s {:>23.1} MB {:>9.1} MB {:>6.1} %\n",
            row.name,
            row.first.as_secs_f64(),
            row.fetched as f64 / 1e6,
            row.size as f64 / 1e6,
            row.fetched as f64 * 100.0 / row.size as f64,
        );
    }
    if let [base, others @ ..] = rows {
        for row in others {
            table += &format!(
                "{}: {:.1} times faster to the first output, {:.1} times fewer bytes\n",
                row.name,
                base.first.as_secs_f64() / row.first.as_secs_f64(),
                base.fetched as f64 / row.fetched.max(1) as f64,
            );
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_each_way_and_the_ratio() {
        let row = |name, seconds, fetched| Row {
            name,
            first: Duration::from_secs(seconds),
            fetched,
            size: 100_000_000,
        };
        let table = table(&[row("full pull", 14, 100_000_000), row("lazy", 2, 5_000_000)]);
        assert!(table.contains("14.00 s") && table.contains("5.0 %"));
        assert!(table.contains("lazy: 7.0 times faster") && table.contains("20.0 times fewer"));
    }
}
