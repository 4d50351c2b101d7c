//! The type checker. It also resolves names, so that the evaluator looks up none.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ast::{Call, Const, Expr, Fold, FoldKind, Kind, Op, Slot};
use crate::env::Env;
use crate::error::Issue;
use crate::functions::{self, Overload};
use crate::time::{Span, Stamp};
use crate::types::{Bindings, Field, ObjectType, Type, TypeKind, instantiate};

/// Names of types that are values.
const TYPE_NAMES: &[&str] = &[
    "int",
    "uint",
    "double",
    "bool",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "dyn",
    "optional_type",
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "kubernetes.URL",
    "kubernetes.Quantity",
    "kubernetes.Semver",
    "kubernetes.NamedFormat",
    "net.IP",
    "net.CIDR",
];

#[rustfmt::skip]
const OPERATORS: &[(&str, &[&str])] = &[
    ("_&&_", &["@(bool,bool):bool"]),
    ("_||_", &["@(bool,bool):bool"]),
    ("!_", &["@(bool):bool"]),
    ("-_", &["@(int):int", "@(double):double", "@(duration):duration"]),
    ("_+_", &["@(int,int):int", "@(uint,uint):uint", "@(double,double):double", "@(string,string):string", "@(bytes,bytes):bytes", "@(list(A),list(A)):list(A)", "@(duration,duration):duration", "@(timestamp,duration):timestamp", "@(duration,timestamp):timestamp"]),
    ("_-_", &["@(int,int):int", "@(uint,uint):uint", "@(double,double):double", "@(duration,duration):duration", "@(timestamp,duration):timestamp", "@(timestamp,timestamp):duration"]),
    ("_*_", &["@(int,int):int", "@(uint,uint):uint", "@(double,double):double"]),
    ("_/_", &["@(int,int):int", "@(uint,uint):uint", "@(double,double):double"]),
    ("_%_", &["@(int,int):int", "@(uint,uint):uint"]),
    ("_==_", &["@(A,A):bool"]),
    ("_!=_", &["@(A,A):bool"]),
    ("<", &["@(bool,bool):bool", "@(int,int):bool", "@(int,uint):bool", "@(int,double):bool", "@(uint,uint):bool", "@(uint,int):bool", "@(uint,double):bool", "@(double,double):bool", "@(double,int):bool", "@(double,uint):bool", "@(string,string):bool", "@(bytes,bytes):bool", "@(timestamp,timestamp):bool", "@(duration,duration):bool"]),
    ("@in", &["@(A,list(A)):bool", "@(A,map(A,B)):bool"]),
    ("_[_]", &["@(list(A),int):A", "@(map(A,B),A):B", "@(optional(list(A)),int):optional(A)", "@(optional(map(A,B)),A):optional(B)"]),
    ("_[?_]", &["@(list(A),int):optional(A)", "@(map(A,B),A):optional(B)", "@(optional(list(A)),int):optional(A)", "@(optional(map(A,B)),A):optional(B)"]),
    ("_?_:_", &["@(bool,A,A):A"]),
];

static OVERLOADS: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let parsed =
        |(name, list): &(&'static str, &[&str])| (*name, list.iter().map(|t| functions::overload(t)).collect());
    OPERATORS.iter().map(parsed).collect()
});

pub(crate) struct Checker<'e> {
    env: &'e Env,
    bindings: Bindings,
    locals: Vec<(String, Type)>,
    pub(crate) issues: Vec<Issue>,
}

/// Checks a tree in place; what is wrong with it.
pub(crate) fn check(env: &Env, expr: &mut Expr) -> Vec<Issue> {
    let mut checker = Checker { env, bindings: Bindings::default(), locals: Vec::new(), issues: Vec::new() };
    checker.check(expr);
    settle(&checker.bindings, expr);
    checker.issues
}

fn settle(bindings: &Bindings, expr: &mut Expr) {
    expr.ty = bindings.settle(&expr.ty);
    each_child_mut(expr, &mut |child| settle(bindings, child));
}

fn each_child_mut(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    match &mut expr.kind {
        Kind::Const(_) | Kind::Ident { .. } => {}
        Kind::Select { operand, .. } => f(operand),
        Kind::Index { operand, index, .. } => {
            f(operand);
            f(index);
        }
        Kind::Op { args, .. } | Kind::Call(Call { args, .. }) => args.iter_mut().for_each(f),
        Kind::If(parts) => parts.iter_mut().for_each(f),
        Kind::List(items) => items.iter_mut().for_each(|(item, _)| f(item)),
        Kind::Map(entries) => {
            for (key, value, _) in entries {
                f(key);
                f(value);
            }
        }
        Kind::Struct { fields, .. } => fields.iter_mut().for_each(|(_, value, _)| f(value)),
        Kind::Fold(fold) => {
            f(&mut fold.range);
            fold.filter.iter_mut().for_each(&mut *f);
            f(&mut fold.body);
        }
    }
}

impl Checker<'_> {
    fn issue(&mut self, at: u32, message: impl Into<String>) -> Type {
        self.issues.push(Issue::new(at, message));
        Type::DYN
    }

    fn check(&mut self, expr: &mut Expr) -> Type {
        let at = expr.at;
        self.resolve_dotted(expr);
        let ty = match &mut expr.kind {
            Kind::Const(literal) => constant(literal),
            Kind::Ident { name, slot } => self.ident(at, name, slot),
            Kind::Select { operand, field, test, optional } => {
                let inner = self.check(operand);
                let found = self.select(at, &inner, field, *optional);
                if *test { Type::BOOL } else { found }
            }
            Kind::Index { operand, index, optional } => {
                let args = [self.check(operand), self.check(index)];
                self.operator(at, if *optional { "_[?_]" } else { "_[_]" }, &args)
            }
            Kind::Op { op, args } => self.op(at, *op, args),
            Kind::If(parts) => {
                let args: Vec<Type> = parts.iter_mut().map(|part| self.check(part)).collect();
                self.operator(at, "_?_:_", &args)
            }
            Kind::Call(call) => self.call(at, call),
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { name, fields } => self.structure(at, name, fields),
            Kind::Fold(fold) => self.fold(at, fold),
        };
        expr.ty = ty.clone();
        ty
    }

    fn is_variable(&self, name: &str) -> bool {
        self.locals.iter().any(|(local, _)| local == name) || self.env.slot(name).is_some()
    }

    /// Names with dots: of types, and of functions in a namespace.
    fn resolve_dotted(&self, expr: &mut Expr) {
        match &mut expr.kind {
            Kind::Select { .. } => {
                let Some(name) = expr.dotted() else { return };
                let head = name.split('.').next().unwrap_or("");
                let local = self.locals.iter().any(|(local, _)| local == head);
                if !local && self.env.slot(&name).is_some() {
                    expr.kind = Kind::Ident { name, slot: Slot::Unknown };
                    return;
                }
                if TYPE_NAMES.contains(&name.as_str()) && !self.is_variable(head) {
                    expr.kind = Kind::Ident { name, slot: Slot::TypeName };
                }
            }
            Kind::Call(call) if call.member => {
                let Some(prefix) = call.args.first().and_then(Expr::dotted) else { return };
                let head = prefix.split('.').next().unwrap_or("");
                let full = format!("{prefix}.{}", call.name);
                if !self.is_variable(head) && functions::find(&full).is_some() {
                    call.args.remove(0);
                    call.member = false;
                    call.name = full;
                }
            }
            _ => {}
        }
    }

    fn ident(&mut self, at: u32, name: &str, slot: &mut Slot) -> Type {
        if let Some(index) = self.locals.iter().rposition(|(local, _)| local == name) {
            *slot = Slot::Local(index);
            return self.locals[index].1.clone();
        }
        if let Some(index) = self.env.slot(name) {
            *slot = Slot::Global(index);
            return self.env.vars[index].1.clone();
        }
        if TYPE_NAMES.contains(&name) {
            *slot = Slot::TypeName;
            return Type::TYPE;
        }
        self.issue(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn select(&mut self, at: u32, inner: &Type, field: &str, optional: bool) -> Type {
        let inner = self.bindings.resolve(inner);
        let (inner, wrapped) = match &inner.kind {
            TypeKind::Optional(value) => (self.bindings.resolve(value), true),
            _ => (inner, optional),
        };
        let found = match &inner.kind {
            TypeKind::Dyn | TypeKind::Var(_) => Type::DYN,
            TypeKind::Map(parts) => parts.1.clone(),
            TypeKind::Object(object) => match object.fields.get(field) {
                Some(field) => field.ty.clone(),
                None if object.open => Type::DYN,
                None => self.issue(at, format!("undefined field '{field}'")),
            },
            _ => self.issue(at, format!("type '{inner}' does not support field selection")),
        };
        if wrapped { Type::optional(found) } else { found }
    }

    /// The result of the overloads that fit; `None` when none does.
    fn resolve(&mut self, overloads: &[Overload], member: bool, args: &[Type]) -> Option<Type> {
        let mut result: Option<Type> = None;
        let mut first: Option<Bindings> = None;
        let mut several = false;
        for overload in overloads {
            if overload.member != member || overload.args.len() != args.len() {
                continue;
            }
            let mut bindings = self.bindings.clone();
            let vars: Vec<Type> = (0..overload.params).map(|_| bindings.fresh()).collect();
            let fits =
                overload.args.iter().zip(args).all(|(want, got)| bindings.assign(&instantiate(want, &vars), got));
            if !fits {
                continue;
            }
            let found = bindings.resolve(&instantiate(&overload.result, &vars));
            match &result {
                None => {
                    result = Some(found);
                    first = Some(bindings);
                }
                Some(known) => {
                    several = true;
                    if known.to_string() != found.to_string() {
                        result = Some(Type::DYN);
                    }
                }
            }
        }
        // What several overloads could mean binds nothing.
        if let Some(bindings) = first {
            let keep = !several || !matches!(result, Some(Type { kind: TypeKind::Dyn, .. }));
            if keep {
                self.bindings = bindings;
            }
        }
        result
    }

    fn no_overload(&mut self, at: u32, name: &str, member: bool, args: &[Type]) -> Type {
        let shown: Vec<String> = args.iter().map(|ty| self.bindings.settle(ty).to_string()).collect();
        let applied = match shown.split_first() {
            Some((receiver, rest)) if member => format!("{receiver}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        self.issue(at, format!("found no matching overload for '{name}' applied to '{applied}'"))
    }

    fn operator(&mut self, at: u32, name: &str, args: &[Type]) -> Type {
        let key = if matches!(name, "_<_" | "_<=_" | "_>_" | "_>=_") { "<" } else { name };
        let overloads = OVERLOADS.get(key).map_or(&[][..], Vec::as_slice);
        match self.resolve(overloads, false, args) {
            Some(ty) => ty,
            None => self.no_overload(at, name, false, args),
        }
    }

    fn op(&mut self, at: u32, op: Op, args: &mut [Expr]) -> Type {
        let types: Vec<Type> = args.iter_mut().map(|arg| self.check(arg)).collect();
        if !matches!(op, Op::And | Op::Or) {
            return self.operator(at, op.name(), &types);
        }
        let mut left = Type::BOOL;
        for (index, ty) in types.into_iter().enumerate() {
            if index > 0 {
                left = self.operator(at, op.name(), &[left, ty]);
            } else {
                left = ty;
            }
        }
        Type::BOOL
    }

    fn call(&mut self, at: u32, call: &mut Call) -> Type {
        let mixed = call.member && call.name == "format";
        let check = |arg: &mut Expr| if mixed { self.check_mixed(arg) } else { self.check(arg) };
        let types: Vec<Type> = call.args.iter_mut().map(check).collect();
        let Some(function) = functions::find(&call.name) else {
            return self.issue(at, format!("undeclared reference to '{}' (in container '')", call.name));
        };
        call.function = Some(function);
        self.literals(call);
        match self.resolve(&function.overloads, call.member, &types) {
            Some(ty) => ty,
            None => self.no_overload(at, &call.name, call.member, &types),
        }
    }

    /// Literals that only one function reads are checked here, not on first use.
    fn literals(&mut self, call: &Call) {
        let place = usize::from(call.name == "matches");
        let Some(Expr { kind: Kind::Const(Const::Str(text)), at, .. }) = call.args.get(place) else { return };
        let fits = match call.name.as_str() {
            "duration" => Span::parse(text).is_ok(),
            "timestamp" => Stamp::parse(text).is_ok(),
            "matches" => crate::lib_regex::pattern(text).is_ok(),
            _ => true,
        };
        if !fits {
            self.issue(*at, format!("invalid {} argument", call.name));
        }
    }

    /// The arguments of a format are a list of anything.
    fn check_mixed(&mut self, expr: &mut Expr) -> Type {
        let Kind::List(items) = &mut expr.kind else { return self.check(expr) };
        for (item, _) in items {
            self.check(item);
        }
        expr.ty = Type::list(Type::DYN);
        expr.ty.clone()
    }

    /// Elements of a literal have one type.
    fn join(&mut self, joined: &Type, at: u32, found: &Type) {
        if !self.bindings.assign(joined, found) {
            let (want, got) = (self.bindings.settle(joined), self.bindings.settle(found));
            self.issue(at, format!("expected type '{want}' but found '{got}'"));
        }
    }

    /// The type inside of an optional entry of a literal.
    fn unwrap_optional(&mut self, at: u32, ty: Type, optional: bool) -> Type {
        if !optional {
            return ty;
        }
        let inner = self.bindings.fresh();
        if !self.bindings.assign(&Type::optional(inner.clone()), &ty) {
            let got = self.bindings.settle(&ty);
            return self.issue(at, format!("expected type 'optional_type' but found '{got}'"));
        }
        inner
    }

    fn list(&mut self, items: &mut [(Expr, bool)]) -> Type {
        let element = self.bindings.fresh();
        for (item, optional) in items {
            let ty = self.check(item);
            let ty = self.unwrap_optional(item.at, ty, *optional);
            self.join(&element, item.at, &ty);
        }
        Type::list(element)
    }

    fn map(&mut self, entries: &mut [(Expr, Expr, bool)]) -> Type {
        let (key_type, value_type) = (self.bindings.fresh(), self.bindings.fresh());
        for (key, value, optional) in entries {
            let found = self.check(key);
            self.join(&key_type, key.at, &found);
            let found = self.check(value);
            let found = self.unwrap_optional(value.at, found, *optional);
            self.join(&value_type, value.at, &found);
        }
        Type::map(key_type, value_type)
    }

    fn structure(&mut self, at: u32, name: &str, fields: &mut [(String, Expr, bool)]) -> Type {
        let patch = name == "JSONPatch";
        if !self.env.mutations || !(patch || name == "Object" || name.starts_with("Object.")) {
            return self.issue(at, format!("undeclared reference to '{name}' (in container '')"));
        }
        for (field, value, optional) in fields {
            let ty = self.check(value);
            let ty = self.unwrap_optional(value.at, ty, *optional);
            match (patch, field.as_str()) {
                (true, "op" | "path" | "from") => self.join(&Type::STR, value.at, &ty),
                (true, "value") | (false, _) => {}
                (true, _) => {
                    self.issue(at, format!("undefined field '{field}'"));
                }
            }
        }
        let field = |name: &str, ty: Type| (name.to_owned(), Field { json: name.to_owned(), ty });
        let known =
            [field("op", Type::STR), field("path", Type::STR), field("from", Type::STR), field("value", Type::DYN)];
        let fields = if patch { known.into_iter().collect() } else { Default::default() };
        Type::object(ObjectType { name: name.into(), fields, open: !patch })
    }

    fn fold(&mut self, at: u32, fold: &mut Fold) -> Type {
        let range = self.check(&mut fold.range);
        let range = self.bindings.resolve(&range);
        let on_optional = matches!(fold.kind, FoldKind::OptMap | FoldKind::OptFlatMap);
        if fold.kind == FoldKind::Bind && !self.env.bindings {
            self.issue(at, "undeclared reference to 'cel'".to_owned());
        }
        let (first, second) = match (&range.kind, on_optional) {
            _ if fold.kind == FoldKind::Bind => (range.clone(), Type::DYN),
            (TypeKind::Optional(value), true) => ((**value).clone(), Type::DYN),
            (TypeKind::List(element), false) if fold.var2.is_some() => (Type::INT, (**element).clone()),
            (TypeKind::List(element), false) => ((**element).clone(), Type::DYN),
            (TypeKind::Map(parts), false) => (parts.0.clone(), parts.1.clone()),
            (TypeKind::Dyn | TypeKind::Var(_), _) => (Type::DYN, Type::DYN),
            _ => {
                let message = if on_optional {
                    format!("found no matching overload for 'optMap' applied to '{range}.(dyn, dyn)'")
                } else {
                    format!(
                        "expression of type '{range}' cannot be range of a comprehension (must be list, map, or dynamic)"
                    )
                };
                self.issue(fold.range.at, message);
                (Type::DYN, Type::DYN)
            }
        };
        let depth = self.locals.len();
        self.locals.push((fold.var.clone(), first.clone()));
        if let Some(var2) = &fold.var2 {
            self.locals.push((var2.clone(), second));
        }
        if let Some(filter) = &mut fold.filter {
            let ty = self.check(filter);
            self.join(&Type::BOOL, filter.at, &ty);
        }
        let body = self.check(&mut fold.body);
        self.locals.truncate(depth);
        self.fold_result(at, fold, &range, first, body)
    }

    fn fold_result(&mut self, at: u32, fold: &Fold, range: &Type, element: Type, body: Type) -> Type {
        match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne | FoldKind::Filter => {
                if !self.bindings.assign(&Type::BOOL, &body) {
                    let (name, applied) = match fold.kind {
                        FoldKind::All => ("_&&_", format!("(bool, {body})")),
                        FoldKind::Exists => ("_||_", format!("(bool, {body})")),
                        _ => ("_?_:_", format!("({body}, dyn, dyn)")),
                    };
                    self.issue(at, format!("found no matching overload for '{name}' applied to '{applied}'"));
                }
                if fold.kind == FoldKind::Filter { Type::list(element).at_most(range.max) } else { Type::BOOL }
            }
            FoldKind::Map => Type::list(body).at_most(range.max),
            FoldKind::SortBy => Type::list(element).at_most(range.max),
            FoldKind::TransformMap => {
                let key = if matches!(range.kind, TypeKind::List(_)) { Type::INT } else { element };
                Type::map(key, body).at_most(range.max)
            }
            FoldKind::TransformMapEntry => body,
            FoldKind::OptMap => Type::optional(body),
            FoldKind::OptFlatMap | FoldKind::Bind => body,
        }
    }
}

fn constant(literal: &Const) -> Type {
    match literal {
        Const::Null => Type::NULL,
        Const::Bool(_) => Type::BOOL,
        Const::Int(_) => Type::INT,
        Const::Uint(_) => Type::UINT,
        Const::Double(_) => Type::DOUBLE,
        Const::Str(_) => Type::STR,
        Const::Bytes(_) => Type::BYTES,
    }
}
