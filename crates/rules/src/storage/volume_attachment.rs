//! VolumeAttachment.

use crate::resources::round_up_milli;
use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, validate_update: update, ..Rules::NONE };

fn default(body: &mut Tree) {
    if let Some(volume) = body.descend(&["spec", "source", "inlineVolumeSpec"]) {
        round_up_milli(volume.child("capacity"));
        crate::core::pod_defaults::network_sources(volume);
    }
}

fn validate(attachment: &C) {
    let spec = attachment.get("spec");
    let attacher = spec.get("attacher");
    if attacher.required() {
        attacher.check(|name| meta::names::qualified_name(&name.to_lowercase()));
    }
    for field in ["nodeName", "source.persistentVolumeName"] {
        let name = spec.get(field);
        if !name.is_zero() {
            name.check(meta::names::dns1123_subdomain);
        }
    }
    spec.get("nodeName").required();
    let (inline, name) = (spec.get("source.inlineVolumeSpec"), spec.get("source.persistentVolumeName"));
    let source = spec.get("source");
    match (inline.exists(), name.exists()) {
        (false, false) => source.missing("must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        (true, true) => source.forbidden("must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        (false, true) if name.is_zero() => {
            source.get("persistentVolumeName").missing("must specify non empty persistentVolumeName")
        }
        _ => {}
    }
}

fn update(new: &C, old: &C) {
    if !new.get("spec").same(&old.get("spec")) {
        new.get("spec").invalid("field is immutable");
    }
}
