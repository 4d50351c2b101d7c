//! The API server: chain, verbs, discovery, OpenAPI.
