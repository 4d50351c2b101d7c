//! Container logs: reading CRI's format, following files through rotation, and rotating them.
//!
//! A line is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; `P` marks a part of a longer line.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt;
use inotify::{Inotify, WatchMask};
use rt::sync::{mpsc, watch};
use rt::time::Timestamp;

const CHUNK: usize = 64 << 10;
const MAX_LINE: usize = 1 << 20;

/// What of a log is wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Go on as the container writes.
    pub follow: bool,
    /// Only this many lines from the end.
    pub tail: Option<u64>,
    /// Only lines from this time on.
    pub since: Option<Timestamp>,
    /// No more than this many bytes.
    pub limit_bytes: Option<u64>,
    /// Times before lines.
    pub timestamps: bool,
    /// `Stdout` or `Stderr` only.
    pub stream: Option<String>,
}

/// One line in CRI's format.
struct Line<'a> {
    time: &'a str,
    stream: &'a str,
    partial: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tags = parts.next()?;
    let text = parts.next().unwrap_or_default();
    let partial = tags.split(|b| *b == b':').next() == Some(b"P");
    matches!(stream, "stdout" | "stderr").then_some(Line { time, stream, partial, text })
}

/// The text of the last lines of a log, for termination messages.
#[must_use]
pub fn tail_text(path: &Path, lines: usize, max: u64) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let start = tail_start(&mut file, lines as u64).ok()?;
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut raw = Vec::new();
    file.take(16 << 20).read_to_end(&mut raw).ok()?;
    let mut out = Vec::new();
    for line in raw.split(|b| *b == b'\n').filter(|l| !l.is_empty()).filter_map(parse) {
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
    }
    // The log ends every line; the program may not have.
    if out.last() == Some(&b'\n') {
        out.pop();
    }
    let from = out.len().saturating_sub(usize::try_from(max).unwrap_or(usize::MAX));
    Some(String::from_utf8_lossy(&out[from..]).into_owned())
}

/// Where the last `lines` lines begin.
fn tail_start(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let end = file.metadata()?.len();
    if lines == 0 {
        return Ok(end);
    }
    let (mut position, mut seen) = (end, 0);
    let mut buffer = vec![0; CHUNK];
    while position > 0 {
        let size = position.min(CHUNK as u64);
        position -= size;
        let part = &mut buffer[..usize::try_from(size).unwrap_or(CHUNK)];
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(part)?;
        for (index, byte) in part.iter().enumerate().rev() {
            let at = position + index as u64;
            if *byte == b'\n' && at + 1 != end {
                seen += 1;
                if seen == lines {
                    return Ok(at + 1);
                }
            }
        }
    }
    Ok(0)
}

/// Sends what is asked for; ends with the log, or, when following, when the container has ended and all is read, or
/// when nobody listens any more. `running` tells whether the container runs, `changed` when to ask again.
///
/// # Errors
/// The log cannot be opened or read.
pub async fn send<F, R>(
    path: PathBuf,
    options: Options,
    out: mpsc::Sender<Bytes>,
    running: F,
    mut changed: watch::Receiver<u64>,
) -> std::io::Result<()>
where
    F: Fn() -> R + Send,
    R: Future<Output = bool> + Send,
{
    // The watch comes before the first read, so that nothing written in between is missed.
    let mut notices = if options.follow { Some(directory_notices(&path)?) } else { None };
    let mut reader = Reader::open(&path, &options)?;
    loop {
        let more = reader.read(&options, &out).await?;
        if !more || out.is_closed() {
            return Ok(());
        }
        let Some(notices) = &mut notices else { return Ok(()) };
        if reader.rotated(&path)? {
            continue;
        }
        let alive = running().await;
        if !alive {
            reader.read(&options, &out).await?;
            return Ok(());
        }
        rt::select! {
            notice = notices.next() => {
                if notice.is_none() {
                    return Ok(());
                }
            }
            _ = changed.changed() => {}
            () = out.closed() => return Ok(()),
        }
    }
}

fn directory_notices(path: &Path) -> std::io::Result<inotify::EventStream<[u8; 1024]>> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let inotify = Inotify::init()?;
    inotify.watches().add(dir, WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_TO)?;
    inotify.into_event_stream([0; 1024])
}

struct Reader {
    file: File,
    inode: u64,
    rest: Vec<u8>,
    left: Option<u64>,
}

impl Reader {
    fn open(path: &Path, options: &Options) -> std::io::Result<Self> {
        let mut file = File::open(path)?;
        let start = match options.tail {
            Some(lines) => tail_start(&mut file, lines)?,
            None => 0,
        };
        file.seek(SeekFrom::Start(start))?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode, rest: Vec::new(), left: options.limit_bytes })
    }

    /// Goes over to the new file after a rotation.
    fn rotated(&mut self, path: &Path) -> std::io::Result<bool> {
        match std::fs::metadata(path) {
            Ok(meta) if meta.ino() != self.inode => {
                self.file = File::open(path)?;
                self.inode = self.file.metadata()?.ino();
                self.rest.clear();
                Ok(true)
            }
            // Between the renaming and the new file there is none.
            _ => Ok(false),
        }
    }

    /// Sends everything there is; `false` when the limit is reached or nobody listens.
    async fn read(&mut self, options: &Options, out: &mpsc::Sender<Bytes>) -> std::io::Result<bool> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(true);
            }
            self.rest.extend_from_slice(&buffer[..count]);
            let whole = match self.rest.iter().rposition(|b| *b == b'\n') {
                Some(last) => last + 1,
                None if self.rest.len() > MAX_LINE => self.rest.len(),
                None => continue,
            };
            let mut text = Vec::with_capacity(whole);
            for line in self.rest[..whole].split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                add(line, options, &mut text);
            }
            self.rest.drain(..whole);
            let mut end = false;
            if let Some(left) = &mut self.left {
                let keep = usize::try_from(*left).unwrap_or(usize::MAX).min(text.len());
                text.truncate(keep);
                *left -= keep as u64;
                end = *left == 0;
            }
            if !text.is_empty() && out.send(text.into()).await.is_err() {
                return Ok(false);
            }
            if end {
                return Ok(false);
            }
        }
    }
}

fn add(line: &[u8], options: &Options, out: &mut Vec<u8>) {
    let Some(parsed) = parse(line) else {
        // Not in the format: passed on as it is.
        out.extend_from_slice(line);
        out.push(b'\n');
        return;
    };
    if options
        .stream
        .as_deref()
        .is_some_and(|s| !s.eq_ignore_ascii_case(parsed.stream) && !s.eq_ignore_ascii_case("all"))
    {
        return;
    }
    if let Some(since) = options.since
        && parsed.time.parse::<Timestamp>().is_ok_and(|time| time < since)
    {
        return;
    }
    if options.timestamps {
        out.extend_from_slice(parsed.time.as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(parsed.text);
    if !parsed.partial {
        out.push(b'\n');
    }
}

/// Rotates a log that has grown over its size: the old one gets a time in its name, surplus ones go. Gives whether the
/// runtime has to open the log anew.
///
/// # Errors
/// A file operation failed.
pub fn rotate(path: &Path, max_size: u64, max_files: usize) -> std::io::Result<bool> {
    if std::fs::metadata(path)?.len() < max_size {
        return Ok(false);
    }
    let stamp = rt::time::now().strftime("%Y%m%d-%H%M%S").to_string();
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut old: Vec<PathBuf> = std::fs::read_dir(dir)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{name}."))))
        .collect();
    old.sort();
    // With the current one and the one about to be rotated, `max_files` stay.
    while old.len() + 2 > max_files && !old.is_empty() {
        std::fs::remove_file(old.remove(0))?;
    }
    std::fs::rename(path, dir.join(format!("{name}.{stamp}")))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2024-01-01T00:00:00.1Z stdout F one\n2024-01-01T00:00:01.1Z stdout P tw\n2024-01-01T00:00:01.2Z stdout F o\n2024-01-01T00:00:02Z stderr F three\n";

    async fn read(options: Options) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (send, mut receive) = mpsc::channel(16);
        let (_keep, changed) = watch::channel(0);
        super::send(path, options, send, || async { false }, changed).await.unwrap();
        let mut out = Vec::new();
        while let Some(part) = receive.recv().await {
            out.extend_from_slice(&part);
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn options() {
        let base = Options::default;
        let since = "2024-01-01T00:00:02Z".parse().ok();
        assert_eq!(read(base()).await, "one\ntwo\nthree\n");
        assert_eq!(read(Options { tail: Some(1), ..base() }).await, "three\n");
        assert_eq!(read(Options { tail: Some(0), ..base() }).await, "");
        assert_eq!(read(Options { tail: Some(9), ..base() }).await, "one\ntwo\nthree\n");
        assert_eq!(read(Options { since, timestamps: true, ..base() }).await, "2024-01-01T00:00:02Z three\n");
        assert_eq!(read(Options { limit_bytes: Some(5), ..base() }).await, "one\nt");
        assert_eq!(read(Options { stream: Some("Stderr".to_owned()), follow: true, ..base() }).await, "three\n");
    }
}
