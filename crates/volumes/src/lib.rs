//! Volume plugins of the kubelet.
