//! User, attributes, and the authenticator and authorizer traits.
