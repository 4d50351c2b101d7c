//! Flags and commands.
