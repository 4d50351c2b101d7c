//! create and update.

use async_trait::async_trait;
use http::{Response, StatusCode};
use meta::{GroupVersionKind, Object, Status};
use registry::{KindRow, Strategy, UpdateOptions, Updater};
use wire::Body;

use crate::chain::Call;
use crate::decode::{self, FieldValidation};
use crate::ownership::Tracker;
use crate::respond;
use crate::route::Target;

/// Turns a decoded object of a served version into the hub version with defaults.
pub(crate) fn served_to_hub(row: &KindRow, mut object: Object) -> Result<Object, Status> {
    row.convert_to(&mut object, &row.hub)?;
    row.strategy.default_object(&mut object);
    Ok(object)
}

/// POST of an object.
pub(crate) async fn create(call: &mut Call, target: &Target) -> Result<Response<Body>, Status> {
    let row = target.row();
    let negotiated = target.negotiate(call)?;
    if row.namespaced && target.namespace.is_empty() {
        return Err(Status::bad_request("an empty namespace may not be set during creation"));
    }
    let request = target.request(call, "CreateOptions")?;
    let validation = FieldValidation::parse(call.query.get("fieldValidation"), "CreateOptions")?;
    let bytes = decode::read(call.take_body()).await?;
    let object = decode::object(row, &target.gvk, call.headers(), &bytes, validation, &request.warnings)?;
    if let Some(trail) = &call.trail {
        trail.object(&object);
    }
    let mut object = served_to_hub(row, object)?;
    registry::ensure_namespace(&mut object, &target.namespace)?;
    registry::wipe_system_fields(&mut object);
    let tracker = Tracker::new(call, target, &*row.strategy);
    tracker.track(None, &mut object)?;
    let raw = target.resource.create(&request, object).await?;
    let mut response =
        respond::raw_response(call.headers(), StatusCode::CREATED, &target.form(call, &negotiated), &raw)?;
    respond::add_warnings(&mut response, request.warnings.take());
    Ok(response)
}

struct Put<'a> {
    object: Object,
    tracker: Tracker<'a>,
}

#[async_trait]
impl Updater for Put<'_> {
    async fn next(&self, old: Option<&Object>) -> Result<Object, Status> {
        let mut object = self.object.clone();
        self.tracker.track(old, &mut object)?;
        Ok(object)
    }
}

/// PUT of an object or an object-like subresource.
pub(crate) async fn update(
    call: &mut Call,
    target: &Target,
    strategy: &dyn Strategy,
    main: bool,
) -> Result<Response<Body>, Status> {
    let row = target.row();
    let negotiated = target.negotiate(call)?;
    let request = target.request(call, "UpdateOptions")?;
    let validation = FieldValidation::parse(call.query.get("fieldValidation"), "UpdateOptions")?;
    let bytes = decode::read(call.take_body()).await?;
    let object = decode::object(row, &target.gvk, call.headers(), &bytes, validation, &request.warnings)?;
    check_identity(&object, call, target)?;
    if let Some(trail) = &call.trail {
        trail.object(&object);
    }
    let mut object = served_to_hub(row, object)?;
    registry::ensure_namespace(&mut object, &target.namespace)?;
    let updater = Put { object, tracker: Tracker::new(call, target, strategy) };
    let options = UpdateOptions { strategy, create: false, main, admitted: false };
    let updated = target.resource.update(&request, &call.info.name, &updater, options).await?;
    let code = if updated.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = respond::raw_response(call.headers(), code, &target.form(call, &negotiated), &updated.raw)?;
    respond::add_warnings(&mut response, request.warnings.take());
    Ok(response)
}

fn check_identity(object: &Object, call: &Call, target: &Target) -> Result<(), Status> {
    let (name, wanted) = (object.name(), call.info.name.as_str());
    if name.is_empty() {
        return Err(super::patch::nameless(wanted));
    }
    if name != wanted {
        return Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({wanted})"
        )));
    }
    let (namespace, wanted) = (object.namespace(), target.namespace.as_str());
    if !namespace.is_empty() && namespace != wanted && target.row().namespaced {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// The hub object in another served version, as a copy.
pub(crate) fn in_version(row: &KindRow, object: &Object, gvk: &GroupVersionKind) -> Result<Object, Status> {
    let mut copy = object.clone();
    row.convert_to(&mut copy, gvk)?;
    Ok(copy)
}
