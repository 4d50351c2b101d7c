//! DefaultIngressClass: ingresses that name no class get the default one.

use async_trait::async_trait;
use meta::{GroupVersionResource, Object, Status};
use registry::Operation;
use serde_json::{Value, json};

use crate::plugin::{Plugin, Request};

/// The plugin.
pub struct DefaultIngressClass;

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is("networking.k8s.io", "ingresses")
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(ingress) = object else { return Ok(()) };
        let named = ingress.get(&["spec", "ingressClassName"]).is_some_and(|v: &Value| !v.is_null());
        if named || ingress.annotation("kubernetes.io/ingress.class").is_some() {
            return Ok(());
        }
        let classes = GroupVersionResource::new("networking.k8s.io", "v1", "ingressclasses");
        let all = request.deps.api.list(&classes, "").await?;
        let mark = "ingressclass.kubernetes.io/is-default-class";
        let defaults = all.into_iter().filter(|c| c.annotation(mark) == Some("true"));
        let newest = defaults.max_by(|a, b| {
            let age = a.meta_str("creationTimestamp").cmp(b.meta_str("creationTimestamp"));
            age.then_with(|| b.name().cmp(a.name()))
        });
        if let Some(class) = newest {
            ingress.set(&["spec", "ingressClassName"], json!(class.name()));
        }
        Ok(())
    }
}
