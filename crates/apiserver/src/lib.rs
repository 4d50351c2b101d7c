//! The API server: chain, verbs, discovery, OpenAPI.
//!
//! [`Server::start`] takes a [`Config`] whose registry has all rows and gives a [`Handle`]. Requests from sockets and from the
//! same process ([`Handle::call`]) run through one chain ([`chain`]).

mod aggregate;
pub mod assemble;
pub mod audit;
pub mod auth;
mod auth_metrics;
mod bootstrap;
mod chain;
pub mod command;
mod config;
mod custom;
mod decode;
mod discovery;
mod endpoints;
pub mod flags;
mod flow;
mod follow;
mod health;
mod impersonate;
mod kubelet;
mod metrics;
mod negotiate;
mod openapi;
mod openapi_proto;
mod ownership;
mod query;
mod reqinfo;
mod respond;
mod review;
mod route;
mod runtime_config;
pub mod sealing;
mod server;
mod stream_list;
mod sub;
mod table;
mod verbs;
mod words;
mod zpages;

pub use aggregate::LocalGroup;
pub use config::{Config, EndpointReconciler, KubeletClient, Listen, PostStart, PostStartFn};
pub use discovery::VERSION;
pub use server::{Handle, Server, StartError};
