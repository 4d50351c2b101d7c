//! Keeps the `default` ServiceAccount in every namespace.

use std::sync::Arc;

use api::k8s::core::v1::ServiceAccount;
use api::metav1::ObjectMeta;

use crate::cluster::in_each_namespace;
use crate::frame::Context;

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let make = Arc::new(|namespace: &str| ServiceAccount {
        metadata: ObjectMeta {
            name: Some("default".into()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    });
    // Whatever users made of it is right.
    in_each_namespace::run::<ServiceAccount>(context, "default", make, Arc::new(|_| true)).await;
}
