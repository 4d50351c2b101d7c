//! What a token says.

use auth_api::TokenClaims;
use serde::{Deserialize, Deserializer, Serialize};

/// One or several audiences: JWT allows a bare string.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(super) struct Audiences(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Audiences {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::One(one) => vec![one],
            Form::Many(many) => many,
        }))
    }
}

/// An object by name and uid.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Reference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
}

/// The claim `kubernetes.io`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Private {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<Reference>,
    #[serde(rename = "serviceaccount")]
    pub(super) service_account: Reference,
    #[serde(rename = "warnafter", skip_serializing_if = "Option::is_none")]
    pub(super) warn_after: Option<i64>,
}

/// All claims, of both the bound and the legacy form. Fields stand in the order in which upstream writes them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Claims {
    #[serde(rename = "aud", skip_serializing_if = "no_audience")]
    pub(super) audiences: Audiences,
    #[serde(rename = "exp", skip_serializing_if = "Option::is_none")]
    pub(super) expiry: Option<i64>,
    #[serde(rename = "iat", skip_serializing_if = "Option::is_none")]
    pub(super) issued_at: Option<i64>,
    #[serde(rename = "iss")]
    pub(super) issuer: String,
    #[serde(rename = "jti", skip_serializing_if = "String::is_empty")]
    pub(super) id: String,
    #[serde(rename = "kubernetes.io", skip_serializing_if = "Option::is_none")]
    pub(super) private: Option<Private>,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace", skip_serializing_if = "String::is_empty")]
    pub(super) legacy_namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name", skip_serializing_if = "String::is_empty")]
    pub(super) legacy_secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name", skip_serializing_if = "String::is_empty")]
    pub(super) legacy_account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid", skip_serializing_if = "String::is_empty")]
    pub(super) legacy_uid: String,
    #[serde(rename = "nbf", skip_serializing_if = "Option::is_none")]
    pub(super) not_before: Option<i64>,
    #[serde(rename = "sub")]
    pub(super) subject: String,
}

fn no_audience(audiences: &Audiences) -> bool {
    audiences.0.is_empty()
}

fn subject(namespace: &str, account: &str) -> String {
    format!("{}{namespace}:{account}", auth_api::users::SERVICE_ACCOUNT_PREFIX)
}

impl Claims {
    /// The claims of a token bound in time, and to an object if wanted.
    pub(super) fn of(
        wanted: &TokenClaims,
        issuer: &str,
        audiences: &[String],
        id: String,
        now: i64,
    ) -> Result<Self, String> {
        let mut private = Private {
            namespace: wanted.namespace.clone(),
            service_account: Reference { name: wanted.name.clone(), uid: wanted.uid.clone() },
            warn_after: wanted.warn_after_seconds.filter(|s| *s != 0).map(|s| now + s),
            ..Private::default()
        };
        if let Some(bound) = &wanted.bound {
            let reference = Some(Reference { name: bound.name.clone(), uid: bound.uid.clone() });
            match bound.kind.as_str() {
                "Pod" => {
                    private.pod = reference;
                    private.node =
                        wanted.node.as_ref().map(|(name, uid)| Reference { name: name.clone(), uid: uid.clone() });
                }
                "Secret" => private.secret = reference,
                "Node" => private.node = reference,
                other => return Err(format!("cannot bind a token to an object of kind {other}")),
            }
        }
        Ok(Self {
            audiences: Audiences(audiences.to_vec()),
            expiry: Some(now + wanted.expiration_seconds),
            issued_at: Some(now),
            not_before: Some(now),
            issuer: issuer.to_owned(),
            id,
            private: Some(private),
            subject: subject(&wanted.namespace, &wanted.name),
            ..Self::default()
        })
    }
}

/// The claims of a token kept in a secret.
pub(super) fn legacy(namespace: &str, account: &str, uid: &str, secret: &str) -> Claims {
    Claims {
        issuer: super::LEGACY_ISSUER.to_owned(),
        subject: subject(namespace, account),
        legacy_namespace: namespace.to_owned(),
        legacy_account: account.to_owned(),
        legacy_uid: uid.to_owned(),
        legacy_secret: secret.to_owned(),
        ..Claims::default()
    }
}
