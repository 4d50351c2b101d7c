//! pods, services and nodes proxy.

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use meta::{Object, Status};
use serde_json::Value;
use wire::Body;

use super::stream::{pass_through, upgrade_of};
use crate::chain::Call;
use crate::kubelet::{Backend, Peer, pass_on, strip_hop_headers};
use crate::route::Target;

/// `scheme:name:port`, where scheme and port may be left out.
struct Named<'a> {
    tls: bool,
    name: &'a str,
    port: &'a str,
}

fn split(text: &str) -> Result<Named<'_>, Status> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name] => Ok(Named { tls: false, name, port: "" }),
        [name, port] => Ok(Named { tls: false, name, port }),
        ["https", name, port] => Ok(Named { tls: true, name, port }),
        ["http" | "", name, port] => Ok(Named { tls: false, name, port }),
        _ => Err(Status::bad_request(format!("invalid proxy request {text:?}"))),
    }
}

/// Any method on NAME/proxy and below.
pub(crate) async fn proxy(call: &mut Call, target: &Target) -> Result<Response<Body>, Status> {
    let name = call.info.name.clone();
    let mut rest = if call.info.rest.is_empty() { call.query.get("path").to_owned() } else { call.info.rest.clone() };
    if rest.is_empty() && matches!(call.head.method, Method::GET | Method::HEAD) && upgrade_of(call.headers()).is_none()
    {
        return redirect(call);
    }
    if !rest.starts_with('/') {
        rest.insert(0, '/');
    }
    let backend = match target.row().plural.as_str() {
        "pods" => pod_backend(target, &name).await?,
        "services" => service_backend(call, target, &name).await?,
        _ => {
            let named = split(&name)?;
            let mut backend = call.state.kubelets.of_node(&call.state, named.name).await?;
            if let Ok(port) = named.port.parse() {
                backend.port = port;
            }
            backend
        }
    };
    let path = if call.raw_query.is_empty() { rest } else { format!("{rest}?{}", call.raw_query) };
    if upgrade_of(call.headers()).is_some() {
        return pass_through(call, &backend, &path).await;
    }
    forward(call, &backend, &path).await
}

/// As upstream, the bare path is redirected to the one with a slash, so that relative links work.
fn redirect(call: &Call) -> Result<Response<Body>, Status> {
    let query = if call.raw_query.is_empty() { String::new() } else { format!("?{}", call.raw_query) };
    let location = format!("{}/{query}", call.info.path);
    let mut response = Response::new(wire::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&location).map_err(Status::internal)?);
    Ok(response)
}

async fn pod_backend(target: &Target, name: &str) -> Result<Backend, Status> {
    let named = split(name)?;
    let pod = target.resource.get_object(&target.namespace, named.name).await?;
    let ip = pod.get_str(&["status", "podIP"]);
    if ip.is_empty() {
        return Err(Status::bad_request("address not allowed"));
    }
    let port = match named.port {
        "" => first_port(&pod).unwrap_or(80),
        text => match text.parse() {
            Ok(port) => port,
            Err(_) => named_port(&pod, text)
                .ok_or_else(|| Status::bad_request(format!("pod {} has no port {text:?}", pod.name())))?,
        },
    };
    Ok(Backend { host: ip.to_owned(), port, tls: named.tls.then_some(Peer::Pod) })
}

fn ports(pod: &Object) -> impl Iterator<Item = &Value> {
    let containers = pod.get(&["spec", "containers"]).and_then(Value::as_array);
    containers.into_iter().flatten().flat_map(|c| c["ports"].as_array().into_iter().flatten())
}

fn first_port(pod: &Object) -> Option<u16> {
    let first = ports(pod).next()?;
    u16::try_from(first["containerPort"].as_i64()?).ok()
}

fn named_port(pod: &Object, name: &str) -> Option<u16> {
    let found = ports(pod).find(|p| p["name"].as_str() == Some(name))?;
    u16::try_from(found["containerPort"].as_i64()?).ok()
}

async fn service_backend(call: &Call, target: &Target, name: &str) -> Result<Backend, Status> {
    let named = split(name)?;
    let (host, port) = service_endpoint(&call.state.registry, &target.namespace, named.name, named.port).await?;
    Ok(Backend { host, port, tls: named.tls.then_some(Peer::Pod) })
}

/// A ready endpoint of a Service's port, which may be a name, a number, or empty for the only one.
async fn service_endpoint(
    registry: &registry::Registry,
    namespace: &str,
    name: &str,
    port: &str,
) -> Result<(String, u16), Status> {
    let service = registry.need("", "services")?.get_object(namespace, name).await?;
    let all = service.get(&["spec", "ports"]).and_then(Value::as_array).cloned().unwrap_or_default();
    let wanted = all.iter().find(|p| match port {
        "" => all.len() == 1 || p["name"].as_str().unwrap_or("").is_empty(),
        text => p["name"].as_str() == Some(text) || p["port"].as_i64().map(|n| n.to_string()).as_deref() == Some(text),
    });
    let Some(wanted) = wanted else {
        return Err(Status::service_unavailable(format!("no service port {port:?} found for service {name:?}")));
    };
    let port_name = wanted["name"].as_str().unwrap_or("");
    let slices = registry.need("discovery.k8s.io", "endpointslices")?.list_cached(namespace).await?;
    let mut found = Vec::new();
    for slice in slices.iter().filter(|s| s.label("kubernetes.io/service-name") == Some(name)) {
        let ports = slice.get(&["ports"]).and_then(Value::as_array);
        let port = ports.and_then(|l| l.iter().find(|p| p["name"].as_str().unwrap_or("") == port_name));
        let Some(port) = port.and_then(|p| u16::try_from(p["port"].as_i64()?).ok()) else { continue };
        for endpoint in slice.get(&["endpoints"]).and_then(Value::as_array).into_iter().flatten() {
            if endpoint["conditions"]["ready"].as_bool() == Some(false) {
                continue;
            }
            let addresses = endpoint["addresses"].as_array().into_iter().flatten();
            found.extend(addresses.filter_map(Value::as_str).map(|a| (a.to_owned(), port)));
        }
    }
    if found.is_empty() {
        return Err(Status::service_unavailable(format!("no endpoints available for service {name:?}")));
    }
    let at = usize::try_from(rt::rand::below(found.len() as u64)).unwrap_or(0);
    Ok(found.swap_remove(at))
}

/// Where an aggregated API's service answers: as [`service_endpoint`], or the name that an ExternalName service stands for, which
/// upstream takes here but not for clients' proxy requests.
pub(crate) async fn api_endpoint(
    registry: &registry::Registry,
    namespace: &str,
    name: &str,
    port: &str,
) -> Result<(String, u16), Status> {
    let service = registry.need("", "services")?.get_object(namespace, name).await?;
    if service.get_str(&["spec", "type"]) != "ExternalName" {
        return service_endpoint(registry, namespace, name, port).await;
    }
    let number = port.parse().map_err(|_| Status::service_unavailable(format!("{port:?} is no port number")))?;
    Ok((service.get_str(&["spec", "externalName"]).to_owned(), number))
}

async fn forward(call: &mut Call, backend: &Backend, path: &str) -> Result<Response<Body>, Status> {
    let mut headers = call.head.headers.clone();
    strip_hop_headers(&mut headers, false);
    headers.remove(header::AUTHORIZATION);
    headers.remove(header::HOST);
    headers.remove(header::ACCEPT_ENCODING);
    let mut request = Request::new(call.take_body());
    *request.method_mut() = call.head.method.clone();
    *request.uri_mut() = path.parse().map_err(|e| Status::bad_request(format!("invalid proxy path: {e}")))?;
    *request.headers_mut() = headers;
    *request.version_mut() = Version::HTTP_11;
    let answer = call.state.kubelets.send(backend, request).await?;
    let mut response = pass_on(answer);
    let base = proxy_base(call);
    rewrite_location(&base, backend, &mut response);
    rewrite_page(&base, response).await
}

/// The path of the request up to and without what is passed on.
fn proxy_base(call: &Call) -> String {
    let path = &call.info.path;
    path.strip_suffix(call.info.rest.as_str()).unwrap_or(path).trim_end_matches('/').to_owned()
}

/// Pages of this size and more are passed on as they are.
const MAX_PAGE: usize = 4 * 1024 * 1024;
/// Attributes that hold links.
const LINKS: [&str; 10] =
    ["action", "background", "cite", "data", "formaction", "href", "longdesc", "manifest", "poster", "src"];

/// Absolute links of an HTML page must come back through the proxy, as upstream rewrites them.
async fn rewrite_page(base: &str, response: Response<Body>) -> Result<Response<Body>, Status> {
    if !is_plain_page(response.headers()) {
        return Ok(response);
    }
    let (mut head, body) = response.into_parts();
    let bytes = wire::read_all(body, MAX_PAGE).await.map_err(|e| Status::service_unavailable(e.to_string()))?;
    let page = match std::str::from_utf8(&bytes) {
        Ok(page) => rewrite_links(page, base).into_bytes(),
        Err(_) => bytes.to_vec(),
    };
    head.headers.insert(header::CONTENT_LENGTH, page.len().into());
    Ok(Response::from_parts(head, wire::full(page)))
}

fn is_plain_page(headers: &http::HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or("");
    let small = text(header::CONTENT_LENGTH).parse::<usize>().is_ok_and(|l| l < MAX_PAGE);
    text(header::CONTENT_TYPE).starts_with("text/html") && small && text(header::CONTENT_ENCODING).is_empty()
}

/// Puts `base` before the links of a page that begin with one slash and not with `base` already.
fn rewrite_links(page: &str, base: &str) -> String {
    let mut out = String::with_capacity(page.len() + 256);
    let mut rest = page;
    while let Some(at) = rest.find('=') {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        rest = after;
        let name = before[..at].rsplit(|c: char| c.is_whitespace() || c == '<').next().unwrap_or("").to_lowercase();
        let quote = match rest.chars().next() {
            Some(q @ ('"' | '\'')) if LINKS.contains(&name.as_str()) => q,
            _ => continue,
        };
        let link = &rest[1..];
        if link.starts_with('/') && !link.starts_with("//") && !link.starts_with(base) {
            out.push(quote);
            out.push_str(base);
            rest = link;
        }
    }
    out.push_str(rest);
    out
}

/// A redirect of the backend to itself must come back through the proxy.
fn rewrite_location(base: &str, backend: &Backend, response: &mut Response<Body>) {
    let Some(location) = response.headers().get(header::LOCATION).and_then(|v| v.to_str().ok()) else { return };
    let own =
        [format!("http://{}:{}", backend.host, backend.port), format!("https://{}:{}", backend.host, backend.port)];
    let path = match own.iter().find_map(|o| location.strip_prefix(o.as_str())) {
        Some(path) => path.to_owned(),
        None if location.starts_with('/') => location.to_owned(),
        None => return,
    };
    if let Ok(value) = HeaderValue::from_str(&format!("{base}{path}")) {
        response.headers_mut().insert(header::LOCATION, value);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn rewrites_links_of_pages() {
        let cases = [
            (r#"<a href="/rewriteme">test</a>"#, r#"<a href="/p/rewriteme">test</a>"#),
            (r#"<a href="/p/x">test</a>"#, r#"<a href="/p/x">test</a>"#),
            (r#"<a href="x">a=b</a><img src='/y'>"#, r#"<a href="x">a=b</a><img src='/p/y'>"#),
            (r#"<a href="//other/x"><b class="/z">"#, r#"<a href="//other/x"><b class="/z">"#),
        ];
        for (page, wanted) in cases {
            assert_eq!(super::rewrite_links(page, "/p"), wanted);
        }
    }
}
