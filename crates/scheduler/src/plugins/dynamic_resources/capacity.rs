//! What a claim consumes of a device that several claims share.

use std::collections::BTreeMap;

use api::k8s::resource::v1::{CapacityRequestPolicy, Device, DeviceCapacity};
use api::prelude::Quantity as Wire;
use meta::quantity::{Format, Quantity};

use super::ledger::Nanos;

type Asked = BTreeMap<String, Wire>;

fn read(wire: &Wire) -> Quantity {
    wire.0.parse().unwrap_or_else(|_| Quantity::from_units(0, Format::DecimalSi))
}

/// What a request takes of one capacity: rounded up as the device's policy says.
fn taken(asked: Option<&Wire>, capacity: &DeviceCapacity) -> Quantity {
    let policy = capacity.request_policy.as_ref();
    let Some(asked) = asked.map(read) else {
        return read(policy.and_then(|p| p.default.as_ref()).unwrap_or(&capacity.value));
    };
    let Some(policy) = policy else { return asked };
    if let Some(range) = &policy.valid_range {
        let least = read(&range.min);
        if asked < least {
            return least;
        }
        let Some(step) = range.step.as_ref().map(|s| read(s).value()).filter(|s| *s > 0) else { return asked };
        let (least, over) = (least.value(), asked.value() - least.value());
        let steps = over / step + i64::from(over % step != 0);
        return Quantity::from_units(least + step * steps, Format::BinarySi);
    }
    let valid = policy.valid_values.iter().flatten().map(read);
    valid.into_iter().find(|value| asked <= *value).unwrap_or(asked)
}

/// Whether an amount is one that the policy does not allow.
fn violates(amount: Quantity, policy: Option<&CapacityRequestPolicy>) -> bool {
    let Some(policy) = policy else { return false };
    if policy.default.as_ref().is_some_and(|d| read(d) == amount) {
        return false;
    }
    if let Some(range) = &policy.valid_range {
        let over = range.max.as_ref().is_some_and(|max| amount > read(max));
        let step = range.step.as_ref().map(|s| read(s).value()).filter(|s| *s > 0);
        return over || step.is_some_and(|step| (amount.value() - read(&range.min).value()) % step != 0);
    }
    let mut valid = policy.valid_values.iter().flatten().map(read).peekable();
    valid.peek().is_some() && !valid.any(|value| value == amount)
}

/// Whether the device has what is asked for beside what others consume.
pub(super) fn has_room(device: &Device, asked: Option<&Asked>, used: Option<&Nanos>, now: Option<&Nanos>) -> bool {
    let empty = BTreeMap::new();
    let capacity = device.capacity.as_ref().unwrap_or(&empty);
    if asked.is_some_and(|asked| asked.keys().any(|name| !capacity.contains_key(name))) {
        return false;
    }
    capacity.iter().all(|(name, capacity)| {
        let amount = taken(asked.and_then(|asked| asked.get(name)), capacity);
        let before = |held: Option<&Nanos>| held.and_then(|held| held.get(name)).copied().unwrap_or(0);
        !violates(amount, capacity.request_policy.as_ref())
            && amount.nanos() + before(used) + before(now) <= read(&capacity.value).nanos()
    })
}

/// What a request consumes of each capacity.
pub(super) fn consumed(device: &Device, asked: Option<&Asked>) -> BTreeMap<String, Quantity> {
    let each = device.capacity.iter().flatten();
    each.map(|(name, capacity)| (name.clone(), taken(asked.and_then(|asked| asked.get(name)), capacity))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rounds_up_and_compares() {
        let device: Device = serde_json::from_value(json!({"name": "d", "capacity": {
            "memory": {"value": "10Gi", "requestPolicy": {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi", "max": "8Gi"}}},
        }}))
        .unwrap();
        let asked = |text: &str| BTreeMap::from([("memory".to_owned(), Wire(text.to_owned()))]);
        let gi = |n: i64| Nanos::from([("memory".to_owned(), i128::from(n) * (1 << 30) * 1_000_000_000)]);
        for (text, used, want) in [("1500Mi", 0, true), ("9Gi", 0, false), ("2Gi", 8, true), ("2Gi", 9, false)] {
            assert_eq!(has_room(&device, Some(&asked(text)), Some(&gi(used)), None), want, "{text} beside {used}");
        }
        assert!(!has_room(&device, Some(&BTreeMap::from([("x".to_owned(), Wire("1".to_owned()))])), None, None));
        assert_eq!(consumed(&device, Some(&asked("1500Mi")))["memory"].value(), 2 << 30);
        assert_eq!(consumed(&device, None)["memory"].value(), 1 << 30);
    }
}
