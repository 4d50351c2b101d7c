//! Kubeconfig files for clients that hold a certificate or a token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Pair;

/// How the client proves who it is.
#[derive(Clone)]
pub enum Identity<'a> {
    /// A client certificate and key, embedded.
    Certificate(&'a Pair),
    /// A bearer token.
    Token(&'a str),
    /// Nothing (plain HTTP, or health endpoints only).
    None,
}

/// A kubeconfig with one cluster, one user and one context `user@cluster`.
///
/// `ca_pem` is left out when empty, as for plain HTTP.
pub fn kubeconfig(server: &str, ca_pem: &str, cluster: &str, user: &str, identity: &Identity<'_>) -> String {
    let embed = |text: &str| STANDARD.encode(text);
    let authority = match ca_pem {
        "" => String::new(),
        pem => format!("    certificate-authority-data: {}\n", embed(pem)),
    };
    let proof = match identity {
        Identity::None => "  user: {}\n".to_owned(),
        Identity::Token(token) => format!("  user:\n    token: {token}\n"),
        Identity::Certificate(pair) => format!(
            "  user:\n    client-certificate-data: {}\n    client-key-data: {}\n",
            embed(&pair.cert_pem()),
            embed(&pair.key_pem())
        ),
    };
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n{authority}    server: {server}\n  name: {cluster}\n\
         contexts:\n- context:\n    cluster: {cluster}\n    user: {user}\n  name: {user}@{cluster}\n\
         current-context: {user}@{cluster}\npreferences: {{}}\nusers:\n- name: {user}\n{proof}"
    )
}
