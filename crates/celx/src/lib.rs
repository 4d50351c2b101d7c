//! CEL with the Kubernetes libraries.
