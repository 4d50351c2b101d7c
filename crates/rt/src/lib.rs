//! Executor, clock, randomness, hashing and shutdown: everything that `sim` replaces.
