//! Service-account issuer discovery.

use http::{Response, StatusCode};
use meta::Status;
use wire::Body;

use crate::chain::Call;
use crate::respond::bytes_response;
use crate::route::page_not_found;

/// `/.well-known/openid-configuration` and `/openid/v1/jwks`.
pub(crate) fn openid(call: &Call) -> Result<Response<Body>, Status> {
    let Some(issuer) = &call.state.config.token_issuer else { return Ok(page_not_found()) };
    let (content_type, text) = if call.info.path.starts_with("/openid") {
        ("application/jwk-set+json", issuer.jwks())
    } else {
        ("application/json", issuer.openid_configuration())
    };
    Ok(bytes_response(StatusCode::OK, content_type, text))
}
