//! Subresources that are more than the object through another strategy.

mod binding;
mod eviction;
mod openid;
mod proxy;
mod scale;
mod status;
mod stream;
mod token;
mod tunnel;
mod websocket;

pub(crate) use binding::{binding, binding_resource};
pub(crate) use eviction::eviction;
pub(crate) use openid::openid;
pub(crate) use proxy::{api_endpoint, proxy};
pub(crate) use scale::scale;
pub(crate) use status::component_status;
pub(crate) use stream::{escape, log, pass_through, stream, upgrade_of};
pub(crate) use token::token;
