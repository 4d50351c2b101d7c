//! Authorizers: RBAC and Node.
