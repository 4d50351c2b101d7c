//! Feature gates with upstream's names and defaults.

mod depends;
mod table;

use std::collections::BTreeMap;

use depends::{ABSENT, DEPENDS};
pub use table::GATES;

/// How mature a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Off by default, may go.
    Alpha,
    /// May change.
    Beta,
    /// Here to stay.
    Ga,
    /// On its way out.
    Deprecated,
}

/// What is known of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// Name.
    pub name: &'static str,
    /// Default.
    pub default: bool,
    /// Whether the default cannot be changed.
    pub locked: bool,
    /// Maturity.
    pub stage: Stage,
}

/// The gates of one component, as its flag set them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gates(BTreeMap<&'static str, bool>);

/// A flag's entry that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// No `=`.
    #[error("missing bool value for {0}")]
    NoValue(String),
    /// Neither true nor false.
    #[error("invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax")]
    BadValue {
        /// The gate.
        name: String,
        /// The value.
        value: String,
    },
    /// No such gate.
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    /// The gate is locked.
    #[error("cannot set feature gate {name} to {value}, feature is locked to {locked}")]
    Locked {
        /// The gate.
        name: String,
        /// The value asked for.
        value: bool,
        /// The value it has.
        locked: bool,
    },
    /// What the gate turns on is not here.
    #[error("cannot set feature gate {name} to true: {what} is not implemented")]
    Absent {
        /// The gate.
        name: String,
        /// What it would turn on.
        what: &'static str,
    },
    /// The gate needs others.
    #[error("{name} is enabled, but depends on features that are disabled: [{}]", .needs.join(" "))]
    Depends {
        /// The gate.
        name: &'static str,
        /// Those that are off.
        needs: Vec<&'static str>,
    },
}

impl Gates {
    /// Reads the entries of `--feature-gates`. `AllAlpha` and `AllBeta` set every gate of that stage that is not named.
    ///
    /// # Errors
    /// The first entry that cannot be taken.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, GateError> {
        let mut gates = Self::default();
        let mut groups = Vec::new();
        for entry in entries.into_iter().map(str::trim).filter(|e| !e.is_empty()) {
            let (name, text) = entry.split_once('=').ok_or_else(|| GateError::NoValue(entry.to_owned()))?;
            let value = match text {
                "true" | "True" | "TRUE" | "1" | "t" | "T" => true,
                "false" | "False" | "FALSE" | "0" | "f" | "F" => false,
                _ => return Err(GateError::BadValue { name: name.to_owned(), value: text.to_owned() }),
            };
            match name {
                "AllAlpha" => groups.push((Stage::Alpha, value)),
                "AllBeta" => groups.push((Stage::Beta, value)),
                _ => {
                    let gate = find(name).ok_or_else(|| GateError::Unknown(name.to_owned()))?;
                    if gate.locked && value != gate.default {
                        return Err(GateError::Locked { name: name.to_owned(), value, locked: gate.default });
                    }
                    if let Some((_, what)) = ABSENT.iter().find(|(absent, _)| value && *absent == name) {
                        return Err(GateError::Absent { name: name.to_owned(), what });
                    }
                    gates.0.insert(gate.name, value);
                }
            }
        }
        for (stage, value) in groups {
            let free = GATES.iter().filter(|g| g.stage == stage && !g.locked);
            for gate in free.filter(|g| ABSENT.iter().all(|(absent, _)| *absent != g.name)) {
                gates.0.entry(gate.name).or_insert(value);
            }
        }
        gates.check()?;
        Ok(gates)
    }

    /// Whether every gate that is on has what it needs.
    fn check(&self) -> Result<(), GateError> {
        for (name, needs) in DEPENDS.iter().filter(|(name, _)| self.enabled(name)) {
            let off: Vec<&'static str> = needs.iter().copied().filter(|need| !self.enabled(need)).collect();
            if !off.is_empty() {
                return Err(GateError::Depends { name, needs: off });
            }
        }
        Ok(())
    }

    /// Whether a gate is on; an unknown one is off.
    pub fn enabled(&self, name: &str) -> bool {
        self.0.get(name).copied().or_else(|| find(name).map(|g| g.default)).unwrap_or(false)
    }
}

fn find(name: &str) -> Option<&'static Gate> {
    GATES.binary_search_by_key(&name, |g| g.name).ok().map(|at| &GATES[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_upstream_takes() {
        assert!(GATES.is_sorted_by_key(|g| g.name));
        let locked = GATES.iter().find(|g| g.locked && g.default).map(|g| g.name).unwrap_or("");
        let free = GATES.iter().find(|g| !g.locked && !g.default).map(|g| g.name).unwrap_or("");
        let gates = Gates::parse([format!("{free}=true").as_str()]).expect("a free gate can be set");
        assert!(gates.enabled(free) && gates.enabled(locked));
        assert!(matches!(Gates::parse([format!("{locked}=false").as_str()]), Err(GateError::Locked { .. })));
        assert!(matches!(Gates::parse(["Nope=true"]), Err(GateError::Unknown(_))));
        assert!(matches!(Gates::parse(["Nope"]), Err(GateError::NoValue(_))));
        assert!(matches!(Gates::parse(["CBORServingAndStorage=true"]), Err(GateError::Absent { .. })));
        let alone = Gates::parse(["GangScheduling=true", "GenericWorkload=false"]);
        assert!(matches!(alone, Err(GateError::Depends { .. })), "{alone:?}");
        assert!(Gates::default().check().is_ok(), "the defaults fit each other");
        assert!(Gates::parse(["AllAlpha=true", "AllBeta=true"]).is_ok());
    }
}
