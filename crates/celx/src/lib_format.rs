//! Named formats, such as `format.dns1123Label().validate(name)`.

use meta::names;

use crate::convert::is_base64;
use crate::error::Error;
use crate::lib_url::Url;
use crate::time::Stamp;
use crate::value::Value;

/// A format.
#[derive(Debug)]
pub struct Format {
    /// Name in `format.named`.
    pub name: &'static str,
    /// What is wrong with a text.
    check: fn(&str) -> Vec<String>,
    /// Longest pattern that upstream needs for it; costs follow it.
    pub pattern: u64,
}

fn when(fits: bool, message: &str) -> Vec<String> {
    if fits { Vec::new() } else { vec![message.to_owned()] }
}

fn prefix(text: &str, check: fn(&str) -> Vec<String>) -> Vec<String> {
    check(&names::mask_trailing_dash(text))
}

fn uuid(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    plain.len() == 32 && plain.chars().all(|c| c.is_ascii_hexdigit())
}

#[rustfmt::skip]
static FORMATS: &[Format] = &[
    Format { name: "dns1123Label", check: names::dns1123_label, pattern: 30 },
    Format { name: "dns1123Subdomain", check: names::dns1123_subdomain, pattern: 60 },
    Format { name: "dns1035Label", check: names::dns1035_label, pattern: 30 },
    Format { name: "qualifiedName", check: names::qualified_name, pattern: 60 },
    Format { name: "dns1123LabelPrefix", check: |text| prefix(text, names::dns1123_label), pattern: 30 },
    Format { name: "dns1123SubdomainPrefix", check: |text| prefix(text, names::dns1123_subdomain), pattern: 60 },
    Format { name: "dns1035LabelPrefix", check: |text| prefix(text, names::dns1035_label), pattern: 30 },
    Format { name: "labelValue", check: names::label_value, pattern: 40 },
    Format { name: "uri", check: |text| Url::parse(text).err().into_iter().collect(), pattern: 1000 },
    Format { name: "uuid", check: |text| when(uuid(text), "does not match the UUID format"), pattern: 41 },
    Format { name: "byte", check: |text| when(is_base64(text), "invalid base64"), pattern: 100 },
    Format { name: "date", check: |text| when(text.len() == 10 && Stamp::parse(&format!("{text}T00:00:00Z")).is_ok(), "invalid date"), pattern: 20 },
    Format { name: "datetime", check: |text| when(Stamp::parse(text).is_ok(), "invalid datetime"), pattern: 85 },
];

fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

pub fn named<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(find(args[0].str()?).map_or(Value::Optional(None), |format| Value::some(Value::Format(format))))
}

pub fn constant<'a>(name: &str, _: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let name = name.trim_start_matches("format.");
    find(name).map(Value::Format).ok_or_else(|| Error::eval(format!("no such format: {name}")))
}

pub fn validate<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let Value::Format(format) = &args[0] else { return Err(Error::no_overload()) };
    let findings = (format.check)(args[1].str()?);
    Ok(if findings.is_empty() { Value::Optional(None) } else { Value::some(Value::texts(findings)) })
}
