//! Environments and programs.

use crate::ast::Expr;
use crate::check::check;
use crate::error::{Error, Issues};
use crate::eval::{Activation, Meter, run};
use crate::parser::parse;
use crate::types::Type;
use crate::value::Value;

/// The variables that expressions may name.
#[derive(Debug, Clone, Default)]
pub struct Env {
    pub(crate) vars: Vec<(String, Type)>,
    pub(crate) mutations: bool,
    pub(crate) bindings: bool,
}

impl Env {
    /// An environment without variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more variable; its place is how many there were before. A known name gets a new type.
    #[must_use]
    pub fn with(mut self, name: &str, ty: Type) -> Self {
        match self.slot(name) {
            Some(slot) => self.vars[slot].1 = ty,
            None => self.vars.push((name.to_owned(), ty)),
        }
        self
    }

    /// With the constructors `Object{}` and `JSONPatch{}`.
    #[must_use]
    pub fn with_mutations(mut self) -> Self {
        self.mutations = true;
        self
    }

    /// With `cel.bind(name, value, expression)`, which upstream has in selectors of devices only.
    #[must_use]
    pub fn with_bindings(mut self) -> Self {
        self.bindings = true;
        self
    }

    /// The place of a variable.
    pub fn slot(&self, name: &str) -> Option<usize> {
        self.vars.iter().position(|(var, _)| var == name)
    }

    /// Parses and checks an expression.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(&self, source: &str) -> Result<Program, Issues> {
        let mut expr = parse(source)?;
        let issues = check(self, &mut expr);
        if issues.is_empty() { Ok(Program { expr }) } else { Err(Issues::new(issues, source)) }
    }
}

/// A checked expression.
#[derive(Debug, Clone)]
pub struct Program {
    pub(crate) expr: Expr,
}

impl Program {
    /// The type of its value.
    pub fn output(&self) -> &Type {
        &self.expr.ty
    }

    /// Whether it names a variable of its environment.
    pub fn uses(&self, slot: usize) -> bool {
        self.expr.uses(slot)
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// An error of the language, or the meter's end, or an open question to the authorizer.
    pub fn eval<'a>(&'a self, activation: &dyn Activation<'a>, meter: &mut Meter) -> Result<Value<'a>, Error> {
        run(&self.expr, activation, meter)
    }
}
