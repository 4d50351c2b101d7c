//! The commands.

pub(crate) mod demo;
pub(crate) mod down;
pub(crate) mod image;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod workshop;
