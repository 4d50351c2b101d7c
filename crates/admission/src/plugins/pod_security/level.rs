//! Levels, versions, and the labels that choose them.

use std::fmt;

use meta::Object;
use meta::field::{self, Path};

/// A Pod Security Standard, the laxest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A minor version of the standards; `u32::MAX` is `latest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32);

impl Version {
    pub(super) const LATEST: Version = Version(u32::MAX);
}

/// A level as of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LevelVersion {
    pub(super) level: Level,
    pub(super) version: Version,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::LATEST => write!(f, "{level}:latest"),
            Version(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl LevelVersion {
    /// As metrics say it.
    pub(super) fn labels(self) -> (&'static str, String) {
        /// The newest version that we know the standards of.
        const KNOWN: u32 = 36;
        let level = match self.level {
            Level::Privileged => return ("privileged", "latest".into()),
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::LATEST => (level, "latest".into()),
            Version(minor) if minor <= KNOWN => (level, format!("v1.{minor}")),
            Version(_) => (level, "future".into()),
        }
    }
}

/// What a namespace asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: LevelVersion,
    pub(super) audit: LevelVersion,
    pub(super) warn: LevelVersion,
}

pub(super) fn parse_level(text: &str) -> Result<Level, &'static str> {
    match text {
        "privileged" => Ok(Level::Privileged),
        "baseline" => Ok(Level::Baseline),
        "restricted" => Ok(Level::Restricted),
        _ => Err("must be one of privileged, baseline, restricted"),
    }
}

pub(super) fn parse_version(text: &str) -> Result<Version, &'static str> {
    if text == "latest" {
        return Ok(Version::LATEST);
    }
    let minor = text.strip_prefix("v1.").filter(|m| *m == "0" || !m.starts_with('0'));
    let minor = minor.filter(|m| m.bytes().all(|b| b.is_ascii_digit())).and_then(|m| m.parse().ok());
    minor.map(Version).ok_or("must be \"latest\" or \"v1.x\"")
}

/// Reads the labels of one mode. A wrong level becomes `wrong`, a wrong version the latest.
fn read(
    namespace: &Object,
    mode: &str,
    (mut found, wrong): (LevelVersion, Level),
    errors: &mut Vec<field::Error>,
) -> (LevelVersion, bool, bool) {
    let label = |name: &str| format!("pod-security.kubernetes.io/{name}");
    let mut report = |label: &str, value: &str, message: &str| {
        let path = Path::new("metadata").child("labels").key(label);
        errors.push(field::Error::invalid(&path, value, message));
    };
    let (key, mut has_level) = (label(mode), false);
    if let Some(text) = namespace.label(&key) {
        match parse_level(text) {
            Ok(level) => {
                found.level = level;
                has_level = true;
            }
            Err(message) => {
                found.level = wrong;
                report(&key, text, message);
            }
        }
    }
    let key = label(&format!("{mode}-version"));
    let given = namespace.label(&key);
    if let Some(text) = given {
        match parse_version(text) {
            Ok(version) => found.version = version,
            Err(message) => {
                found.version = Version::LATEST;
                report(&key, text, message);
            }
        }
    }
    (found, has_level, given.is_some())
}

impl Policy {
    /// The policy of a namespace's labels over the defaults, and what is wrong with them.
    pub(super) fn of(namespace: &Object, defaults: &Policy) -> (Policy, Vec<field::Error>) {
        let mut errors = Vec::new();
        let (enforce, enforced, _) = read(namespace, "enforce", (defaults.enforce, Level::Restricted), &mut errors);
        let (audit, _, _) = read(namespace, "audit", (defaults.audit, Level::Privileged), &mut errors);
        let (mut warn, _, warn_version) = read(namespace, "warn", (defaults.warn, Level::Privileged), &mut errors);
        let named = namespace.label("pod-security.kubernetes.io/warn").is_some();
        // What is enforced is warned about too: templates are not refused, their pods will be.
        if !named && enforced && enforce.level > warn.level {
            warn.level = enforce.level;
            if !warn_version {
                warn.version = enforce.version;
            }
        }
        (Policy { enforce, audit, warn }, errors)
    }

    /// Whether nothing is checked at all.
    pub(super) fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|l| l.level == Level::Privileged)
    }

    /// Whether both say the same.
    pub(super) fn is_equivalent(&self, other: &Policy) -> bool {
        let same =
            |a: LevelVersion, b: LevelVersion| (a.level == Level::Privileged && b.level == Level::Privileged) || a == b;
        same(self.enforce, other.enforce) && same(self.audit, other.audit) && same(self.warn, other.warn)
    }
}

impl Default for Policy {
    fn default() -> Self {
        let nothing = LevelVersion { level: Level::Privileged, version: Version::LATEST };
        Self { enforce: nothing, audit: nothing, warn: nothing }
    }
}
