//! Secret.

use crate::{C, Defaults, Rules, Tree};

use base64::Engine as _;

use super::config_map::{MAX_BYTES, decoded_len, immutable_data, value_key};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, validate_update: update, ..Rules::NONE };

fn default(body: &mut Tree) {
    body.default_str("type", "Opaque");
}

fn validate(secret: &C) {
    let data = secret.get("data");
    let mut total = 0;
    for (key, value) in data.entries() {
        value_key(&value, key);
        total += decoded_len(value.str());
    }
    if total > MAX_BYTES {
        data.sink().push(meta::field::Error::too_long(&data.path(), MAX_BYTES));
    }
    let need = |key: &str| {
        let value = data.key(key);
        if !value.exists() {
            value.missing("");
        }
        value.exists()
    };
    match secret.get("type").str() {
        "kubernetes.io/service-account-token" => {
            let annotations = secret.get("metadata.annotations");
            annotations.key("kubernetes.io/service-account.name").required();
        }
        "kubernetes.io/dockercfg" if need(".dockercfg") => {
            json_object(&data.key(".dockercfg"));
        }
        "kubernetes.io/dockerconfigjson" if need(".dockerconfigjson") => {
            json_object(&data.key(".dockerconfigjson"));
        }
        "kubernetes.io/basic-auth" if !data.key("username").exists() && !data.key("password").exists() => {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth" => {
            data.key("ssh-privatekey").required();
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        _ => {}
    }
}

/// The value must be a JSON object; its text is not repeated in the message.
fn json_object(value: &C) {
    let text = base64::engine::general_purpose::STANDARD.decode(value.str()).unwrap_or_default();
    if let Err(reason) = serde_json::from_slice::<Tree>(&text) {
        value.invalid_value("<secret contents redacted>", reason.to_string());
    }
}

fn update(new: &C, old: &C) {
    new.get("type").immutable(&old.get("type"));
    immutable_data(new, old, &["data"]);
}
