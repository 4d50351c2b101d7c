//! User, attributes, and the authenticator and authorizer traits.
//!
//! Rooms that decide (`authn`, `authz`, `admission`) and the room that asks (`apiserver`) meet here.

mod attributes;
mod authenticator;
mod lookup;
mod token;
mod user;

pub use attributes::{Attributes, Authorizer, AuthorizerError, Decision, NonResourceRule, ResourceRule, Rules};
pub use authenticator::{Authenticated, AuthenticationError, Authenticator, Credentials};
pub use lookup::{Edit, Lookup, ObjectEvent};
pub use token::{BoundObject, ServiceAccountTokenIssuer, TokenClaims, TokenError};
pub use user::{UserInfo, groups, users};
