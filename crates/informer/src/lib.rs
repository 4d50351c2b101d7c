//! Shared caches, indexes, work queues, leader election and event recording.
