//! The store's names for those who only open one and hand it to a [`crate::Registry`].

pub use store::{Embedded, EmbeddedOptions, Error, Etcd, EtcdOptions, EtcdTls, Store};
