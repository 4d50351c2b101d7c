//! HTTP/1.1, HTTP/2, TLS and upgrades.
//!
//! A [`Service`] answers requests, wherever they come from: a plain or TLS listener ([`serve`]), or a function call in the
//! same process. Nothing here knows Kubernetes.

mod body;
mod dial;
mod gzip;
mod listener;
mod tls;
mod tunnel;

pub use body::{Body, BoxError, ReadError, Sender, channel, empty, full, read_all};
pub use dial::{Names, dial, resolve};
pub use gzip::{Gzip, compress};
pub use listener::{Bound, ConnInfo, Service, bind, serve};
pub use tls::{TlsConfig, TlsError, TlsSource};
pub use tunnel::{splice, upgrade};
