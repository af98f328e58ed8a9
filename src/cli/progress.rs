//! Progress and warnings of a long request, on stderr.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::say;
use crate::daemon::control::Answer;

/// One line on a terminal that says how far a request is; elsewhere only warnings are shown.
pub struct ProgressLine {
    bar: Option<ProgressBar>,
    is_terminal: bool,
}

impl ProgressLine {
    /// Nothing is shown until something happens.
    pub fn new() -> Self {
        ProgressLine {
            bar: None,
            is_terminal: std::io::stderr().is_terminal(),
        }
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Answer) {
        match event {
            Answer::Warning { message } => match &self.bar {
                Some(bar) => bar.suspend(|| say(format_args!("brisk: warning: {message}"))),
                None => say(format_args!("brisk: warning: {message}")),
            },
            Answer::Progress(progress) if self.is_terminal && progress.total > 0 => {
                let bar = self.bar.get_or_insert_with(|| {
                    let style = "{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
                    ProgressBar::new(progress.total).with_style(
                        ProgressStyle::with_template(style)
                            .unwrap_or_else(|_| ProgressStyle::default_bar()),
                    )
                });
                bar.set_prefix(progress.stage.clone());
                bar.set_length(progress.total);
                bar.set_position(progress.bytes);
            }
            _ => {}
        }
    }

    /// Takes the line away.
    pub fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Default for ProgressLine {
    fn default() -> Self {
        Self::new()
    }
}

/// A count of bytes on a terminal, for what has no known end.
pub fn progress_bar(doing: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{doing} {{bytes}} {{bytes_per_sec}}"))
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::no_length().with_style(style);
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}
