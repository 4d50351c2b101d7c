//! Taints and tolerations.

use api::k8s::core::v1::{Taint, Toleration};

/// Whether one toleration tolerates a taint (upstream's `ToleratesTaint`).
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    let have = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => text(&toleration.value) == have,
        "Exists" => true,
        "Lt" => compare(&toleration.value, have).is_some_and(|(want, have)| have < want),
        "Gt" => compare(&toleration.value, have).is_some_and(|(want, have)| have > want),
        _ => false,
    }
}

fn compare(want: &Option<String>, have: &str) -> Option<(i64, i64)> {
    Some((want.as_deref()?.parse().ok()?, have.parse().ok()?))
}

/// The first taint of the given effects that no toleration tolerates.
pub fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration], effects: &[&str]) -> Option<&'a Taint> {
    taints
        .iter()
        .filter(|taint| effects.contains(&taint.effect.as_str()))
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let taint = Taint { key: "k".into(), value: Some("5".into()), effect: "NoSchedule".into(), time_added: None };
        for (key, operator, value, effect, want) in [
            ("k", "", "5", "NoSchedule", true),
            ("k", "Equal", "6", "NoSchedule", false),
            ("k", "Exists", "", "", true),
            ("", "Exists", "", "", true),
            ("x", "Exists", "", "", false),
            ("k", "Exists", "", "NoExecute", false),
            ("k", "Gt", "4", "", true),
            ("k", "Lt", "4", "", false),
        ] {
            let some = |s: &str| Some(s.to_owned()).filter(|s| !s.is_empty());
            let toleration = Toleration {
                key: some(key),
                operator: some(operator),
                value: some(value),
                effect: some(effect),
                toleration_seconds: None,
            };
            assert_eq!(tolerates(&toleration, &taint), want, "{key} {operator} {value} {effect}");
        }
    }
}
