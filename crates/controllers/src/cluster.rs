//! Controllers of namespaces, nodes and the rest of the cluster.
