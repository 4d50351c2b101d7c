//! Images: names, content, unpacked layers; import, pull, removal.
//!
//! A layer is unpacked once, as a stream, into a directory that overlayfs takes as a lower; the compressed form is not
//! kept. All that is known is one small document, replaced atomically under a lock, so that several processes (a
//! running node and `corten image import`) may use one store:
//!
//! ```text
//! <store>/state.json    images and layers
//! <store>/lock          held while the state changes
//! <store>/layers/<n>/   an unpacked layer; short names, since an overlay's options must fit one page
//! <store>/uses/<user>/  one file per image that a container uses
//! <store>/registries.json  mirrors, plain HTTP, authorities (optional, written by people)
//! ```
//!
//! A layer is known by its diff id (the digest of its uncompressed archive), whatever images it is in. Every byte that
//! comes from outside is checked against its digest before an image gets a name.

mod builtin;
mod error;
mod import;
mod manifest;
mod pull;
mod reference;
mod service;
mod state;
mod store;
mod unpack;

pub use error::{Error, Result};
pub use import::Imported;
pub use pull::{Registries, Registry};
pub use reference::canonical_name;
pub use state::{ImageRecord, LayerRecord};
pub use store::Store;
