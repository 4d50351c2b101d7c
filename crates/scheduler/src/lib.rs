//! The scheduling framework, its queue and plugins.
