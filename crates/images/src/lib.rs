//! Pull, verify, unpack and garbage-collect images.
