//! The log: one line for each event, in a file that is put aside when it is large, or on standard output.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::AuditError;
use super::backend::Sink;
use super::flags::AuditFlags;
use super::trail::Event;

const MEBIBYTE: u64 = 1024 * 1024;
const DAY_SECONDS: i64 = 24 * 3600;

enum Target {
    Output,
    File { file: File, size: u64 },
}

pub(crate) struct LogFile {
    path: PathBuf,
    legacy: bool,
    max_size: u64,
    max_backups: usize,
    max_age_days: i64,
    truncate: Option<usize>,
    target: Mutex<Target>,
}

impl LogFile {
    /// Opens the log, which it goes on with when it is there already.
    pub fn open(path: &Path, flags: &AuditFlags) -> Result<Self, AuditError> {
        let failed = |source| AuditError::Log { path: path.to_owned(), source };
        let target = if path.as_os_str() == "-" {
            Target::Output
        } else {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(failed)?;
            }
            open(path).map_err(failed)?
        };
        Ok(Self {
            path: path.to_owned(),
            legacy: flags.audit_log_format == "legacy",
            max_size: if flags.audit_log_maxsize == 0 { 100 } else { flags.audit_log_maxsize } * MEBIBYTE,
            max_backups: flags.audit_log_maxbackup,
            max_age_days: flags.audit_log_maxage,
            truncate: flags.audit_log_truncate_enabled.then_some(flags.audit_log_truncate_max_event_size),
            target: Mutex::new(target),
        })
    }

    fn lines(&self, events: &[Arc<Event>]) -> String {
        let mut text = String::new();
        for event in events {
            if self.legacy {
                text.push_str(&event.legacy_line());
            } else {
                text.push_str(&encoded(event, self.truncate));
            }
            text.push('\n');
        }
        text
    }

    fn append(&self, text: &str) -> std::io::Result<()> {
        let mut target = self.target.lock();
        if let Target::File { size, .. } = &*target
            && *size > 0
            && size + text.len() as u64 > self.max_size
        {
            std::fs::rename(&self.path, self.aside())?;
            *target = open(&self.path)?;
            self.clean()?;
        }
        match &mut *target {
            Target::Output => std::io::stdout().lock().write_all(text.as_bytes()),
            Target::File { file, size } => {
                file.write_all(text.as_bytes())?;
                *size += text.len() as u64;
                Ok(())
            }
        }
    }

    fn stem(&self) -> (String, String) {
        let part = |p: Option<&std::ffi::OsStr>| p.map(|p| p.to_string_lossy().into_owned());
        let extension = part(self.path.extension()).map(|e| format!(".{e}")).unwrap_or_default();
        (format!("{}-", part(self.path.file_stem()).unwrap_or_default()), extension)
    }

    /// `audit-2026-01-02T15-04-05.000.log`; a name that is taken, by a log put aside in the same millisecond, is not taken
    /// again: its records would be lost.
    fn aside(&self) -> PathBuf {
        let (stem, extension) = self.stem();
        let mut at = rt::time::now();
        loop {
            let time = meta::time::format_micros(at).replace(':', "-");
            let path = self.path.with_file_name(format!("{stem}{}{extension}", &time[..time.len() - 4]));
            match at.checked_add(Duration::from_millis(1)) {
                Ok(next) if path.exists() => at = next,
                _ => return path,
            }
        }
    }

    /// Removes old logs beyond their number and age.
    fn clean(&self) -> std::io::Result<()> {
        let (stem, extension) = self.stem();
        let directory = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let own = |path: &PathBuf| {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with(&stem) && name.ends_with(&extension)
        };
        let mut old: Vec<PathBuf> =
            std::fs::read_dir(directory)?.filter_map(|e| Some(e.ok()?.path())).filter(own).collect();
        old.sort();
        old.reverse();
        for (i, path) in old.iter().enumerate() {
            let modified = std::fs::metadata(path)?.modified()?;
            let age = modified.elapsed().map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(0));
            let aged = self.max_age_days > 0 && age > self.max_age_days * DAY_SECONDS;
            if aged || (self.max_backups > 0 && i >= self.max_backups) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// An event as JSON; bodies that make it too long are left out.
pub(super) fn encoded(event: &Event, limit: Option<usize>) -> String {
    let text = serde_json::to_string(event).unwrap_or_default();
    if limit.is_none_or(|limit| text.len() <= limit) {
        return text;
    }
    let mut short = event.clone();
    (short.request_object, short.response_object) = (None, None);
    serde_json::to_string(&short).unwrap_or_default()
}

fn open(path: &Path) -> std::io::Result<Target> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok(Target::File { file, size })
}

#[async_trait]
impl Sink for LogFile {
    async fn write(&self, events: &[Arc<Event>]) -> Result<(), String> {
        self.append(&self.lines(events)).map_err(|e| e.to_string())
    }
}
