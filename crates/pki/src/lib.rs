//! Keys and certificates: authorities, leaves, requests, files in kubeadm's layout, kubeconfigs, TLS configurations.
//!
//! Entry point: [`Pki::load_or_create`]. All certificates are ECDSA P-256, whose keys are made in microseconds; RSA and P-384
//! are read where users bring them. Nothing here knows the API.

pub mod cert;
mod cluster;
mod csr;
mod der;
mod error;
pub mod files;
mod key;
mod kubeconfig;
pub mod pem;
pub mod random;
pub mod tls;

pub use cert::{Info, Pair, San, Subject, Usage};
pub use cluster::{Params, Pki};
pub use csr::Request;
pub use error::Error;
pub use key::{Algorithm, Key, PublicKey};
pub use kubeconfig::{Identity, kubeconfig};

#[cfg(test)]
mod tests;
