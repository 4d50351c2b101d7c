//! The seam between the kubelet and whatever runs pods: runtime, images and network.
//!
//! The operations and the meaning of every field are those of CRI v1, as plain Rust types: `runtime`, `images` and
//! `cni` implement them in process, `cri-client` over a socket to an external runtime. As in CRI, the *runtime* calls
//! the network (at [`RuntimeService::run_pod_sandbox`] and [`RuntimeService::stop_pod_sandbox`]), and the kubelet
//! learns a pod's addresses from [`PodSandboxStatus::network`].
//!
//! Architecture invariant: no Kubernetes API type, no protobuf and no IO lives here.

mod container;
mod error;
mod image;
mod network;
mod sandbox;
mod service;
mod stats;
mod stream;

pub use container::*;
pub use error::*;
pub use image::*;
pub use network::*;
pub use sandbox::*;
pub use service::*;
pub use stats::*;
pub use stream::*;
