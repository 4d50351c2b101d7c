//! The log of a container in CRI's format: `<time> <stream> <P|F> <text>`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Lines longer than this are cut into parts (`P`), as containerd does.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// An open log; an empty path writes nowhere.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
}

impl Log {
    /// Opens (makes) the log.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = if path.as_os_str().is_empty() { None } else { Some(open_file(path)?) };
        Ok(Self { path: path.to_owned(), file, buffer: Vec::new() })
    }

    /// No log.
    pub(super) fn none() -> Self {
        Self { path: PathBuf::new(), file: None, buffer: Vec::new() }
    }

    /// Opens the log anew at its path, after a rotation.
    pub(super) fn reopen(&mut self) -> std::io::Result<()> {
        if self.file.is_some() {
            self.file = Some(open_file(&self.path)?);
        }
        Ok(())
    }

    /// Writes what came in: whole lines, and the rest into `partial` until its newline comes.
    pub(super) fn write(&mut self, stream: &str, mut data: &[u8], partial: &mut Vec<u8>, now: i64) {
        let Some(file) = &mut self.file else { return };
        let stamp = timestamp(now);
        self.buffer.clear();
        while !data.is_empty() {
            let room = MAX_LINE_BYTES - partial.len();
            let window = &data[..data.len().min(room)];
            if let Some(end) = window.iter().position(|b| *b == b'\n') {
                push_line(&mut self.buffer, &stamp, stream, b'F', partial, &data[..end]);
                partial.clear();
                data = &data[end + 1..];
            } else if window.len() == room && data.get(room) != Some(&b'\n') {
                push_line(&mut self.buffer, &stamp, stream, b'P', partial, window);
                partial.clear();
                data = &data[window.len()..];
            } else if window.len() == room {
                // Exactly full, and the newline is next.
                push_line(&mut self.buffer, &stamp, stream, b'F', partial, window);
                partial.clear();
                data = &data[room + 1..];
            } else {
                partial.extend_from_slice(window);
                data = &[];
            }
        }
        // A full disk loses log lines, never the container.
        let _ = file.write_all(&self.buffer);
        if self.buffer.capacity() > 64 * 1024 {
            self.buffer = Vec::new();
        }
    }

    /// Writes what is left of a stream that ended without a newline: as a part (`P`), as containerd does, so that
    /// readers add none.
    pub(super) fn finish(&mut self, stream: &str, partial: &mut Vec<u8>, now: i64) {
        if partial.is_empty() {
            return;
        }
        if let Some(file) = &mut self.file {
            let mut line = Vec::new();
            push_line(&mut line, &timestamp(now), stream, b'P', partial, &[]);
            let _ = file.write_all(&line);
        }
        *partial = Vec::new();
    }
}

fn open_file(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let open = || File::options().create(true).append(true).mode(0o640).open(path);
    match open() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir)?;
            }
            open()
        }
        other => other,
    }
}

fn push_line(buffer: &mut Vec<u8>, stamp: &str, stream: &str, tag: u8, first: &[u8], second: &[u8]) {
    buffer.extend_from_slice(stamp.as_bytes());
    buffer.push(b' ');
    buffer.extend_from_slice(stream.as_bytes());
    buffer.extend_from_slice(&[b' ', tag, b' ']);
    buffer.extend_from_slice(first);
    buffer.extend_from_slice(second);
    buffer.push(b'\n');
}

/// RFC 3339 in UTC with nine digits.
fn timestamp(ns: i64) -> String {
    let (seconds, nanos) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01 in eras of 400 years: years then begin in March, and the leap day is their last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(timestamp(1_795_269_548_123_456_789), "2026-11-21T13:59:08.123456789Z");
    }

    #[test]
    fn lines_parts_and_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/0.log");
        let mut log = Log::open(&path).unwrap();
        let mut partial = Vec::new();
        log.write("stdout", b"one\ntw", &mut partial, 0);
        log.write("stdout", b"o\n", &mut partial, 0);
        log.write("stdout", &[b'x'; MAX_LINE_BYTES + 3], &mut partial, 0);
        log.finish("stdout", &mut partial, 0);
        log.write("stdout", &[vec![b'y'; MAX_LINE_BYTES], b"\nz\n".to_vec()].concat(), &mut partial, 0);
        let text = std::fs::read_to_string(&path).unwrap();
        let seen: Vec<(String, usize)> = text
            .lines()
            .map(|l| {
                let mut f = l.splitn(4, ' ').skip(2);
                (f.next().unwrap().to_owned(), f.next().unwrap().len())
            })
            .collect();
        let expect = [("F", 3), ("F", 3), ("P", MAX_LINE_BYTES), ("P", 3), ("F", MAX_LINE_BYTES), ("F", 1)];
        assert_eq!(seen, expect.map(|(tag, length)| (tag.to_owned(), length)));
    }
}
