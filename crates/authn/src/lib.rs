//! Authenticators: client certificates, service-account tokens, front proxy, token file, bootstrap tokens, anonymous.
//!
//! [`Config::build`] puts the enabled ones together in upstream's order. [`service_account::Tokens`] also issues tokens and
//! answers service-account issuer discovery.

mod bearer;
mod bootstrap;
mod cache;
mod front_proxy;
pub mod jwt;
pub mod service_account;
mod token_file;
mod trust;
mod union;
mod webhook;
mod x509;

pub use bearer::TokenAuthenticator;
pub use bootstrap::BootstrapTokens;
pub use front_proxy::{FrontProxy, HeaderNames};
pub use token_file::TokenFile;
pub use trust::Trust;
pub use union::{Anonymous, Config, Union};
pub use webhook::TokenWebhook;
pub use x509::ClientCertificates;

/// Extra key that names the credential of a request.
pub const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

#[cfg(test)]
mod tests;
