//! `grpc.health.v1.Health/Check`: one unary call over plain HTTP/2, with its two tiny messages written by hand.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Outcome, http};

/// Asks for the health of a service.
pub async fn check(ip: &str, port: u16, service: &str, timeout: Duration) -> Outcome {
    match rt::time::timeout(timeout, call(ip, port, service)).await {
        Ok(Ok(1)) => Outcome::Success,
        Ok(Ok(status)) => Outcome::Failure(format!("service unhealthy (responded with {:?})", name(status))),
        Ok(Err(text)) => Outcome::Failure(text),
        Err(_) => Outcome::Failure(format!(
            "timeout: health rpc did not complete within {}s: rpc error: code = DeadlineExceeded desc = context deadline exceeded",
            timeout.as_secs()
        )),
    }
}

fn name(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        1 => "SERVING",
        2 => "NOT_SERVING",
        _ => "SERVICE_UNKNOWN",
    }
}

async fn call(ip: &str, port: u16, service: &str) -> Result<u64, String> {
    let refused = |e: String| format!("error: failed to connect service {ip}:{port}: {e}");
    let stream = http::dial(ip, port, Duration::from_secs(60)).await.map_err(refused)?;
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(|e| refused(e.to_string()))?;
    let authority = if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
    let request = ::http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(message(service)))
        .map_err(|e| e.to_string())?;
    let talk = async {
        let answer = sender.send_request(request).await.map_err(|e| format!("error: health rpc probe failed: {e}"))?;
        let (head, body) = answer.into_parts();
        let collected = body.collect().await.map_err(|e| format!("error: health rpc probe failed: {e}"))?;
        let trailers = collected.trailers().cloned();
        let code = trailers.as_ref().and_then(|t| t.get("grpc-status")).or_else(|| head.headers.get("grpc-status"));
        match code.and_then(|c| c.to_str().ok()) {
            Some("0") => status(&collected.to_bytes())
                .ok_or_else(|| "error: health rpc probe failed: malformed answer".to_owned()),
            Some("12") => {
                Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned())
            }
            code => {
                let text = trailers
                    .as_ref()
                    .and_then(|t| t.get("grpc-message"))
                    .and_then(|m| m.to_str().ok())
                    .unwrap_or_default();
                Err(format!(
                    "error: health rpc probe failed: rpc error: code = {} desc = {text}",
                    code.unwrap_or("unknown")
                ))
            }
        }
    };
    rt::select! {
        result = talk => result,
        // The call learns from its own side how the connection ended; here it is only driven.
        never = async { let _ = connection.await; std::future::pending().await } => never,
    }
}

/// A length-prefixed `HealthCheckRequest { service = 1 }`.
fn message(service: &str) -> Bytes {
    let mut body = BytesMut::new();
    if !service.is_empty() {
        body.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            body.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        body.put_u8(length as u8);
        body.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    framed.put(body);
    framed.freeze()
}

/// `HealthCheckResponse { status = 1 }`; an absent field is 0.
fn status(framed: &[u8]) -> Option<u64> {
    let body = framed.get(5..)?;
    match body {
        [] => Some(0),
        [0x08, value, ..] => Some(u64::from(*value)),
        _ => None,
    }
}
