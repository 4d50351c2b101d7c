//! HTTP or in-process transport to an API server, and kubeconfig.
