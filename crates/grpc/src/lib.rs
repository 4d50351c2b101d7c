//! tonic and the generated protos.
