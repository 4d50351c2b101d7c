//! The embedded store served as the etcd v3 gRPC API.
