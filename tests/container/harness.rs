//! As much of a test harness as is needed where the test is also the program under test.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Longest test: far beyond what any takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A test and its name.
pub type Test = (&'static str, fn());

/// Runs the tests whose name holds one of the words of the command line, one by one.
pub fn main(tests: &[Test]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let exact = arguments.iter().any(|word| word == "--exact");
    let words: Vec<&String> = arguments
        .iter()
        .filter(|word| !word.starts_with('-'))
        .collect();
    let chosen = |name: &str| {
        words.is_empty()
            || words.iter().any(|word| {
                if exact {
                    name == *word
                } else {
                    name.contains(*word)
                }
            })
    };
    if arguments.iter().any(|word| word == "--list") {
        for (name, _) in tests.iter().filter(|(name, _)| chosen(name)) {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    let mut passed = 0;
    for (name, test) in tests.iter().filter(|(name, _)| chosen(name)) {
        let started = std::time::Instant::now();
        let _watchdog = watch(name);
        let result = if catch_unwind(*test).is_ok() {
            passed += 1;
            "ok"
        } else {
            failed.push(*name);
            "FAILED"
        };
        println!(
            "test {name} ... {result} ({:.1} s)",
            started.elapsed().as_secs_f64()
        );
    }
    println!(
        "\ntest result: {passed} passed; {} failed {failed:?}",
        failed.len()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Ends everything when the returned end of the channel lives longer than a test may.
fn watch(name: &'static str) -> mpsc::Sender<()> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        if receiver.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            eprintln!("test {name} hangs");
            std::process::abort();
        }
    });
    sender
}
