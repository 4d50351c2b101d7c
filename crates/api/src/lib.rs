//! Typed kinds; the only user of k8s-openapi.
