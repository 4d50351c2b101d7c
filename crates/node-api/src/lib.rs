//! The traits and types between the kubelet and runtime, images, network and volumes.
