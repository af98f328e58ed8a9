use super::*;
use std::time::SystemTime;

fn all(reader: &mut LogReader) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(output) = reader.next_output().unwrap() {
        bytes.extend(output.bytes);
    }
    bytes
}

fn log() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    (directory, path)
}

#[test]
fn lines_come_back_as_they_were_written() {
    let (_directory, path) = log();
    let mut writer = LogWriter::create(&path).unwrap();
    let now = SystemTime::now();
    writer.write(Stream::Stdout, b"one\ntw", now);
    writer.write(Stream::Stderr, b"error \xff\n", now);
    writer.write(Stream::Stdout, b"o\n\nend", now);
    writer.finish();
    let mut reader = LogReader::open(&path).unwrap();
    let mut outputs: Vec<Output> = Vec::new();
    while let Some(output) = reader.next_output().unwrap() {
        outputs.push(output);
    }
    let texts: Vec<(Stream, &[u8])> = outputs
        .iter()
        .map(|output| (output.stream, output.bytes.as_slice()))
        .collect();
    assert_eq!(
        texts,
        [
            (Stream::Stdout, b"one\n".as_slice()),
            (Stream::Stderr, b"error \xff\n"),
            (Stream::Stdout, b"two\n"),
            (Stream::Stdout, b"\n"),
            (Stream::Stdout, b"end"),
        ]
    );
}

#[test]
fn the_size_is_limited_and_the_newest_is_kept() {
    let (directory, path) = log();
    let mut writer = LogWriter::with_limit(&path, 10_000).unwrap();
    let mut written = Vec::new();
    for number in 0..2000 {
        let line = format!("line {number}\n");
        writer.write(Stream::Stdout, line.as_bytes(), SystemTime::now());
        written.extend_from_slice(line.as_bytes());
    }
    let sizes: u64 = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(sizes <= 20_000, "{sizes}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    let kept = all(&mut LogReader::open(&path).unwrap());
    assert!(kept.len() > 500 && written.ends_with(&kept));
    assert_eq!(writer.lost_bytes(), 0);
}

#[test]
fn a_follower_sees_everything_across_rotations() {
    let (_directory, path) = log();
    let mut reader = LogReader::open(&path).unwrap();
    assert_eq!(reader.next_output().unwrap(), None, "no log yet");
    let mut writer = LogWriter::with_limit(&path, 2_000).unwrap();
    let (mut written, mut seen) = (Vec::new(), Vec::new());
    for number in 0..500 {
        let line = format!("line {number}\n");
        writer.write(Stream::Stdout, line.as_bytes(), SystemTime::now());
        written.extend_from_slice(line.as_bytes());
        if number % 7 == 0 {
            seen.extend(all(&mut reader));
        }
    }
    seen.extend(all(&mut reader));
    assert_eq!(seen, written);
}

#[test]
fn the_tail_counts_lines_and_not_pieces() {
    let (_directory, path) = log();
    let mut writer = LogWriter::create(&path).unwrap();
    let long = format!("{}\n", "x".repeat(MAX_ENTRY_TEXT * 2));
    for text in ["one\n", "two\n", &long, "four"] {
        writer.write(Stream::Stdout, text.as_bytes(), SystemTime::now());
    }
    writer.finish();
    let tail = |count| {
        let outputs = LogReader::open(&path).unwrap().tail(count).unwrap();
        outputs
            .into_iter()
            .flat_map(|output| output.bytes)
            .collect::<Vec<u8>>()
    };
    assert_eq!(tail(0), b"");
    assert_eq!(tail(1), b"four");
    assert_eq!(tail(2), format!("{long}four").into_bytes());
    assert_eq!(tail(3), format!("two\n{long}four").into_bytes());
    assert_eq!(tail(100), format!("one\ntwo\n{long}four").into_bytes());
}

#[test]
fn damage_costs_only_the_line_it_hit() {
    let (_directory, path) = log();
    let mut writer = LogWriter::create(&path).unwrap();
    writer.write(Stream::Stdout, b"one\n", SystemTime::now());
    let mut content = std::fs::read(&path).unwrap();
    content.extend_from_slice(b"{\"time\":\"cut sho\n");
    content.extend_from_slice(&vec![b'y'; 300_000]);
    content.push(b'\n');
    std::fs::write(&path, content).unwrap();
    writer.write(Stream::Stdout, b"two\n", SystemTime::now());
    assert_eq!(all(&mut LogReader::open(&path).unwrap()), b"one\ntwo\n");
}
