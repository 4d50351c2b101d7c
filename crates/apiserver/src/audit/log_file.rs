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
    compress: bool,
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
            max_size: match u64::try_from(flags.audit_log_maxsize) {
                Ok(0) | Err(_) => 100 * MEBIBYTE,
                Ok(given) => given.saturating_mul(MEBIBYTE),
            },
            max_backups: usize::try_from(flags.audit_log_maxbackup).unwrap_or(0),
            max_age_days: flags.audit_log_maxage,
            compress: flags.audit_log_compress,
            target: Mutex::new(target),
        })
    }

    fn lines(&self, events: &[Arc<Event>]) -> String {
        let mut text = String::new();
        for event in events {
            if self.legacy {
                text.push_str(&event.legacy_line());
            } else {
                text.push_str(&serde_json::to_string(&**event).unwrap_or_default());
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
            let aside = self.aside();
            std::fs::rename(&self.path, &aside)?;
            *target = open(&self.path)?;
            self.clean()?;
            if self.compress {
                rt::spawn_blocking(move || {
                    if let Err(error) = compress(&aside) {
                        tracing::error!(path = %aside.display(), %error, "audit log was not compressed");
                    }
                });
            }
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
                Ok(next) if path.exists() || gzipped(&path).exists() => at = next,
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
            name.starts_with(&stem) && (name.ends_with(&extension) || name.ends_with(&format!("{extension}.gz")))
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

fn gzipped(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    PathBuf::from(name)
}

/// Puts a compressed file in the place of a log; one that was begun and not ended is begun anew.
fn compress(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let to = gzipped(path);
    let file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&to)?;
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    std::io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    std::fs::remove_file(path)
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
