//! HTTP or in-process transport to an API server, and kubeconfig.
//!
//! [`Client`] speaks one identity over one [`Transport`]: a socket ([`HttpTransport`]) or a function call
//! into the API server of the same process. Callers cannot tell which. Calls are plain request and answer;
//! [`Client::watch`] yields events until the server ends the stream. Retrying is the caller's business:
//! `informer` does it for caches.

mod call;
mod error;
mod http_transport;
mod kubeconfig;
mod list;
mod transport;
mod typed;
mod watch;
mod webhook;

pub use call::{Client, DeleteOptions, PatchKind, Propagation, Resource};
pub use error::{ConfigError, Error, TransportError};
pub use http_transport::{HttpTransport, TlsIdentity};
pub use kubeconfig::{Kubeconfig, in_cluster};
pub use list::{List, ListParams};
pub use transport::{Body, Transport, body};
pub use watch::{WatchEvent, WatchParams, WatchStream};
pub use webhook::Webhook;
