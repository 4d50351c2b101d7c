//! What apply must know of a type: scalars, lists and maps, and how they merge.

use std::sync::Arc;

use schema::{Card, Elem, Field, ListType, TypeRef};
use serde_json::Value;

/// What a value may be. More than one may be given (an untyped value may be anything); the value then decides.
#[derive(Debug, Clone, Default)]
pub struct Atom {
    /// As a scalar.
    pub scalar: Option<ScalarKind>,
    /// As a list.
    pub list: Option<ListKind>,
    /// As a map or struct.
    pub map: Option<MapKind>,
}

/// Kinds of scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    /// Any number.
    Numeric,
    /// A string.
    String,
    /// A boolean.
    Boolean,
    /// Any scalar.
    Untyped,
}

/// How a list merges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListKind {
    /// As a whole.
    Atomic,
    /// By value.
    Set,
    /// By the key fields of its items.
    Keyed(Vec<String>),
}

/// How a map or struct merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKind {
    /// As a whole.
    Atomic,
    /// By field.
    Granular,
}

/// A custom resource's schema as apply sees it.
pub trait TypeShape: std::fmt::Debug + Send + Sync {
    /// What a value of the type may be.
    fn atom(&self) -> Atom;
    /// A declared field of a struct.
    fn field(&self, name: &str) -> Option<Shape>;
    /// The items of a list, or the undeclared fields of a map; `None` when there can be none.
    fn element(&self) -> Option<Shape>;
    /// The default of a declared field; list keys that are left out take it.
    fn default_of(&self, _field: &str) -> Option<Value> {
        None
    }
}

/// The type of a value.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Unknown: maps merge by field, lists are atomic.
    Deduced,
    /// A scalar.
    Scalar(ScalarKind),
    /// A struct of the table.
    Struct(TypeRef),
    /// A field of the table with its cardinality.
    Field(&'static Field),
    /// One item of such a field.
    Item(&'static Field),
    /// A custom resource's type.
    Custom(Arc<dyn TypeShape>),
}

impl Shape {
    /// What a value may be.
    pub fn atom(&self) -> Atom {
        match self {
            Self::Deduced => untyped(),
            Self::Scalar(kind) => Atom { scalar: Some(*kind), ..Atom::default() },
            Self::Struct(t) => {
                let kind = if t.is_atomic() { MapKind::Atomic } else { MapKind::Granular };
                Atom { map: Some(kind), ..Atom::default() }
            }
            Self::Field(field) => field_atom(field),
            Self::Item(field) => match field.struct_type() {
                Some(t) => Self::Struct(t).atom(),
                None => elem_atom(field.elem()),
            },
            Self::Custom(shape) => shape.atom(),
        }
    }

    /// A declared field.
    pub fn field(&self, name: &str) -> Option<Shape> {
        let t = match self {
            Self::Custom(shape) => return shape.field(name),
            other => other.struct_type()?,
        };
        if t.is_kind() && matches!(name, "apiVersion" | "kind") {
            return Some(Self::Scalar(ScalarKind::String));
        }
        t.field(name).map(Self::Field)
    }

    /// The items of a list, or the undeclared fields of a map.
    pub fn element(&self) -> Option<Shape> {
        match self {
            Self::Deduced => Some(Self::Deduced),
            Self::Custom(shape) => shape.element(),
            Self::Field(field) if field.card() != Card::One => Some(Self::Item(field)),
            Self::Field(field) | Self::Item(field) => match field.elem() {
                Elem::Raw | Elem::Json | Elem::FieldsV1 | Elem::Any => Some(Self::Deduced),
                Elem::StringList => Some(Self::Scalar(ScalarKind::String)),
                Elem::PropsOrArray(_) | Elem::PropsOrBool(_) | Elem::PropsOrStrings(_) => Some(Self::Deduced),
                _ => None,
            },
            _ => None,
        }
    }

    /// The default of a declared field.
    pub(crate) fn default_of(&self, name: &str) -> Option<Value> {
        match self {
            Self::Custom(shape) => shape.default_of(name),
            other => serde_json::from_str(other.struct_type()?.field(name)?.default()?).ok(),
        }
    }

    fn struct_type(&self) -> Option<TypeRef> {
        match self {
            Self::Struct(t) => Some(*t),
            Self::Field(field) if field.card() == Card::One => field.struct_type(),
            Self::Item(field) => field.struct_type(),
            _ => None,
        }
    }
}

fn untyped() -> Atom {
    Atom { scalar: Some(ScalarKind::Untyped), list: Some(ListKind::Atomic), map: Some(MapKind::Granular) }
}

fn field_atom(field: &'static Field) -> Atom {
    match field.card() {
        Card::One => {
            let mut atom = Shape::Item(field).atom();
            if field.list_type() == ListType::Atomic && atom.map.is_some() {
                atom.map = Some(MapKind::Atomic);
            }
            atom
        }
        Card::List => {
            let kind = match field.list_type() {
                ListType::Set => ListKind::Set,
                ListType::Map => ListKind::Keyed(field.list_keys().iter().map(|k| (*k).to_owned()).collect()),
                _ => ListKind::Atomic,
            };
            Atom { list: Some(kind), ..Atom::default() }
        }
        Card::Map | Card::MapOfLists => {
            let kind = if field.list_type() == ListType::Atomic { MapKind::Atomic } else { MapKind::Granular };
            Atom { map: Some(kind), ..Atom::default() }
        }
    }
}

fn elem_atom(elem: Elem) -> Atom {
    let scalar = |kind| Atom { scalar: Some(kind), ..Atom::default() };
    match elem {
        Elem::String | Elem::Bytes => scalar(ScalarKind::String),
        Elem::Bool => scalar(ScalarKind::Boolean),
        Elem::I32 | Elem::I64 | Elem::U32 | Elem::U64 | Elem::F64 => scalar(ScalarKind::Numeric),
        Elem::Time | Elem::MicroTime | Elem::Duration | Elem::Quantity | Elem::IntOrString => {
            scalar(ScalarKind::Untyped)
        }
        Elem::Raw | Elem::FieldsV1 => Atom { map: Some(MapKind::Granular), ..Atom::default() },
        Elem::StringList => Atom { list: Some(ListKind::Atomic), ..Atom::default() },
        _ => untyped(),
    }
}
