//! `componentstatuses`: what the API server can say of the parts around it.

use http::{Response, StatusCode};
use meta::{Object, Status};
use serde_json::{Map, json};
use wire::Body;

use crate::chain::Call;
use crate::respond;
use crate::route::Target;

/// GET of one or all.
pub(crate) async fn component_status(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let negotiated = target.negotiate(call)?;
    let healthy = call.state.registry.store().current_revision().await;
    let condition = match &healthy {
        Ok(_) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(error) => json!({"type": "Healthy", "status": "False", "message": error.to_string()}),
    };
    let mut object = Object::new(&target.gvk);
    object.set_meta_str("name", "etcd-0");
    object.body.insert("conditions".into(), json!([condition]));
    schema::codec::normalize(&mut object).map_err(Status::internal)?;
    let form = target.form(call, &negotiated);
    let shaped = match call.info.verb {
        "list" => respond::shape_list(&form, &[object], Map::new())?,
        _ if call.info.name == "etcd-0" => respond::shape_object(&form, &object, true)?,
        _ => {
            let singular = meta::GroupResource::new("", "componentstatus");
            return Err(Status::not_found(&singular, &call.info.name));
        }
    };
    let mut plain = negotiated.clone();
    if call.info.verb == "list" && plain.media == crate::negotiate::Media::Protobuf {
        plain.media = crate::negotiate::Media::Json;
    }
    respond::tree_response(call.headers(), StatusCode::OK, &plain, &shaped)
}
