//! The way from a process to the API server: slow, and when faults are on, unreliable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use auth_api::UserInfo;
use client::{Body, Client, Transport, TransportError};
use futures::stream::unfold;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use rt::Shutdown;
use rt::time::Instant;

use crate::note;
use crate::server::{Api, Running};

/// Chances in 1,000.
const WRITE_FAULTS: u64 = 50;
const READ_FAULTS: u64 = 10;
const SLOW_WATCHES: u64 = 150;

/// Whether requests meet faults, and what became of those that did.
#[derive(Default)]
pub struct Weather {
    bad: AtomicBool,
    /// When creations of pods, by namespace, ended in an error although they may have been done.
    lost_pods: Mutex<Vec<(Instant, String)>>,
    requests: AtomicU64,
    faults: AtomicU64,
}

impl Weather {
    /// Turns faults on or off.
    pub fn set(&self, bad: bool) {
        self.bad.store(bad, Ordering::Relaxed);
    }

    /// Whether there are faults.
    pub fn is_bad(&self) -> bool {
        self.bad.load(Ordering::Relaxed)
    }

    /// How many creations of pods in a namespace were answered wrongly in the last while.
    pub fn lost_pods(&self, namespace: &str, within: Duration) -> usize {
        self.lost_pods.lock().iter().filter(|(at, ns)| at.elapsed() <= within && ns == namespace).count()
    }

    /// How many creations of pods in a namespace were answered wrongly at all.
    pub fn ever_lost_pods(&self, namespace: &str) -> usize {
        self.lost_pods.lock().iter().filter(|(_, ns)| ns == namespace).count()
    }

    /// Requests, and those among them that met a fault.
    pub fn counts(&self) -> (u64, u64) {
        (self.requests.load(Ordering::Relaxed), self.faults.load(Ordering::Relaxed))
    }

    fn lost(&self, method: &Method, path: &str) {
        if *method == Method::POST
            && let Some(namespace) = path.strip_prefix("/api/v1/namespaces/").and_then(|p| p.strip_suffix("/pods"))
        {
            self.lost_pods.lock().push((Instant::now(), namespace.to_owned()));
        }
    }
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    /// Answered 409 and not done.
    Conflict,
    /// Answered with this code and not done.
    Refused(u16),
    /// Not done, and the connection breaks.
    Unsent,
    /// Done, and answered with this code.
    DoneBut(u16),
    /// Done, and the connection breaks.
    AnswerLost,
}

fn fate(method: &Method) -> Fate {
    let write = *method != Method::GET;
    if rt::rand::below(1000) >= if write { WRITE_FAULTS } else { READ_FAULTS } {
        return Fate::Fine;
    }
    if !write {
        return if rt::rand::below(2) == 0 { Fate::Refused(500) } else { Fate::Unsent };
    }
    let update = *method == Method::PUT || *method == Method::PATCH;
    match rt::rand::below(if update { 10 } else { 5 }) {
        0 => Fate::Refused(500),
        1 => Fate::Unsent,
        2 => Fate::DoneBut(500),
        3 => Fate::DoneBut(504),
        4 => Fate::AnswerLost,
        _ => Fate::Conflict,
    }
}

/// One process' connection. Dead, nothing of it reaches the server any more.
pub struct Process {
    name: String,
    user: UserInfo,
    api: Arc<Api>,
    weather: Arc<Weather>,
    /// Whether faults of requests happen to it.
    exposed: bool,
    dead: Shutdown,
}

impl Process {
    /// A living process; `exposed` to faults or not.
    pub fn new(name: &str, api: &Arc<Api>, weather: &Arc<Weather>, exposed: bool) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            user: UserInfo::new(format!("system:{name}"), &[auth_api::groups::MASTERS]),
            api: api.clone(),
            weather: weather.clone(),
            exposed,
            dead: Shutdown::new(),
        })
    }

    /// A client of the process.
    pub fn client(self: &Arc<Self>) -> Client {
        Client::new(Arc::new(Wire(self.clone())), &self.name)
    }

    /// Ends it at once.
    pub fn kill(&self) {
        self.dead.cancel();
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let watch = request.uri().query().is_some_and(|q| q.contains("watch=true"));
        let fate = if self.exposed && self.weather.is_bad() { fate(&method) } else { Fate::Fine };
        self.weather.requests.fetch_add(1, Ordering::Relaxed);
        if fate != Fate::Fine {
            self.weather.faults.fetch_add(1, Ordering::Relaxed);
            note!("{} {method} {path} meets {fate:?}", self.name);
        }
        self.latency().await;
        match fate {
            Fate::Conflict => return Ok(failure(409, "Conflict")),
            Fate::Refused(code) => return Ok(failure(code, reason(code))),
            Fate::Unsent => return Err(broken("connection reset")),
            _ => {}
        }
        let Some(running) = self.api.current() else { return Err(broken("connection refused")) };
        let answer = rt::select! {
            biased;
            () = self.dead.cancelled() => Err("killed"),
            () = running.down.cancelled() => Err("connection reset by a dead server"),
            answer = running.handle.call(request, self.user.clone()) => Ok(answer),
        };
        let answer = answer.map_err(|text| {
            self.weather.lost(&method, &path);
            broken(text)
        })?;
        let code = answer.status().as_u16();
        if method != Method::GET {
            note!("{} {method} {path} {code}", self.name);
        }
        match fate {
            Fate::DoneBut(code) => {
                self.weather.lost(&method, &path);
                return Ok(failure(code, reason(code)));
            }
            Fate::AnswerLost => {
                self.weather.lost(&method, &path);
                return Err(broken("connection reset after the request"));
            }
            _ => {}
        }
        self.latency().await;
        Ok(if watch && code == 200 { answer.map(|body| self.stream(body, running)) } else { answer })
    }

    async fn latency(&self) {
        let micros = match rt::rand::below(100) {
            0..70 => 100 + rt::rand::below(900),
            70..98 => 1_000 + rt::rand::below(20_000),
            _ if self.weather.is_bad() => 50_000 + rt::rand::below(1_000_000),
            _ => 20_000,
        };
        rt::time::sleep(Duration::from_micros(micros)).await;
    }

    /// A watch's body, that ends when either side does, and in bad weather sooner or later anyway; some are slow.
    fn stream(&self, body: Body, running: Running) -> Body {
        let bad = self.exposed && self.weather.is_bad();
        let ends = Instant::now() + Duration::from_millis(2_000 + rt::rand::below(90_000));
        let state = Stream {
            body,
            dead: self.dead.clone(),
            down: running.down,
            ends: bad.then_some(ends),
            clean: rt::rand::below(2) == 0,
            slow: bad && rt::rand::below(1000) < SLOW_WATCHES,
            weather: self.weather.clone(),
            over: false,
        };
        BodyExt::boxed_unsync(StreamBody::new(unfold(state, Stream::next)))
    }
}

struct Stream {
    body: Body,
    dead: Shutdown,
    down: Shutdown,
    ends: Option<Instant>,
    clean: bool,
    slow: bool,
    weather: Arc<Weather>,
    over: bool,
}

type Frame = Result<http_body::Frame<bytes::Bytes>, Box<dyn std::error::Error + Send + Sync>>;

impl Stream {
    async fn next(mut self) -> Option<(Frame, Self)> {
        if self.over {
            return None;
        }
        let ends = self.ends;
        let cut = async move {
            match ends {
                Some(at) => rt::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let item: Option<Frame> = rt::select! {
            biased;
            () = self.dead.cancelled() => Some(Err("killed".into())),
            () = self.down.cancelled() => Some(Err("connection reset by a dead server".into())),
            () = cut => if self.clean { None } else { Some(Err("watch cut".into())) },
            frame = self.body.frame() => frame,
        };
        let item = item?;
        self.over = item.is_err();
        if self.slow && self.weather.is_bad() {
            rt::time::sleep(Duration::from_millis(rt::rand::below(3_000))).await;
        }
        Some((item, self))
    }
}

fn reason(code: u16) -> &'static str {
    if code == 504 { "Timeout" } else { "InternalError" }
}

fn broken(text: &'static str) -> TransportError {
    TransportError::new("call the API server", text)
}

fn failure(code: u16, reason: &str) -> Response<Body> {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code,
        "message": format!("simulated: {reason}"),
    });
    let mut answer = Response::new(client::body(status.to_string()));
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    answer
}

struct Wire(Arc<Process>);

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, TransportError> {
        if self.0.dead.is_cancelled() {
            return Err(broken("killed"));
        }
        self.0.exchange(request).await
    }
}
