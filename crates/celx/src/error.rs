//! What can be wrong with an expression, and with its evaluation.

use std::fmt;

/// One finding about a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Place in the source, in characters.
    pub at: u32,
    /// What is wrong.
    pub message: String,
}

impl Issue {
    pub(crate) fn new(at: u32, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

/// All findings about a source, shown as upstream shows them: with the line and a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issues {
    /// The findings, in order of place.
    pub list: Vec<Issue>,
    source: String,
}

impl Issues {
    pub(crate) fn new(mut list: Vec<Issue>, source: &str) -> Self {
        list.sort_by_key(|issue| issue.at);
        Self { list, source: source.to_owned() }
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, issue) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let before: Vec<char> = self.source.chars().take(issue.at as usize).collect();
            let line = before.iter().filter(|c| **c == '\n').count();
            let column = before.iter().rev().take_while(|c| **c != '\n').count();
            write!(f, "ERROR: <input>:{}:{}: {}", line + 1, column + 1, issue.message)?;
            if let Some(text) = self.source.split('\n').nth(line) {
                write!(f, "\n | {text}\n | {}^", ".".repeat(column))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Issues {}

/// Why an evaluation has no value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// An error as the language knows it: `||`, `&&` and folds may absorb it.
    #[error("{0}")]
    Eval(String),
    /// The evaluation was stopped: it cost too much.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
    /// An answer of the authorizer is needed first; ask it and evaluate again.
    #[error("authorization is not decided yet")]
    Pending(Box<crate::authz::Question>),
}

impl Error {
    /// An error of the language.
    pub fn eval(message: impl Into<String>) -> Self {
        Error::Eval(message.into())
    }

    pub(crate) fn no_such_key(key: impl fmt::Display) -> Self {
        Error::Eval(format!("no such key: {key}"))
    }

    pub(crate) fn no_overload() -> Self {
        Error::Eval("no such overload".into())
    }

    /// Whether logic operators may absorb it.
    pub fn is_absorbable(&self) -> bool {
        matches!(self, Error::Eval(_))
    }
}
