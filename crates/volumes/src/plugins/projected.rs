//! `projected`: several sources in one directory, service account tokens among them.

use async_trait::async_trait;
use rt::time::Timestamp;

use super::{Plugin, downward_api, project};
use crate::k8s::authentication::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use crate::k8s::core::{ConfigMap, Secret, ServiceAccountTokenProjection, Volume, VolumeProjection};
use crate::{Error, FileProjection, Mounted, Objects, Payload, PodContext, Result, payload};

/// See the module.
pub struct Projected;

#[async_trait]
impl Plugin for Projected {
    fn name(&self) -> &'static str {
        "kubernetes.io/projected"
    }

    fn serves(&self, volume: &Volume) -> bool {
        volume.projected.is_some()
    }

    async fn set_up(&self, cx: &PodContext, volume: &Volume, objects: &dyn Objects) -> Result<Mounted> {
        let Some(source) = &volume.projected else {
            return Err(Error::Invalid("not a projected volume".to_owned()));
        };
        let mode = payload::mode(source.default_mode);
        let (mut files, mut refresh_at) = (Payload::new(), None);
        // Later sources win over earlier ones, so order must be kept; the requests themselves run together.
        let sources = source.sources.as_deref().unwrap_or_default();
        let parts = futures::future::join_all(sources.iter().map(|source| part(cx, source, mode, objects))).await;
        for part in parts {
            let (part, refresh) = part?;
            files.extend(part);
            refresh_at = [refresh_at, refresh].into_iter().flatten().min();
        }
        let mounted = project(cx, cx.memory_path("kubernetes.io~projected", &volume.name), &files)?;
        Ok(Mounted { refresh_at, ..mounted })
    }
}

async fn part(
    cx: &PodContext,
    source: &VolumeProjection,
    mode: u32,
    objects: &dyn Objects,
) -> Result<(Payload, Option<Timestamp>)> {
    if let Some(source) = &source.config_map {
        let optional = source.optional.unwrap_or(false);
        let map = match objects.config_map(cx.namespace(), &source.name).await {
            Err(error) if optional && error.is_not_found() => ConfigMap::default().into(),
            result => result?,
        };
        return Ok((payload::config_map(&map, source.items.as_deref(), mode, optional)?, None));
    }
    if let Some(source) = &source.secret {
        let optional = source.optional.unwrap_or(false);
        let secret = match objects.secret(cx.namespace(), &source.name).await {
            Err(error) if optional && error.is_not_found() => Secret::default().into(),
            result => result?,
        };
        return Ok((payload::secret(&secret, source.items.as_deref(), mode, optional)?, None));
    }
    if let Some(source) = &source.downward_api {
        return Ok((downward_api::files(cx, source.items.as_deref().unwrap_or_default(), mode)?, None));
    }
    if let Some(source) = &source.service_account_token {
        return token(cx, source, mode, objects).await;
    }
    if let Some(source) = &source.cluster_trust_bundle {
        let pem = match objects.trust_bundle(source).await {
            Err(error) if source.optional.unwrap_or(false) && error.is_not_found() => String::new(),
            result => result?,
        };
        let files = [(payload::clean(&source.path), FileProjection::new(pem.into_bytes(), mode))];
        return Ok((files.into(), None));
    }
    if source.pod_certificate.is_some() {
        return Err(Error::Unsupported("podCertificate projections are not supported".to_owned()));
    }
    Ok((Payload::new(), None))
}

async fn token(
    cx: &PodContext,
    source: &ServiceAccountTokenProjection,
    mode: u32,
    objects: &dyn Objects,
) -> Result<(Payload, Option<Timestamp>)> {
    let pod = &cx.pod;
    let account = pod.spec.as_ref().and_then(|s| s.service_account_name.as_deref()).filter(|n| !n.is_empty());
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(source.audience.iter().filter(|a| !a.is_empty()).cloned().collect()),
            expiration_seconds: Some(source.expiration_seconds.unwrap_or(3600)),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..TokenRequest::default()
    };
    let granted = objects.token(cx.namespace(), account.unwrap_or("default"), &request).await?;
    let status = granted.status.unwrap_or_default();
    let (user, group) = (cx.fs_user(), cx.fs_group());
    // With a group, its rights come from the ownership pass, which turns 0600 into 0640.
    let mode = if user.is_some() || group.is_some() { 0o600 } else { mode };
    let file = FileProjection { data: status.token.unwrap_or_default().into_bytes(), mode, user };
    let life = granted.spec.and_then(|s| s.expiration_seconds).unwrap_or(3600);
    let refresh = status.expiration_timestamp.map(|at| refresh_time(at.0, life));
    Ok(([(payload::clean(&source.path), file)].into(), refresh))
}

/// Upstream's rule: with 80 % of the life over, or a day after issue, whichever comes first.
#[must_use]
pub fn refresh_time(expires: Timestamp, life_seconds: i64) -> Timestamp {
    let life = life_seconds.max(1);
    let issued = expires.as_second().saturating_sub(life);
    let at = issued.saturating_add((life.saturating_mul(8) / 10).min(24 * 3600));
    Timestamp::from_second(at).unwrap_or(expires)
}
