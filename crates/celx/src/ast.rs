//! The syntax tree.
//!
//! Macros stay what they are: `all`, `map` and the others are [`Fold`]s, not loops over accumulators. That keeps the
//! checker's messages about what the author wrote, lets lists be built in place, and still gives upstream's costs.

use crate::functions::Function;
use crate::types::Type;

/// An expression with its place in the source and, after checking, its type.
#[derive(Debug, Clone)]
pub struct Expr {
    /// Place in the source, in characters.
    pub at: u32,
    /// What it is.
    pub kind: Kind,
    /// Its type; `dyn` before checking.
    pub ty: Type,
}

/// A literal.
#[derive(Debug, Clone, PartialEq)]
pub enum Const {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// `1`
    Int(i64),
    /// `1u`
    Uint(u64),
    /// `1.0`
    Double(f64),
    /// `"a"`
    Str(String),
    /// `b"a"`
    Bytes(Vec<u8>),
}

/// Where a name's value is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Not resolved yet.
    Unknown,
    /// A variable of the environment.
    Global(usize),
    /// A variable of a fold, counted from the outermost.
    Local(usize),
    /// The name of a type.
    TypeName,
}

/// Operators that are calls in CEL's specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    And,
    Or,
    Not,
    Neg,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
}

impl Op {
    /// The operator's name in CEL, as messages have it.
    pub fn name(self) -> &'static str {
        match self {
            Op::And => "_&&_",
            Op::Or => "_||_",
            Op::Not => "!_",
            Op::Neg => "-_",
            Op::Add => "_+_",
            Op::Sub => "_-_",
            Op::Mul => "_*_",
            Op::Div => "_/_",
            Op::Rem => "_%_",
            Op::Eq => "_==_",
            Op::Ne => "_!=_",
            Op::Lt => "_<_",
            Op::Le => "_<=_",
            Op::Gt => "_>_",
            Op::Ge => "_>=_",
            Op::In => "@in",
        }
    }
}

/// A call of a function.
#[derive(Debug, Clone)]
pub struct Call {
    /// Name, with dots for functions in a namespace.
    pub name: String,
    /// Whether the first argument is the receiver.
    pub member: bool,
    /// Arguments, the receiver first.
    pub args: Vec<Expr>,
    /// What runs; set by the checker.
    pub function: Option<&'static Function>,
}

/// What a fold does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum FoldKind {
    All,
    Exists,
    ExistsOne,
    /// `map` and `transformList`.
    Map,
    Filter,
    TransformMap,
    TransformMapEntry,
    /// `optMap`, a fold over at most one value.
    OptMap,
    OptFlatMap,
    /// `cel.bind`, a fold over one value.
    Bind,
    /// `sortBy`
    SortBy,
}

/// A macro over a list or map.
#[derive(Debug, Clone)]
pub struct Fold {
    /// What it does.
    pub kind: FoldKind,
    /// Over what.
    pub range: Expr,
    /// The variable for elements or keys.
    pub var: String,
    /// With two variables, the one for values; the first one is then index or key.
    pub var2: Option<String>,
    /// Of `map` and the transformations: which elements.
    pub filter: Option<Expr>,
    /// Predicate or transformation.
    pub body: Expr,
}

/// Kinds of expressions.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Kind {
    Const(Const),
    Ident {
        name: String,
        slot: Slot,
    },
    /// `a.b`, `a.?b`, `has(a.b)`
    Select {
        operand: Box<Expr>,
        field: String,
        test: bool,
        optional: bool,
    },
    /// `a[b]`, `a[?b]`
    Index {
        operand: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    Op {
        op: Op,
        args: Vec<Expr>,
    },
    /// `a ? b : c`
    If(Box<[Expr; 3]>),
    Call(Call),
    /// Elements, each optional or not.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    /// `Name{field: value}`
    Struct {
        name: String,
        fields: Vec<(String, Expr, bool)>,
    },
    Fold(Box<Fold>),
}

impl Expr {
    /// An unchecked expression.
    pub fn new(at: u32, kind: Kind) -> Self {
        Self { at, kind, ty: Type::DYN }
    }

    /// The dotted name that an expression spells, if it is only names.
    pub fn dotted(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident { name, .. } => Some(name.clone()),
            Kind::Select { operand, field, test: false, optional: false } => {
                Some(format!("{}.{field}", operand.dotted()?))
            }
            _ => None,
        }
    }

    /// Calls `f` on every expression directly below this one.
    pub fn each_child<'a>(&'a self, f: &mut dyn FnMut(&'a Expr)) {
        match &self.kind {
            Kind::Const(_) | Kind::Ident { .. } => {}
            Kind::Select { operand, .. } => f(operand),
            Kind::Index { operand, index, .. } => {
                f(operand);
                f(index);
            }
            Kind::Op { args, .. } | Kind::Call(Call { args, .. }) => args.iter().for_each(f),
            Kind::If(parts) => parts.iter().for_each(f),
            Kind::List(items) => items.iter().for_each(|(item, _)| f(item)),
            Kind::Map(entries) => {
                for (key, value, _) in entries {
                    f(key);
                    f(value);
                }
            }
            Kind::Struct { fields, .. } => fields.iter().for_each(|(_, value, _)| f(value)),
            Kind::Fold(fold) => {
                f(&fold.range);
                fold.filter.iter().for_each(&mut *f);
                f(&fold.body);
            }
        }
    }

    /// Whether a variable of the environment is named anywhere in the expression.
    pub fn uses(&self, global: usize) -> bool {
        if let Kind::Ident { slot: Slot::Global(slot), .. } = self.kind {
            return slot == global;
        }
        let mut found = false;
        self.each_child(&mut |child| found = found || child.uses(global));
        found
    }
}
