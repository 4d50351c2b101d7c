//! tonic and the generated protos.
//!
//! The files in `generated` are made by tonic-prost-build from the public `.proto` files, without comments, services
//! that nobody serves or calls left out, and are checked in: no protoc and no build script. Their packages are modules
//! here under their proto names.

/// etcd's v3 API: the services `KV`, `Watch`, `Lease`, `Cluster`, `Maintenance`.
pub mod etcdserverpb {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    include!("generated/etcdserverpb.rs");
}

/// etcd's keys and events.
pub mod mvccpb {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    include!("generated/mvccpb.rs");
}

pub mod etcd_errors;
pub mod kms;

pub use prost;
pub use tonic;
