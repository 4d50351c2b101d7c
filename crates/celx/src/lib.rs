//! CEL with the Kubernetes libraries.
//!
//! [`Env`] declares variables and [compiles](Env::compile) an expression: parser, then type checker. A [`Program`] is
//! evaluated over JSON trees without copying them; a [`Meter`] counts costs as upstream counts them and stops an
//! evaluation that exceeds its limit. [`schema`] makes types of OpenAPI schemas, [`estimate`] says what an expression
//! may cost at most.
//!
//! Pure: no clock, no IO. Questions to the authorizer end an evaluation with [`Error::Pending`], see [`authz`].

pub mod admission;
pub mod ast;
pub mod authz;
mod check;
mod compare;
mod convert;
pub mod crd;
mod env;
mod error;
pub mod estimate;
mod eval;
pub mod functions;
mod lexer;
mod lib_format;
mod lib_lists;
mod lib_net;
mod lib_optional;
mod lib_quantity;
mod lib_regex;
mod lib_semver;
mod lib_sets;
mod lib_strings;
mod lib_url;
mod macros;
mod ops;
mod parser;
pub mod schema;
mod strings_format;
pub mod time;
pub mod types;
mod value;

pub use compare::equal;
pub use env::{Env, Program};
pub use error::{Error, Issue, Issues};
pub use eval::{Activation, Meter};
pub use lib_regex::from_re2;
pub use types::Type;
pub use value::{Key, List, Map, Shape, Text, Value, from_json};

/// What one evaluation may cost, upstream's number.
pub const CALL_LIMIT: u64 = 1_000_000;
/// What all expressions of one policy, or all rules on one object, may cost together, upstream's number.
pub const TOTAL_LIMIT: u64 = 10_000_000;

#[cfg(test)]
mod tests;
