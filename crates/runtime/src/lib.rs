//! Pods and containers: supervisor, logs, exec.
