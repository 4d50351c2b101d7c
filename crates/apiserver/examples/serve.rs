//! A bare API server over the memory engine on plain HTTP: `cargo run -p apiserver --example serve -- 127.0.0.1:18080`.

use std::sync::Arc;

use apiserver::{Config, Listen, Server};
use async_trait::async_trait;
use auth_api::{
    Attributes, Authenticated, AuthenticationError, Authenticator, Authorizer, AuthorizerError, Credentials, Decision,
    UserInfo,
};

struct Everybody;

#[async_trait]
impl Authenticator for Everybody {
    async fn authenticate(&self, _: &Credentials<'_>) -> Result<Option<Authenticated>, AuthenticationError> {
        let user = UserInfo::new("admin", &[auth_api::groups::MASTERS]);
        Ok(Some(Authenticated { user, audiences: Vec::new() }))
    }
}

#[async_trait]
impl Authorizer for Everybody {
    async fn authorize(&self, _: &Attributes) -> Result<(Decision, String), AuthorizerError> {
        Ok((Decision::Allow, String::new()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    telemetry::logs::init(telemetry::logs::Format::Text, 2);
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:18080".into()).parse()?;
    let shutdown = rt::Shutdown::new();
    let store = match std::env::args().nth(2) {
        Some(dir) => registry::backend::Embedded::open(dir, registry::backend::EmbeddedOptions::default()).await?,
        None => registry::backend::Embedded::memory(registry::backend::EmbeddedOptions::default())?,
    };
    let registry = registry::Registry::new(store, shutdown.clone());
    let ranges = kinds::ServiceRanges { cluster_ips: vec!["10.0.0.0/16".parse()?], node_ports: 30000..=32767 };
    for row in kinds::kinds(&kinds::Config::new(ranges)) {
        registry.add(row);
    }
    let mut config = Config::new(registry, Arc::new(Everybody), Arc::new(Everybody), shutdown.clone());
    config.listen.push(Listen { address, tls: None, insecure: false });
    config.advertise = Some("10.0.2.15:6443".parse()?);
    config.kubernetes_service_ip = Some("10.0.0.1".parse()?);
    Server::start(config).await?;
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    Ok(())
}
