//! Service-account issuer discovery: the OpenID configuration and the JSON Web Key Set, byte for byte as upstream.

use pki::PublicKey;
use serde_json::json;

/// Text as a JSON string.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}

/// `/.well-known/openid-configuration`.
pub(super) fn configuration(issuer: &str, jwks_uri: &str, keys: &[PublicKey]) -> String {
    let mut algorithms: Vec<&str> = keys.iter().map(PublicKey::jose_algorithm).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    format!(
        "{{\"issuer\":{},\"jwks_uri\":{},\"response_types_supported\":[\"id_token\"],\
         \"subject_types_supported\":[\"public\"],\"id_token_signing_alg_values_supported\":{}}}",
        quoted(issuer),
        quoted(jwks_uri),
        json!(algorithms)
    )
}

/// `/openid/v1/jwks`.
pub(super) fn key_set(keys: &[PublicKey]) -> String {
    let keys: Vec<String> = keys.iter().map(web_key).collect();
    format!("{{\"keys\":[{}]}}", keys.join(","))
}

fn web_key(key: &PublicKey) -> String {
    let (kind, members) = key.jwk_members();
    let mut out = format!("{{\"use\":\"sig\",\"kty\":\"{kind}\",\"kid\":{}", quoted(&key.key_id()));
    let (curve, numbers): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| *name == "crv");
    let algorithm = ("alg", key.jose_algorithm().to_owned());
    for (name, value) in curve.into_iter().chain([algorithm]).chain(numbers) {
        out.push_str(&format!(",\"{name}\":{}", quoted(&value)));
    }
    out.push('}');
    out
}
