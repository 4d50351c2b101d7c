//! Publishes the cluster's certificate authority as ConfigMap `kube-root-ca.crt` in every namespace.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::k8s::core::v1::ConfigMap;
use api::metav1::ObjectMeta;

use crate::cluster::in_each_namespace;
use crate::frame::Context;

const NAME: &str = "kube-root-ca.crt";

/// Runs the controller; without a certificate authority there is nothing to publish.
pub(crate) async fn run(context: Context) {
    let Some(pem) = context.options.root_ca_pem.clone() else {
        context.shutdown.cancelled().await;
        return;
    };
    let data = BTreeMap::from([("ca.crt".to_owned(), pem)]);
    let wanted = data.clone();
    let make = Arc::new(move |namespace: &str| ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(namespace.to_owned()),
            annotations: Some(BTreeMap::from([(
                "kubernetes.io/description".to_owned(),
                "Holds the certificate authority that proves the API server's identity to pods.".to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        data: Some(data.clone()),
        ..ConfigMap::default()
    });
    let is_right = Arc::new(move |found: &ConfigMap| found.data.as_ref() == Some(&wanted));
    in_each_namespace::run::<ConfigMap>(context, NAME, make, is_right).await;
}
