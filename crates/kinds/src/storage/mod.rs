//! The group `storage.k8s.io`.

mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod storage_class;
mod volume_attachment;
mod volume_attributes_class;

use registry::KindRow;

/// The API group.
const GROUP: &str = "storage.k8s.io";

/// The rows of the group.
pub fn rows() -> Vec<KindRow> {
    vec![
        csi_driver::row(),
        csi_node::row(),
        csi_storage_capacity::row(),
        storage_class::row(),
        volume_attachment::row(),
        volume_attributes_class::row(),
    ]
}
