//! Generic REST storage over `store`: strategy and watch cache.
