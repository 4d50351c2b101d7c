//! Types as the checker sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A type, with the largest size that a schema allows for values of it.
#[derive(Debug, Clone)]
pub struct Type {
    /// What kind of type.
    pub kind: TypeKind,
    /// Longest string, most elements; `None` when not known.
    pub max: Option<u64>,
}

/// Kinds of types.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum TypeKind {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Str,
    Bytes,
    Duration,
    Timestamp,
    /// The type of types.
    Type,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    Optional(Arc<Type>),
    /// A type of a library, by its full name.
    Opaque(&'static str),
    Object(Arc<ObjectType>),
    /// A type parameter of a signature.
    Param(u8),
    /// A type not known yet, while checking.
    Var(usize),
}

/// A type with fields.
#[derive(Debug, Clone, Default)]
pub struct ObjectType {
    /// Name in messages.
    pub name: String,
    /// By the name in expressions.
    pub fields: BTreeMap<String, Field>,
    /// Whether any other field may be named, with an unknown type (the constructors of mutations).
    pub open: bool,
}

/// A field of an object.
#[derive(Debug, Clone)]
pub struct Field {
    /// Name in JSON, which is not always a name in CEL.
    pub json: String,
    /// Its type.
    pub ty: Type,
}

/// Any value.
pub static DYN: Type = Type::DYN;

macro_rules! simple {
    ($($(#[$doc:meta])* $name:ident = $kind:ident;)*) => {
        $($(#[$doc])* pub const $name: Type = Type { kind: TypeKind::$kind, max: None };)*
    };
}

#[allow(missing_docs)]
impl Type {
    simple! {
        DYN = Dyn;
        NULL = Null;
        BOOL = Bool;
        INT = Int;
        UINT = Uint;
        DOUBLE = Double;
        STR = Str;
        BYTES = Bytes;
        DURATION = Duration;
        TIMESTAMP = Timestamp;
        TYPE = Type;
    }

    pub fn of(kind: TypeKind) -> Self {
        Self { kind, max: None }
    }

    pub fn list(element: Type) -> Self {
        Self::of(TypeKind::List(Arc::new(element)))
    }

    pub fn map(key: Type, value: Type) -> Self {
        Self::of(TypeKind::Map(Arc::new((key, value))))
    }

    pub fn optional(value: Type) -> Self {
        Self::of(TypeKind::Optional(Arc::new(value)))
    }

    pub fn object(object: ObjectType) -> Self {
        Self::of(TypeKind::Object(Arc::new(object)))
    }

    /// An object with a name and typed fields.
    pub fn record(name: &str, fields: &[(&str, Type)]) -> Self {
        let field =
            |(name, ty): &(&str, Type)| ((*name).to_owned(), Field { json: (*name).to_owned(), ty: ty.clone() });
        Self::object(ObjectType { name: name.into(), fields: fields.iter().map(field).collect(), open: false })
    }

    /// The same with a largest size.
    pub fn at_most(mut self, max: Option<u64>) -> Self {
        self.max = max;
        self
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self.kind, TypeKind::Dyn)
    }

    /// The type of elements when iterated with one variable: elements of lists, keys of maps.
    pub fn element(&self) -> Option<Type> {
        match &self.kind {
            TypeKind::List(element) => Some((**element).clone()),
            TypeKind::Map(parts) => Some(parts.0.clone()),
            TypeKind::Dyn => Some(Type::DYN),
            TypeKind::Optional(value) => Some((**value).clone()),
            _ => None,
        }
    }

    fn null_fits(&self) -> bool {
        use TypeKind::{Duration, Null, Object, Opaque, Optional, Timestamp};
        matches!(self.kind, Null | Object(_) | Opaque(_) | Duration | Timestamp | Optional(_))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            TypeKind::Dyn | TypeKind::Var(_) => f.write_str("dyn"),
            TypeKind::Null => f.write_str("null"),
            TypeKind::Bool => f.write_str("bool"),
            TypeKind::Int => f.write_str("int"),
            TypeKind::Uint => f.write_str("uint"),
            TypeKind::Double => f.write_str("double"),
            TypeKind::Str => f.write_str("string"),
            TypeKind::Bytes => f.write_str("bytes"),
            TypeKind::Duration => f.write_str("google.protobuf.Duration"),
            TypeKind::Timestamp => f.write_str("google.protobuf.Timestamp"),
            TypeKind::Type => f.write_str("type"),
            TypeKind::List(element) => write!(f, "list({element})"),
            TypeKind::Map(parts) => write!(f, "map({}, {})", parts.0, parts.1),
            TypeKind::Optional(value) => write!(f, "optional_type({value})"),
            TypeKind::Opaque(name) => f.write_str(name),
            TypeKind::Object(object) => f.write_str(&object.name),
            TypeKind::Param(index) => write!(f, "{}", char::from(b'A' + index % 26)),
        }
    }
}

/// What is known about type variables.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bindings(Vec<Option<Type>>);

impl Bindings {
    pub(crate) fn fresh(&mut self) -> Type {
        self.0.push(None);
        Type::of(TypeKind::Var(self.0.len() - 1))
    }

    /// Replaces variables by what is known of them.
    pub(crate) fn resolve(&self, ty: &Type) -> Type {
        let kind = match &ty.kind {
            TypeKind::Var(var) => match self.0.get(*var).and_then(Option::as_ref) {
                Some(bound) => return self.resolve(bound),
                None => return ty.clone(),
            },
            TypeKind::List(element) => TypeKind::List(Arc::new(self.resolve(element))),
            TypeKind::Map(parts) => TypeKind::Map(Arc::new((self.resolve(&parts.0), self.resolve(&parts.1)))),
            TypeKind::Optional(value) => TypeKind::Optional(Arc::new(self.resolve(value))),
            _ => return ty.clone(),
        };
        Type { kind, max: ty.max }
    }

    /// Variables that nobody bound may be anything.
    pub(crate) fn settle(&self, ty: &Type) -> Type {
        let ty = self.resolve(ty);
        let kind = match &ty.kind {
            TypeKind::Var(_) => TypeKind::Dyn,
            TypeKind::List(element) => TypeKind::List(Arc::new(self.settle(element))),
            TypeKind::Map(parts) => TypeKind::Map(Arc::new((self.settle(&parts.0), self.settle(&parts.1)))),
            TypeKind::Optional(value) => TypeKind::Optional(Arc::new(self.settle(value))),
            other => other.clone(),
        };
        Type { kind, max: ty.max }
    }

    fn occurs(&self, var: usize, ty: &Type) -> bool {
        match &self.resolve(ty).kind {
            TypeKind::Var(other) => *other == var,
            TypeKind::List(inner) | TypeKind::Optional(inner) => self.occurs(var, inner),
            TypeKind::Map(parts) => self.occurs(var, &parts.0) || self.occurs(var, &parts.1),
            _ => false,
        }
    }

    /// Whether a value of type `from` may stand where `to` is wanted; binds variables on the way.
    pub(crate) fn assign(&mut self, to: &Type, from: &Type) -> bool {
        let (to, from) = (self.resolve(to), self.resolve(from));
        match (&to.kind, &from.kind) {
            (TypeKind::Var(a), TypeKind::Var(b)) if a == b => true,
            (TypeKind::Var(var), _) => {
                let fits = !self.occurs(*var, &from);
                if fits {
                    self.0[*var] = Some(from.clone());
                }
                fits
            }
            (_, TypeKind::Var(var)) => {
                let fits = !self.occurs(*var, &to);
                if fits {
                    self.0[*var] = Some(to.clone());
                }
                fits
            }
            (TypeKind::Dyn, _) | (_, TypeKind::Dyn) => true,
            (TypeKind::List(a), TypeKind::List(b)) | (TypeKind::Optional(a), TypeKind::Optional(b)) => {
                self.assign(a, b)
            }
            (TypeKind::Map(a), TypeKind::Map(b)) => self.assign(&a.0, &b.0) && self.assign(&a.1, &b.1),
            (TypeKind::Opaque(a), TypeKind::Opaque(b)) => a == b,
            (TypeKind::Object(a), TypeKind::Object(b)) => a.name == b.name,
            (TypeKind::Null, _) => from.null_fits(),
            (_, TypeKind::Null) => to.null_fits(),
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

/// Replaces the parameters of a signature by fresh variables.
pub(crate) fn instantiate(ty: &Type, vars: &[Type]) -> Type {
    let kind = match &ty.kind {
        TypeKind::Param(index) => return vars.get(usize::from(*index)).cloned().unwrap_or(Type::DYN),
        TypeKind::List(element) => TypeKind::List(Arc::new(instantiate(element, vars))),
        TypeKind::Map(parts) => TypeKind::Map(Arc::new((instantiate(&parts.0, vars), instantiate(&parts.1, vars)))),
        TypeKind::Optional(value) => TypeKind::Optional(Arc::new(instantiate(value, vars))),
        other => other.clone(),
    };
    Type { kind, max: ty.max }
}

/// Reads a type as signatures write it.
pub(crate) fn read(text: &str) -> Type {
    let text = text.trim();
    if let Some((head, rest)) = text.split_once('(') {
        let inner = rest.strip_suffix(')').unwrap_or(rest);
        return match head {
            "list" => Type::list(read(inner)),
            "optional" => Type::optional(read(inner)),
            _ => {
                let (key, value) = inner.split_once(',').unwrap_or((inner, "dyn"));
                Type::map(read(key), read(value))
            }
        };
    }
    match text {
        "null" => Type::NULL,
        "bool" => Type::BOOL,
        "int" => Type::INT,
        "uint" => Type::UINT,
        "double" => Type::DOUBLE,
        "string" => Type::STR,
        "bytes" => Type::BYTES,
        "duration" => Type::DURATION,
        "timestamp" => Type::TIMESTAMP,
        "type" => Type::TYPE,
        "A" => Type::of(TypeKind::Param(0)),
        "B" => Type::of(TypeKind::Param(1)),
        _ => OPAQUE
            .iter()
            .find(|(short, _)| *short == text)
            .map_or(Type::DYN, |(_, full)| Type::of(TypeKind::Opaque(full))),
    }
}

/// Types of the libraries: their names in signatures, and their full names.
const OPAQUE: &[(&str, &str)] = &[
    ("url", "kubernetes.URL"),
    ("quantity", "kubernetes.Quantity"),
    ("ip", "net.IP"),
    ("cidr", "net.CIDR"),
    ("semver", "kubernetes.Semver"),
    ("format", "kubernetes.NamedFormat"),
    ("authorizer", "kubernetes.authorization.Authorizer"),
    ("pathCheck", "kubernetes.authorization.PathCheck"),
    ("groupCheck", "kubernetes.authorization.GroupCheck"),
    ("resourceCheck", "kubernetes.authorization.ResourceCheck"),
    ("decision", "kubernetes.authorization.Decision"),
];

impl Type {
    /// A library's type by its name in signatures, such as `authorizer`.
    pub fn named(short: &str) -> Self {
        read(short)
    }
}
