//! The parameters of a policy and binding.

use std::sync::Arc;

use meta::{GroupVersionKind, Object};

use super::compile::{Binding, ParamRef};
use crate::plugin::Request;

/// The objects to evaluate with, one evaluation for each; `None` is an evaluation without parameters.
///
/// # Errors
/// The policy or binding is wrongly configured, in upstream's words.
pub(super) async fn collect(
    request: &Request<'_>,
    kind: Option<&GroupVersionKind>,
    binding: &Binding,
) -> Result<Vec<Option<Arc<Object>>>, String> {
    let (Some(kind), Some(reference)) = (kind, &binding.params) else { return Ok(vec![None]) };
    let found = find(request, kind, reference).await?;
    if found.is_empty() && reference.deny_when_absent {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    Ok(found.into_iter().map(Some).collect())
}

async fn find(
    request: &Request<'_>,
    kind: &GroupVersionKind,
    reference: &ParamRef,
) -> Result<Vec<Arc<Object>>, String> {
    let resources = request.registry.map(|registry| registry.all()).unwrap_or_default();
    let resource = resources.iter().find(|resource| {
        let row = &resource.row;
        row.group == kind.group && row.kind == kind.kind && row.versions.contains(&kind.version)
    });
    let Some(resource) = resource else {
        return Err(format!("failed to find resource referenced by paramKind: '{}'", show(kind)));
    };
    let row = &resource.row;
    let namespace = match (row.namespaced, reference.namespace.as_str()) {
        (false, "") => "",
        (false, _) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()),
        (true, "") if request.namespace.is_empty() => {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
        }
        (true, "") => request.namespace,
        (true, namespace) => namespace,
    };
    let gvr = row.gvr(&row.hub.version);
    let api = &request.deps.api;
    let found = match (&reference.selector, reference.name.as_str()) {
        (None, "") => return Err("one of name or selector must be provided".into()),
        (None, name) => {
            let found = api.get(&gvr, namespace, name).await.map_err(|e| e.to_string())?;
            found.into_iter().collect()
        }
        (Some(selector), _) => {
            let selector = selector.as_ref().map_err(Clone::clone)?;
            let mut all = api.list(&gvr, namespace).await.map_err(|e| e.to_string())?;
            all.retain(|object| selector.matches(object));
            all
        }
    };
    let wanted = row.gvk(&kind.version);
    let versioned = found.into_iter().map(|object| {
        if object.gvk() == wanted {
            return Ok(object);
        }
        let mut copy = (*object).clone();
        row.convert_to(&mut copy, &wanted).map_err(|e| e.to_string())?;
        Ok(Arc::new(copy))
    });
    versioned.collect()
}

fn show(kind: &GroupVersionKind) -> String {
    format!("{}/{}, Kind={}", kind.group, kind.version, kind.kind)
}
