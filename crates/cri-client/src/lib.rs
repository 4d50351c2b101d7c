//! An external runtime behind `node-api`.
