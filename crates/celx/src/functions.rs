//! The table of functions: names, signatures, costs, and what runs.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::error::Error;
use crate::types::{Type, TypeKind, read};
use crate::value::Value;
use crate::{
    authz, convert, lib_format, lib_lists, lib_net, lib_optional, lib_quantity, lib_regex, lib_semver, lib_sets,
    lib_strings, lib_url, strings_format,
};

/// What runs; the receiver is the first argument.
pub type Run = for<'a> fn(&str, &[Value<'a>]) -> Result<Value<'a>, Error>;

/// How a call is charged, at run time and when estimated.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum Cost {
    /// One unit.
    One,
    /// The first argument's size by tenths of a unit; the flag says that the result is as large as the argument.
    Size {
        tenths: u64,
        same: bool,
    },
    /// The second argument's size by a tenth: prefixes and suffixes, estimated.
    Prefix,
    /// A walk over all elements.
    Walk,
    /// The result's size.
    Join,
    Replace,
    Split,
    /// String by pattern.
    Regex {
        finds: bool,
    },
    Contains,
    Check,
    Selector,
    ContainsIp,
    ContainsCidr,
    Validate,
    /// Both lists' sizes multiplied.
    Sets {
        factor: u64,
    },
    /// As `Size` with one tenth when the argument is a string, else one.
    Convert,
    /// The list's size, and the result's is as large.
    ListCopy,
    /// `lists.range(n)`
    Range,
}

/// A signature.
#[derive(Debug, Clone)]
pub struct Overload {
    /// Whether the first argument is a receiver.
    pub member: bool,
    /// Arguments, the receiver first.
    pub args: Vec<Type>,
    /// Result.
    pub result: Type,
    /// How many type parameters it has.
    pub params: usize,
}

/// A function with all its signatures.
#[derive(Debug)]
pub struct Function {
    /// Name.
    pub name: &'static str,
    /// Signatures.
    pub overloads: Vec<Overload>,
    /// What runs.
    pub run: Run,
    /// How it is charged.
    pub cost: Cost,
}

/// One row: names that share signatures, the signatures, what runs, and its cost. `@` stands for the name.
type Row = (&'static [&'static str], &'static [&'static str], Run, Cost);

const SAME: Cost = Cost::Size { tenths: 1, same: true };
const PARSE: Cost = Cost::Size { tenths: 1, same: false };

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // The language's own.
    (&["size"], &["@(string):int", "@(bytes):int", "@(list(A)):int", "@(map(A,B)):int", "string.@():int", "bytes.@():int", "list(A).@():int", "map(A,B).@():int"], convert::size, Cost::One),
    (&["type"], &["@(A):type"], convert::type_of, Cost::One),
    (&["dyn"], &["@(A):dyn"], convert::dynamic, Cost::One),
    (&["int"], &["@(int):int", "@(uint):int", "@(double):int", "@(string):int", "@(timestamp):int"], convert::int, Cost::One),
    (&["uint"], &["@(uint):uint", "@(int):uint", "@(double):uint", "@(string):uint"], convert::uint, Cost::One),
    (&["double"], &["@(double):double", "@(int):double", "@(uint):double", "@(string):double"], convert::double, Cost::One),
    (&["bool"], &["@(bool):bool", "@(string):bool"], convert::boolean, Cost::One),
    (&["string"], &["@(string):string", "@(bool):string", "@(int):string", "@(uint):string", "@(double):string", "@(bytes):string", "@(timestamp):string", "@(duration):string", "@(ip):string", "@(cidr):string"], convert::string, Cost::Convert),
    (&["bytes"], &["@(bytes):bytes", "@(string):bytes"], convert::bytes, Cost::Convert),
    (&["timestamp"], &["@(timestamp):timestamp", "@(string):timestamp", "@(int):timestamp"], convert::timestamp, Cost::One),
    (&["duration"], &["@(duration):duration", "@(string):duration", "@(int):duration"], convert::duration, Cost::One),
    (&["startsWith", "endsWith"], &["string.@(string):bool"], lib_strings::affix, Cost::Prefix),
    (&["contains"], &["string.@(string):bool"], lib_strings::contains, Cost::Contains),
    (&["matches"], &["string.@(string):bool", "@(string,string):bool"], lib_regex::matches, Cost::Regex { finds: false }),
    (&["getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"], &["timestamp.@():int", "timestamp.@(string):int"], convert::time_part, Cost::One),
    (&["getHours", "getMinutes", "getSeconds", "getMilliseconds"], &["timestamp.@():int", "timestamp.@(string):int", "duration.@():int"], convert::time_part, Cost::One),
    // Optional values.
    (&["optional.of"], &["@(A):optional(A)"], lib_optional::of, Cost::One),
    (&["optional.ofNonZeroValue"], &["@(A):optional(A)"], lib_optional::of_non_zero, Cost::One),
    (&["optional.none"], &["@():optional(A)"], lib_optional::none, Cost::One),
    (&["optional.unwrap"], &["@(list(optional(A))):list(A)"], lib_optional::unwrap, Cost::One),
    (&["unwrapOpt"], &["list(optional(A)).@():list(A)"], lib_optional::unwrap, Cost::One),
    (&["value"], &["optional(A).@():A"], lib_optional::value, Cost::One),
    (&["hasValue"], &["optional(A).@():bool"], lib_optional::has_value, Cost::One),
    (&["or"], &["optional(A).@(optional(A)):optional(A)"], lib_optional::or, Cost::One),
    (&["orValue"], &["optional(A).@(A):A"], lib_optional::or_value, Cost::One),
    // Strings.
    (&["charAt"], &["string.@(int):string"], lib_strings::char_at, Cost::One),
    (&["indexOf", "lastIndexOf"], &["string.@(string):int", "string.@(string,int):int", "list(A).@(A):int"], lib_strings::index_of, Cost::Walk),
    (&["lowerAscii", "upperAscii", "trim"], &["string.@():string"], lib_strings::change, SAME),
    (&["reverse"], &["string.@():string", "list(A).@():list(A)"], lib_strings::reverse, Cost::ListCopy),
    (&["substring"], &["string.@(int):string", "string.@(int,int):string"], lib_strings::substring, SAME),
    (&["replace"], &["string.@(string,string):string", "string.@(string,string,int):string"], lib_strings::replace, Cost::Replace),
    (&["split"], &["string.@(string):list(string)", "string.@(string,int):list(string)"], lib_strings::split, Cost::Split),
    (&["join"], &["list(string).@():string", "list(string).@(string):string"], lib_strings::join, Cost::Join),
    (&["strings.quote"], &["@(string):string"], lib_strings::quote, SAME),
    (&["format"], &["string.@(list(dyn)):string"], strings_format::format, PARSE),
    (&["jsonpatch.escapeKey"], &["@(string):string"], lib_strings::escape_key, SAME),
    // Lists.
    (&["isSorted"], &["list(int).@():bool", "list(uint).@():bool", "list(double).@():bool", "list(bool).@():bool", "list(duration).@():bool", "list(timestamp).@():bool", "list(string).@():bool", "list(bytes).@():bool"], lib_lists::is_sorted, Cost::Walk),
    (&["sum"], &["list(int).@():int", "list(uint).@():uint", "list(double).@():double", "list(duration).@():duration"], lib_lists::sum, Cost::Walk),
    (&["min", "max"], &["list(int).@():int", "list(uint).@():uint", "list(double).@():double", "list(bool).@():bool", "list(duration).@():duration", "list(timestamp).@():timestamp", "list(string).@():string", "list(bytes).@():bytes"], lib_lists::extreme, Cost::Walk),
    (&["slice"], &["list(A).@(int,int):list(A)"], lib_lists::slice, Cost::ListCopy),
    (&["flatten"], &["list(list(A)).@():list(A)", "list(dyn).@(int):list(dyn)"], lib_lists::flatten, Cost::ListCopy),
    (&["sort"], &["list(int).@():list(int)", "list(uint).@():list(uint)", "list(double).@():list(double)", "list(bool).@():list(bool)", "list(duration).@():list(duration)", "list(timestamp).@():list(timestamp)", "list(string).@():list(string)", "list(bytes).@():list(bytes)"], lib_lists::sort, Cost::ListCopy),
    (&["distinct"], &["list(A).@():list(A)"], lib_lists::distinct, Cost::ListCopy),
    (&["lists.range"], &["@(int):list(int)"], lib_lists::range, Cost::Range),
    (&["sets.contains", "sets.intersects"], &["@(list(A),list(A)):bool"], lib_sets::run, Cost::Sets { factor: 1 }),
    (&["sets.equivalent"], &["@(list(A),list(A)):bool"], lib_sets::run, Cost::Sets { factor: 2 }),
    // Patterns and addresses.
    (&["find"], &["string.@(string):string"], lib_regex::find, Cost::Regex { finds: true }),
    (&["findAll"], &["string.@(string):list(string)", "string.@(string,int):list(string)"], lib_regex::find_all, Cost::Regex { finds: true }),
    (&["url"], &["@(string):url"], lib_url::url, SAME),
    (&["isURL"], &["@(string):bool"], lib_url::is_url, Cost::One),
    (&["getScheme", "getHost", "getHostname", "getPort", "getEscapedPath"], &["url.@():string"], lib_url::part, Cost::One),
    (&["getQuery"], &["url.@():map(string,list(string))"], lib_url::query, Cost::One),
    (&["ip"], &["@(string):ip", "cidr.@():ip"], lib_net::ip, PARSE),
    (&["isIP"], &["@(string):bool"], lib_net::is_ip, PARSE),
    (&["ip.isCanonical"], &["@(string):bool"], lib_net::is_canonical, Cost::Size { tenths: 2, same: false }),
    (&["family"], &["ip.@():int"], lib_net::family, Cost::One),
    (&["isUnspecified", "isLoopback", "isLinkLocalMulticast", "isLinkLocalUnicast", "isGlobalUnicast"], &["ip.@():bool"], lib_net::is, Cost::One),
    (&["cidr"], &["@(string):cidr"], lib_net::cidr, PARSE),
    (&["isCIDR"], &["@(string):bool"], lib_net::is_cidr, PARSE),
    (&["containsIP"], &["cidr.@(string):bool", "cidr.@(ip):bool"], lib_net::contains, Cost::ContainsIp),
    (&["containsCIDR"], &["cidr.@(string):bool", "cidr.@(cidr):bool"], lib_net::contains, Cost::ContainsCidr),
    (&["prefixLength"], &["cidr.@():int"], lib_net::prefix, Cost::One),
    (&["masked"], &["cidr.@():cidr"], lib_net::masked, Cost::One),
    // Quantities and versions.
    (&["quantity"], &["@(string):quantity"], lib_quantity::quantity, PARSE),
    (&["isQuantity"], &["@(string):bool"], lib_quantity::is_quantity, PARSE),
    (&["sign"], &["quantity.@():int", "@(quantity):int"], lib_quantity::part, Cost::One),
    (&["asInteger"], &["quantity.@():int"], lib_quantity::part, Cost::One),
    (&["isInteger"], &["quantity.@():bool"], lib_quantity::part, Cost::One),
    (&["asApproximateFloat"], &["quantity.@():double"], lib_quantity::part, Cost::One),
    (&["isGreaterThan", "isLessThan"], &["quantity.@(quantity):bool", "semver.@(semver):bool"], lib_quantity::compare, Cost::One),
    (&["compareTo"], &["quantity.@(quantity):int", "semver.@(semver):int"], lib_quantity::compare, Cost::One),
    (&["add", "sub"], &["quantity.@(quantity):quantity", "quantity.@(int):quantity"], lib_quantity::add, Cost::One),
    (&["semver"], &["@(string):semver", "@(string,bool):semver"], lib_semver::semver, PARSE),
    (&["isSemver"], &["@(string):bool", "@(string,bool):bool"], lib_semver::is_semver, PARSE),
    (&["major", "minor", "patch"], &["semver.@():int"], lib_semver::part, Cost::One),
    // Named formats.
    (&["format.named"], &["@(string):optional(format)"], lib_format::named, Cost::One),
    (&["format.dns1123Label", "format.dns1123Subdomain", "format.dns1035Label", "format.qualifiedName", "format.dns1123LabelPrefix", "format.dns1123SubdomainPrefix", "format.dns1035LabelPrefix", "format.labelValue", "format.uri", "format.uuid", "format.byte", "format.date", "format.datetime"], &["@():format"], lib_format::constant, Cost::One),
    (&["validate"], &["format.@(string):optional(list(string))"], lib_format::validate, Cost::Validate),
    // Authorization.
    (&["path"], &["authorizer.@(string):pathCheck"], authz::step, Cost::One),
    (&["group"], &["authorizer.@(string):groupCheck"], authz::step, Cost::One),
    (&["serviceAccount"], &["authorizer.@(string,string):authorizer"], authz::step, Cost::One),
    (&["resource"], &["groupCheck.@(string):resourceCheck"], authz::step, Cost::One),
    (&["subresource", "namespace", "name"], &["resourceCheck.@(string):resourceCheck"], authz::step, Cost::One),
    (&["fieldSelector", "labelSelector"], &["resourceCheck.@(string):resourceCheck"], authz::step, Cost::Selector),
    (&["check"], &["pathCheck.@(string):decision", "resourceCheck.@(string):decision"], authz::check, Cost::Check),
    (&["allowed", "errored"], &["decision.@():bool"], authz::answer, Cost::One),
    (&["reason", "error"], &["decision.@():string"], authz::answer, Cost::One),
];

static TABLE: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let rows = ROWS.iter().flat_map(|(names, signatures, run, cost)| {
        names.iter().map(move |name| {
            let overloads = signatures.iter().map(|text| overload(text)).collect();
            (*name, Function { name, overloads, run: *run, cost: *cost })
        })
    });
    rows.collect()
});

/// A function by its name.
pub fn find(name: &str) -> Option<&'static Function> {
    TABLE.get(name)
}

/// Splits at commas outside of brackets.
fn split(list: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if !list.is_empty() {
        parts.push(&list[start..]);
    }
    parts
}

fn highest_param(ty: &Type) -> usize {
    match &ty.kind {
        TypeKind::Param(index) => usize::from(*index) + 1,
        TypeKind::List(inner) | TypeKind::Optional(inner) => highest_param(inner),
        TypeKind::Map(parts) => highest_param(&parts.0).max(highest_param(&parts.1)),
        _ => 0,
    }
}

pub(crate) fn overload(text: &str) -> Overload {
    let (call, result) = text.rsplit_once(':').unwrap_or((text, "dyn"));
    let (receiver, list) = call.split_once('@').unwrap_or(("", call));
    let list = list.trim_start_matches('(').strip_suffix(')').unwrap_or(list);
    let receiver = receiver.strip_suffix('.');
    let args: Vec<Type> = receiver.into_iter().chain(split(list)).map(read).collect();
    let params = args.iter().map(highest_param).chain([highest_param(&read(result))]).max().unwrap_or(0);
    Overload { member: receiver.is_some(), args, result: read(result), params }
}
