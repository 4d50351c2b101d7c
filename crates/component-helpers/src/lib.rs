//! Predicates, pod requests, quota evaluation and tolerations.
