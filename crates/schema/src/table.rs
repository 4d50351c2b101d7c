//! The table's shape and its look-ups.

use meta::GroupVersionKind;

use crate::generated::facts::{DEFAULTS, GO_TYPES, LISTS, PATCHES};
use crate::generated::fields::{FIELDS, ORDER};
use crate::generated::kinds::{KINDS, LIST_META, OBJECT_META, UNIONS, WATCH_EVENT};
use crate::generated::structs::{PACKAGES, STRUCTS};

/// What one value of a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elem {
    /// A string, named string types included.
    String,
    /// Base64 in JSON, raw bytes on the wire.
    Bytes,
    /// A boolean.
    Bool,
    /// A 32-bit (or smaller) signed integer.
    I32,
    /// A 64-bit signed integer.
    I64,
    /// A 32-bit (or smaller) unsigned integer.
    U32,
    /// A 64-bit unsigned integer.
    U64,
    /// A double.
    F64,
    /// `metav1.Time`: whole seconds.
    Time,
    /// `metav1.MicroTime`.
    MicroTime,
    /// `metav1.Duration`: Go's text in JSON, nanoseconds on the wire.
    Duration,
    /// `resource.Quantity`.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `runtime.RawExtension`: any JSON, as bytes on the wire.
    Raw,
    /// `metav1.FieldsV1`: a JSON object, as bytes on the wire.
    FieldsV1,
    /// `apiextensions.JSON`: any JSON, as bytes on the wire.
    Json,
    /// `JSONSchemaPropsOrArray`, with the struct of the schema.
    PropsOrArray(u16),
    /// `JSONSchemaPropsOrBool`, with the struct of the schema.
    PropsOrBool(u16),
    /// `JSONSchemaPropsOrStringArray`, with the struct of the schema.
    PropsOrStrings(u16),
    /// A named list of strings that is a message of its own on the wire (`Verbs`, `ExtraValue`).
    StringList,
    /// Anything; has no wire form.
    Any,
    /// A struct, by index.
    Struct(u16),
}

/// How many values a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// One value.
    One,
    /// A list.
    List,
    /// A map with string keys.
    Map,
    /// A map of lists (only in configuration types, which have no wire form).
    MapOfLists,
}

/// `x-kubernetes-list-type` or `x-kubernetes-map-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    /// Not given: lists are atomic, maps granular.
    Unset,
    /// Replaced as a whole.
    Atomic,
    /// A set of scalars.
    Set,
    /// A list keyed by fields of its elements.
    Map,
    /// A map merged by key.
    Granular,
}

const POINTER: u8 = 1;
const OMIT_EMPTY: u8 = 1 << 1;
const OMIT_ZERO: u8 = 1 << 2;
const INLINE: u8 = 1 << 3;
const REQUIRED: u8 = 1 << 4;

const ATOMIC: u8 = 1;
const KIND: u8 = 1 << 1;

/// One field of a struct.
#[derive(Debug)]
pub struct Field {
    json: &'static str,
    number: u16,
    go_type: u16,
    elem: Elem,
    card: Card,
    flags: u8,
    list: u8,
    patch: u8,
    default: u8,
}

/// Makes a row of the generated table.
#[allow(clippy::too_many_arguments)]
pub(crate) const fn f(
    json: &'static str,
    number: u16,
    go_type: u16,
    elem: Elem,
    card: Card,
    flags: u8,
    list: u8,
    patch: u8,
    default: u8,
) -> Field {
    Field { json, number, go_type, elem, card, flags, list, patch, default }
}

/// A struct's row.
#[derive(Debug)]
pub(crate) struct StructDef {
    name: &'static str,
    first: u16,
    len: u16,
    package: u8,
    flags: u8,
}

/// Makes a row of the generated table.
pub(crate) const fn s(package: u8, name: &'static str, first: u16, len: u16, flags: u8) -> StructDef {
    StructDef { name, first, len, package, flags }
}

impl Field {
    /// The JSON name; empty for an inlined struct.
    pub fn name(&self) -> &'static str {
        self.json
    }

    /// The protobuf field number; 0 when the field has no wire form.
    pub fn number(&self) -> u32 {
        u32::from(self.number)
    }

    /// What one value is.
    pub fn elem(&self) -> Elem {
        self.elem
    }

    /// One value, a list or a map.
    pub fn card(&self) -> Card {
        self.card
    }

    /// The Go type as Go prints it, such as `[]v1.Container`.
    pub fn go_type(&self) -> &'static str {
        GO_TYPES[usize::from(self.go_type)]
    }

    /// Whether Go holds a pointer, so that absent and zero differ.
    pub fn is_pointer(&self) -> bool {
        self.flags & POINTER != 0
    }

    /// Go's `omitempty`.
    pub fn omit_empty(&self) -> bool {
        self.flags & OMIT_EMPTY != 0
    }

    /// Go's `omitzero`.
    pub fn omit_zero(&self) -> bool {
        self.flags & OMIT_ZERO != 0
    }

    /// Whether the struct's fields stand directly in the parent's JSON object.
    pub fn is_inline(&self) -> bool {
        self.flags & INLINE != 0
    }

    /// Whether OpenAPI lists the field as required.
    pub fn is_required(&self) -> bool {
        self.flags & REQUIRED != 0
    }

    /// The list or map type.
    pub fn list_type(&self) -> ListType {
        LISTS[usize::from(self.list)].0
    }

    /// The keys of a list of type map.
    pub fn list_keys(&self) -> &'static [&'static str] {
        LISTS[usize::from(self.list)].1
    }

    /// Strategic merge's key, empty for none.
    pub fn patch_merge_key(&self) -> &'static str {
        PATCHES[usize::from(self.patch)].first().copied().unwrap_or("")
    }

    /// Strategic merge's strategies: `merge`, `replace`, `retainKeys`.
    pub fn patch_strategies(&self) -> &'static [&'static str] {
        PATCHES[usize::from(self.patch)].get(1..).unwrap_or(&[])
    }

    /// The default that OpenAPI states, as JSON text.
    pub fn default(&self) -> Option<&'static str> {
        Some(DEFAULTS[usize::from(self.default)]).filter(|text| !text.is_empty())
    }

    /// The struct behind the field, if its values are structs.
    pub fn struct_type(&self) -> Option<TypeRef> {
        match self.elem {
            Elem::Struct(id) => Some(TypeRef(id)),
            _ => None,
        }
    }
}

/// A struct of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeRef(pub(crate) u16);

impl TypeRef {
    /// `metav1.ObjectMeta`.
    pub const OBJECT_META: TypeRef = TypeRef(OBJECT_META);
    /// `metav1.ListMeta`.
    pub const LIST_META: TypeRef = TypeRef(LIST_META);
    /// `metav1.WatchEvent`.
    pub const WATCH_EVENT: TypeRef = TypeRef(WATCH_EVENT);

    fn def(self) -> &'static StructDef {
        &STRUCTS[usize::from(self.0)]
    }

    /// The Go type's name, such as `PodSpec`.
    pub fn name(self) -> &'static str {
        self.def().name
    }

    /// The Go package below `k8s.io/`, such as `api/core/v1`.
    pub fn package(self) -> &'static str {
        PACKAGES[usize::from(self.def().package)]
    }

    /// The type as Go prints it: `v1.PodSpec`.
    pub fn go_name(self) -> String {
        format!("{}.{}", self.package().rsplit('/').next().unwrap_or_default(), self.name())
    }

    /// The name of its OpenAPI definition, such as `io.k8s.api.core.v1.PodSpec`.
    pub fn openapi_name(self) -> String {
        format!("io.k8s.{}.{}", self.package().replace('/', "."), self.name())
    }

    /// The struct's own fields in Go's order; inlined structs are one field without a name.
    pub fn fields(self) -> &'static [Field] {
        let def = self.def();
        &FIELDS[usize::from(def.first)..usize::from(def.first) + usize::from(def.len)]
    }

    /// The places in [`Self::fields`] by ascending protobuf number, those without a number first.
    pub(crate) fn wire_order(self) -> &'static [u8] {
        let def = self.def();
        &ORDER[usize::from(def.first)..usize::from(def.first) + usize::from(def.len)]
    }

    /// A field by JSON name, also from inlined structs.
    pub fn field(self, name: &str) -> Option<&'static Field> {
        let fields = self.fields();
        fields
            .iter()
            .find(|f| f.json == name && !f.is_inline())
            .or_else(|| fields.iter().filter(|f| f.is_inline()).find_map(|f| f.struct_type()?.field(name)))
    }

    /// All fields as they stand in JSON, inlined ones flattened.
    pub fn json_fields(self) -> Vec<&'static Field> {
        let mut all = Vec::new();
        for field in self.fields() {
            match field.struct_type() {
                Some(inner) if field.is_inline() => all.extend(inner.json_fields()),
                _ => all.push(field),
            }
        }
        all
    }

    /// Whether the struct as a whole is replaced by apply (`x-kubernetes-map-type: atomic`).
    pub fn is_atomic(self) -> bool {
        self.def().flags & ATOMIC != 0
    }

    /// `x-kubernetes-unions` as JSON text.
    pub fn unions(self) -> Option<&'static str> {
        UNIONS.iter().find(|(id, _)| *id == self.0).map(|(_, text)| *text)
    }

    /// Whether the struct carries `apiVersion` and `kind`.
    pub fn is_kind(self) -> bool {
        self.def().flags & KIND != 0
    }

    /// The groups, versions and kinds under which the struct is known.
    pub fn gvks(self) -> impl Iterator<Item = GroupVersionKind> {
        KINDS.iter().filter(move |k| k.3 == self.0).map(|k| GroupVersionKind::new(k.1, k.2, k.0))
    }
}

/// One kind of the table.
#[derive(Debug, Clone, Copy)]
pub struct KindRef {
    /// API group, empty for core.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Its struct.
    pub type_ref: TypeRef,
}

/// Every kind, sorted by kind, group and version.
pub fn kinds() -> impl Iterator<Item = KindRef> {
    KINDS.iter().map(|&(kind, group, version, id)| KindRef { group, version, kind, type_ref: TypeRef(id) })
}

/// Every struct.
pub fn types() -> impl Iterator<Item = TypeRef> {
    (0..STRUCTS.len() as u16).map(TypeRef)
}

/// The struct of a kind. The option kinds and `WatchEvent` are known in every group version, as upstream registers them.
pub fn type_by_gvk(gvk: &GroupVersionKind) -> Option<TypeRef> {
    lookup(&gvk.group, &gvk.version, &gvk.kind)
}

pub(crate) fn lookup(group: &str, version: &str, kind: &str) -> Option<TypeRef> {
    let key = (kind, group, version);
    let found = KINDS.binary_search_by(|k| (k.0, k.1, k.2).cmp(&key));
    if let Ok(at) = found {
        return Some(TypeRef(KINDS[at].3));
    }
    let everywhere = matches!(
        kind,
        "WatchEvent"
            | "ListOptions"
            | "GetOptions"
            | "DeleteOptions"
            | "CreateOptions"
            | "UpdateOptions"
            | "PatchOptions"
    );
    if everywhere && !(group.is_empty() && version == "v1") { lookup("", "v1", kind) } else { None }
}

/// The struct of a Go type: package below `k8s.io/` and name.
pub fn type_by_name(package: &str, name: &str) -> Option<TypeRef> {
    types().find(|t| t.name() == name && t.package() == package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_kinds_and_fields() {
        let pod = type_by_gvk(&GroupVersionKind::new("", "v1", "Pod")).expect("Pod");
        assert_eq!(pod.openapi_name(), "io.k8s.api.core.v1.Pod");
        let spec = pod.field("spec").and_then(Field::struct_type).expect("spec");
        let containers = spec.field("containers").expect("containers");
        assert_eq!((containers.number(), containers.card()), (2, Card::List));
        assert_eq!(containers.list_keys(), ["name"]);
        assert_eq!(containers.patch_merge_key(), "name");
        assert!(containers.is_required());
        let volume = spec.field("volumes").and_then(Field::struct_type).expect("volume");
        assert_eq!(volume.field("emptyDir").map(Field::go_type), Some("*v1.EmptyDirVolumeSource"));
        assert!(type_by_gvk(&GroupVersionKind::new("", "v1", "Nope")).is_none());
        assert!(type_by_gvk(&GroupVersionKind::new("apps", "v1", "DeleteOptions")).is_some());
    }
}
