//! Who may approve, sign and ask for certificates, and attest trust bundles.

use async_trait::async_trait;
use auth_api::{Attributes, Decision};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meta::{Object, Status};
use registry::Operation;

use crate::plugin::{Plugin, Request};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Whether the user has a verb on a signer: by its name, or by `domain/*`.
async fn may(request: &Request<'_>, verb: &str, signer: &str) -> bool {
    let Some(authorizer) = &request.deps.authorizer else { return true };
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer.to_owned(), format!("{domain}/*")] {
        let attributes = Attributes {
            user: request.user.clone(),
            verb: verb.to_owned(),
            name,
            api_group: GROUP.into(),
            api_version: "*".into(),
            resource: "signers".into(),
            resource_request: true,
            ..Attributes::default()
        };
        if matches!(authorizer.authorize(&attributes).await, Ok((Decision::Allow, _))) {
            return true;
        }
    }
    false
}

fn updates(request: &Request<'_>, subresource: &str) -> bool {
    request.operation == Operation::Update && request.is_any_of(GROUP, REQUESTS) && request.subresource == subresource
}

fn signer(object: &Object) -> &str {
    object.get_str(&["spec", "signerName"])
}

/// CertificateApproval.
pub struct Approval;

#[async_trait]
impl Plugin for Approval {
    fn handles(&self, request: &Request<'_>) -> bool {
        updates(request, "approval")
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        // The stored signer counts: the request may try to name another one.
        let name = request.old.map(signer).unwrap_or_default();
        if may(request, "approve", name).await {
            return Ok(());
        }
        Err(request.forbidden(object, format!("user not permitted to approve requests with signerName {name:?}")))
    }
}

/// CertificateSigning.
pub struct Signing;

#[async_trait]
impl Plugin for Signing {
    fn handles(&self, request: &Request<'_>) -> bool {
        updates(request, "status")
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let (Some(object), Some(old)) = (object, request.old) else { return Ok(()) };
        let same = |field: &str| object.get(&["status", field]) == old.get(&["status", field]);
        if same("certificate") && same("conditions") {
            return Ok(());
        }
        let name = signer(old);
        if may(request, "sign", name).await {
            return Ok(());
        }
        Err(request.forbidden(Some(object), format!("user not permitted to sign requests with signerName {name:?}")))
    }
}

/// CertificateSubjectRestriction: nobody becomes `system:masters` by a request.
pub struct SubjectRestriction;

#[async_trait]
impl Plugin for SubjectRestriction {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && request.is(GROUP, REQUESTS)
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(object) = object.filter(|o| signer(o) == CLIENT_SIGNER) else { return Ok(()) };
        let pem = STANDARD.decode(object.get_str(&["spec", "request"])).unwrap_or_default();
        let parsed = pki::Request::parse(&String::from_utf8_lossy(&pem))
            .map_err(|error| request.forbidden(Some(object), format!("failed to parse CSR: {error}")))?;
        if parsed.subject.organizations.iter().any(|o| o == auth_api::groups::MASTERS) {
            let cause = format!("use of {CLIENT_SIGNER} signer with system:masters group is not allowed");
            return Err(request.forbidden(Some(object), cause));
        }
        Ok(())
    }
}

/// ClusterTrustBundleAttest: a bundle that names a signer needs the right to attest for it.
pub struct TrustBundleAttest;

#[async_trait]
impl Plugin for TrustBundleAttest {
    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update) && request.is(GROUP, "clustertrustbundles")
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let name = signer(object);
        if name.is_empty() || may(request, "attest", name).await {
            return Ok(());
        }
        Err(request.forbidden(Some(object), format!("user not permitted to attest for signerName {name:?}")))
    }
}
