//! The table of routes. A route has a class of callers by construction: there is no way to add one without.
use crate::{
    access::{self, Record},
    admission::{Admission, Place},
    api,
    error::{ApiError, Result},
    host::{Card, Model},
    id,
    metrics::Statuses,
    models::{Keep, Models},
    openapi,
    options::{Limits, Options, Scope},
    page,
    responses::Responses,
    store::Store,
    trace::Tracer,
};
use axum::{
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::Response,
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq;

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Everybody, without a key: says nothing about models or requests.
    Open,
    /// Whoever has a key.
    Use,
    /// Whoever has a key of scope admin.
    Admin,
}

/// What handlers see of the server.
pub struct App {
    pub options: Options,
    pub models: Arc<Models>,
    pub admission: Arc<Admission>,
    pub stopping: AtomicBool,
    pub started: Instant,
    pub statuses: Statuses,
    /// Answers that clients may refer to.
    pub responses: Responses,
    /// Files and batches, where a folder was given for them.
    pub store: Option<Arc<Store>>,
    /// Takes spans, where a collector was named.
    pub tracer: Option<Arc<Tracer>>,
}

/// A request that has passed the door.
pub struct Call {
    pub app: Arc<App>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Behind the route's own path, where the route ends with `*`.
    pub rest: String,
    /// Behind `?`, as it came.
    pub query: String,
    pub place: Place,
    /// Whose key it showed; 0 where none is asked for.
    pub tenant: u64,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response>> + Send>>;

/// What answers, and how it takes a body.
pub enum Handler {
    /// Whole, in [`Call::body`].
    Whole(fn(Call) -> Answer),
    /// As it comes.
    Streamed(fn(Call, Upload) -> Answer),
}

/// A route: method, path, who may call it, what answers.
pub struct Route(pub Method, pub &'static str, pub Class, pub Handler);

/// A body as it comes, within its size and its time.
pub struct Upload {
    body: Limited<Body>,
    most: usize,
    /// Between two pieces.
    pause: Duration,
    end: Instant,
}

impl Upload {
    /// As fast as the largest body that is read whole, at least.
    fn new(body: Body, most: usize, limits: &Limits) -> Upload {
        let bodies = most.div_ceil(limits.body_bytes.max(1)) as u32;
        let end = Instant::now() + limits.body_time * bodies;
        Upload { body: Limited::new(body, most), most, pause: limits.body_time, end }
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// 413 for a body that is too large, 408 for one that does not come, 400 for one that ends early.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let left = self.end.saturating_duration_since(Instant::now()).min(self.pause);
            let frame = tokio::time::timeout(left, self.body.frame()).await.map_err(|_| late())?;
            match frame.transpose() {
                // Trailers say nothing.
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_) => continue,
                },
                Ok(None) => return Ok(None),
                Err(e) if e.is::<LengthLimitError>() => return Err(too_large(self.most)),
                Err(_) => return Err(early()),
            }
        }
    }
}

macro_rules! routes {
    (@whole $handler:path) => { Handler::Whole(|call| Box::pin($handler(call))) };
    (@streamed $handler:path) => { Handler::Streamed(|call, upload| Box::pin($handler(call, upload))) };
    ($($method:ident $path:literal $class:ident $body:ident $handler:path;)*) => {
        /// All routes.
        pub const ROUTES: &[Route] = &[$(Route(Method::$method, $path, Class::$class, routes!(@$body $handler))),*];
    };
}

routes! {
    GET "/" Open whole page::root;
    HEAD "/" Open whole page::root;
    GET "/assets/*" Open whole page::asset;
    HEAD "/assets/*" Open whole page::asset;
    GET "/health" Open whole api::operations::health;
    GET "/ready" Open whole api::operations::ready;
    GET "/metrics" Admin whole api::operations::metrics;
    GET "/pondera/model" Use whole api::pondera::model;
    GET "/pondera/load" Admin whole api::pondera::load;
    GET "/openapi.json" Open whole openapi::show;
    GET "/version" Use whole api::operations::version;
    POST "/tokenize" Use whole api::operations::tokenize;
    POST "/detokenize" Use whole api::operations::detokenize;
    POST "/apply-template" Use whole api::openai_chat::apply_template;
    GET "/v1/models" Use whole api::openai_models::list;
    GET "/v1/models/*" Use whole api::openai_models::show;
    POST "/v1/chat/completions" Use whole api::openai_chat::answer;
    POST "/v1/completions" Use whole api::openai_completions::answer;
    POST "/v1/responses" Use whole api::openai_responses::answer;
    GET "/v1/responses/*" Use whole api::openai_responses::show;
    DELETE "/v1/responses/*" Use whole api::openai_responses::delete;
    POST "/v1/responses/*" Use whole api::openai_responses::cancel;
    POST "/v1/embeddings" Use whole api::openai_embeddings::answer;
    POST "/v1/files" Use streamed api::openai_files::upload;
    GET "/v1/files" Use whole api::openai_files::list;
    GET "/v1/files/*" Use whole api::openai_files::show;
    DELETE "/v1/files/*" Use whole api::openai_files::delete;
    POST "/v1/batches" Use whole api::openai_batches::create;
    GET "/v1/batches" Use whole api::openai_batches::list;
    GET "/v1/batches/*" Use whole api::openai_batches::show;
    POST "/v1/batches/*" Use whole api::openai_batches::cancel;
    POST "/v1/messages" Use whole api::anthropic::answer;
    POST "/v1/messages/count_tokens" Use whole api::anthropic::count_tokens;
    POST "/api/chat" Use whole api::ollama::chat;
    POST "/api/generate" Use whole api::ollama::generate;
    POST "/api/embed" Use whole api::ollama::embed;
    POST "/api/embeddings" Use whole api::ollama::embeddings;
    POST "/api/show" Use whole api::ollama::show;
    GET "/api/tags" Use whole api::ollama::tags;
    GET "/api/ps" Use whole api::ollama::ps;
    GET "/api/version" Use whole api::ollama::version;
    POST "/api/pull" Admin whole api::ollama_store::pull;
    POST "/api/push" Admin whole api::ollama_store::refused;
    POST "/api/create" Admin whole api::ollama_store::refused;
    POST "/api/copy" Admin whole api::ollama_store::copy;
    DELETE "/api/delete" Admin whole api::ollama_store::delete;
}

/// Paths that a line of a batch may have.
const BATCHED: &[&str] = &["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"];

/// What answers a line of a batch for this path: what answers the path, which comes with it.
///
/// # Errors
/// 400 for a path that batches may not have.
#[allow(clippy::type_complexity)]
pub fn batched(path: &str) -> Result<(&'static str, fn(Call) -> Answer)> {
    let known = BATCHED.iter().find(|p| **p == path).and_then(|p| find(&Method::POST, p).ok());
    match known {
        Some((Route(_, path, _, Handler::Whole(answer)), _)) => Ok((path, *answer)),
        _ => {
            let message = format!("expected one of {}, got {:?}", BATCHED.join(", "), crate::job::short(path));
            Err(ApiError::invalid("endpoint", message))
        }
    }
}

impl App {
    /// Whom what is kept belongs to: the name of the key; empty where none is asked for.
    pub fn owner(&self, tenant: u64) -> &str {
        let place = usize::try_from(tenant).ok().and_then(|t| t.checked_sub(1));
        place.and_then(|i| self.options.keys.get(i)).map_or("", |key| &key.name)
    }

    /// The tenant of an owner; none where its key is gone.
    pub fn tenant(&self, owner: &str) -> Option<u64> {
        match self.options.keys.is_empty() {
            true => owner.is_empty().then_some(0),
            false => self.options.keys.iter().position(|k| k.name == owner).map(|i| i as u64 + 1),
        }
    }

    /// The model of that name, opened if it is not.
    ///
    /// # Errors
    /// 404 by the API's own code; 503 where it cannot be opened, or not in time.
    pub async fn model(&self, name: &str) -> Result<Arc<Model>> {
        self.model_kept(name, None).await
    }

    /// The same, to stay open for so long.
    ///
    /// # Errors
    /// As [`App::model`].
    pub async fn model_kept(&self, name: &str, keep: Option<Keep>) -> Result<Arc<Model>> {
        let model = self.models.get(name, keep);
        let model = match self.options.limits.request_time {
            Duration::ZERO => model.await,
            time => tokio::time::timeout(time, model).await.unwrap_or_else(|_| Err(busy())),
        };
        model.inspect(|m| access::model(name, &m.name))
    }

    /// What is known of the model of that name. One that was never open is opened for it.
    ///
    /// # Errors
    /// As [`App::model`].
    pub async fn card(&self, name: &str) -> Result<Arc<Card>> {
        match self.models.card(name).await? {
            Some(card) => Ok(card),
            None => Ok(self.model(name).await?.card.clone()),
        }
    }
}

fn busy() -> ApiError {
    ApiError::unavailable("other models are in use, and this one does not fit beside them")
}

/// Answers any request: the door, then the route.
pub async fn answer(app: Arc<App>, request: Request) -> Response {
    let shown = request.headers().get("x-request-id").filter(|v| v.len() <= 128).cloned();
    let name =
        shown.unwrap_or_else(|| HeaderValue::from_str(&id::random("req_")).unwrap_or(HeaderValue::from_static("req")));
    let path = request.uri().path().to_string();
    let shown = String::from_utf8_lossy(name.as_bytes());
    let record = Record::new(&app, &shown, request.method(), request.headers());
    let answered = access::scope(record.clone(), dispatch(app.clone(), request)).await;
    let mut response = answered.unwrap_or_else(|e| {
        record.failed(&e);
        e.respond(&path, name.to_str().unwrap_or(""))
    });
    app.statuses.add(response.status().as_u16());
    response.headers_mut().insert(HeaderName::from_static("x-request-id"), name);
    record.follow(response)
}

async fn dispatch(app: Arc<App>, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let (route, rest) = find(&parts.method, path)?;
    access::routed(route.1, route.2);
    let query = parts.uri.query().unwrap_or_default().to_string();
    if route.2 == Class::Open {
        // Whoever asks whether the server lives sends nothing and is never turned away.
        let (body, place) = (Bytes::new(), Place::default());
        let call = Call { app: app.clone(), headers: parts.headers, body, rest, query, place, tenant: 0 };
        return match route.3 {
            Handler::Whole(answer) => answer(call).await,
            Handler::Streamed(answer) => answer(call, Upload::new(Body::empty(), 0, &app.options.limits)).await,
        };
    }
    same_site(&app.options, &parts.headers)?;
    let tenant = permit(&app.options, route.2, &parts.headers)?;
    access::permitted(app.owner(tenant));
    if app.stopping.load(SeqCst) {
        return Err(ApiError::unavailable("the server is stopping"));
    }
    // A body that says its length is refused before it is read; one that does not counts as the largest.
    let said = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    let limits = app.options.limits;
    let most = match route.3 {
        Handler::Whole(_) => limits.body_bytes,
        Handler::Streamed(_) => limits.file_bytes + FORM_BYTES,
    };
    if said.is_some_and(|n| n > most) {
        return Err(too_large(most));
    }
    let unsaid = if parts.headers.contains_key(header::TRANSFER_ENCODING) { most } else { 0 };
    let call =
        |body, place| Call { app: app.clone(), headers: parts.headers.clone(), body, rest, query, place, tenant };
    match route.3 {
        Handler::Whole(answer) => {
            let place = app.admission.enter(said.unwrap_or(unsaid), &limits)?;
            let body = read(body, most, limits.body_time).await?;
            answer(call(body, place)).await
        }
        Handler::Streamed(answer) => {
            let place = app.admission.enter(said.unwrap_or(unsaid).min(STREAMED_BYTES), &limits)?;
            answer(call(Bytes::new(), place), Upload::new(body, most, &limits)).await
        }
    }
}

/// What a form takes beside the file in it.
const FORM_BYTES: usize = 64 << 10;
/// What of a streamed body is in memory at once: what the connection read, what the disk has not taken.
const STREAMED_BYTES: usize = 4 << 20;

/// The route of a path. `*` at a route's end stands for one segment or more.
fn find(method: &Method, path: &str) -> Result<(&'static Route, String)> {
    let mut known = false;
    for route in ROUTES {
        let rest = match route.1.strip_suffix('*') {
            Some(head) => path.strip_prefix(head).filter(|rest| !rest.is_empty()),
            None => (route.1 == path).then_some(""),
        };
        if let Some(rest) = rest {
            known = true;
            if route.0 == method {
                return Ok((route, rest.to_string()));
            }
        }
    }
    Err(match known {
        true => ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not a method of this path")),
        false => ApiError::new(StatusCode::NOT_FOUND, "there is no such path").code("not_found"),
    })
}

/// A page of another site must not drive this server through a visitor's browser.
fn same_site(options: &Options, headers: &HeaderMap) -> Result<()> {
    let ours = |host: &str| {
        let host =
            host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(h, _)| h);
        let address = options.address.ip().to_string();
        let local = ["localhost", "127.0.0.1", "[::1]", &address, &format!("[{address}]")]
            .iter()
            .any(|h| h.eq_ignore_ascii_case(host));
        local || options.hosts.iter().any(|h| h == "*" || h.eq_ignore_ascii_case(host))
    };
    let text = |name: HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("\u{0}").to_string());
    // A page that was led here by a forged name cannot show a key.
    if let Some(host) = text(header::HOST).filter(|_| options.keys.is_empty())
        && !ours(&host)
    {
        return Err(
            ApiError::new(StatusCode::FORBIDDEN, "this server does not answer to that Host").code("host_not_allowed")
        );
    }
    if let Some(origin) = text(header::ORIGIN) {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !host.is_some_and(ours) {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "this server does not answer to that Origin")
                .code("origin_not_allowed"));
        }
    }
    Ok(())
}

fn permit(options: &Options, class: Class, headers: &HeaderMap) -> Result<u64> {
    if class == Class::Open || options.keys.is_empty() {
        return Ok(0);
    }
    let bearer = headers.get(header::AUTHORIZATION).and_then(|v| bearer(v.to_str().ok()?));
    let shown = bearer.or_else(|| headers.get("x-api-key")?.to_str().ok());
    let unknown = || ApiError::new(StatusCode::UNAUTHORIZED, "the key is missing or not known").code("invalid_api_key");
    let shown = shown.ok_or_else(unknown)?;
    // All keys are compared, and all of each, so that time tells nothing.
    let mut found = None;
    for (i, key) in options.keys.iter().enumerate() {
        if bool::from(key.secret.as_bytes().ct_eq(shown.as_bytes())) {
            found = Some((key.scope, i as u64 + 1));
        }
    }
    match (found.ok_or_else(unknown)?, class) {
        ((Scope::Use, _), Class::Admin) => {
            Err(ApiError::new(StatusCode::FORBIDDEN, "this key does not open this route"))
        }
        ((_, tenant), _) => Ok(tenant),
    }
}

/// The secret of `Bearer …`; the scheme's letters are of any case.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(secret)
}

fn too_large(most: usize) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {most} bytes"))
}

fn early() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "the body ended early")
}

fn late() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
}

async fn read(body: Body, most: usize, time: Duration) -> Result<Bytes> {
    let whole = tokio::time::timeout(time, Limited::new(body, most).collect()).await;
    match whole {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large(most)),
        Ok(Err(_)) => Err(early()),
        Err(_) => Err(late()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Key;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn other_sites_and_hosts_are_kept_out() {
        let mut options = Options::new("127.0.0.1:8080".parse().unwrap());
        let ok = |o: &Options, list: &[(&'static str, &str)]| same_site(o, &headers(list)).is_ok();
        for good in ["localhost", "localhost:8080", "127.0.0.1:9", "[::1]:8080"] {
            assert!(ok(&options, &[("host", good)]), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "localhost:x"] {
            assert!(!ok(&options, &[("host", bad)]), "{bad}");
        }
        for bad in ["http://evil.example", "null", "file://", "https://evil.example:8080", "localhost"] {
            assert!(!ok(&options, &[("host", "localhost"), ("origin", bad)]), "{bad}");
        }
        assert!(ok(&options, &[("host", "localhost"), ("origin", "http://localhost:3000")]));
        options.hosts.push("box.example".into());
        assert!(ok(&options, &[("host", "box.example:80"), ("origin", "https://box.example")]));
    }

    #[test]
    fn keys_open_what_their_scope_says() {
        let mut options = Options::new("127.0.0.1:8080".parse().unwrap());
        assert!(permit(&options, Class::Admin, &headers(&[])).is_ok());
        let key = |secret: &str, scope| Key { name: "k".into(), secret: secret.into(), scope };
        options.keys = vec![key("use", Scope::Use), key("admin", Scope::Admin)];
        let status = |class, list: &[(&'static str, &str)]| {
            permit(&options, class, &headers(list)).map_err(|e| e.status.as_u16()).err()
        };
        assert_eq!(status(Class::Open, &[]), None);
        assert_eq!(status(Class::Use, &[]), Some(401));
        assert_eq!(status(Class::Use, &[("authorization", "Bearer us")]), Some(401));
        assert_eq!(status(Class::Use, &[("authorization", "Bearer use")]), None);
        assert_eq!(status(Class::Use, &[("x-api-key", "use")]), None);
        assert_eq!(status(Class::Admin, &[("x-api-key", "use")]), Some(403));
        assert_eq!(status(Class::Admin, &[("x-api-key", "admin")]), None);
    }

    #[test]
    fn paths_have_their_routes() {
        assert_eq!(find(&Method::GET, "/v1/models/org/name").unwrap().1, "org/name");
        assert_eq!(find(&Method::GET, "/v1/chat/completions").err().unwrap().status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(find(&Method::GET, "/v1/models/").err().unwrap().status, StatusCode::NOT_FOUND);
        assert_eq!(find(&Method::POST, "/etc/passwd").err().unwrap().status, StatusCode::NOT_FOUND);
    }
}
