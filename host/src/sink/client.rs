//! HTTP, as all sinks that speak it do: TLS, proxies, time limits, and what an answer's status means.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};

use super::delivery::{Again, Outcome, Scope};
use crate::config::sinks::{Auth, Network, Secret};
use crate::secret::{self, Live, Stamp};

/// Whether certificates have changed is looked at this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Bytes of an answer that says what is wrong that are read.
const MAX_ERROR: usize = 16 << 10;

/// Characters of such an answer that a reason has.
const SHOWN: usize = 500;

/// A client that is made anew when its certificates or its proxy's address change.
pub struct Client {
    network: Network,
    auth: LiveAuth,
    /// Whether all servers speak HTTP/2, also without TLS.
    is_http2: bool,
    /// Whether servers have to prove who they are.
    is_secure: bool,
    made: Mutex<Option<Made>>,
}

struct Made {
    client: reqwest::Client,
    files: Vec<Option<Stamp>>,
    looked: Instant,
}

enum LiveAuth {
    None,
    Basic(String, Live),
    Bearer(Live),
    ApiKey(Live),
}

impl Client {
    /// A client for servers that are reached by HTTP/1.1, or by HTTP/2 if TLS finds out that they speak it.
    /// Addresses begin with `url`.
    pub fn new(network: &Network, auth: &Auth, url: &str) -> Self {
        let auth = match auth {
            Auth::None => LiveAuth::None,
            Auth::Basic(user, password) => LiveAuth::Basic(user.clone(), Live::new(password)),
            Auth::Bearer(token) => LiveAuth::Bearer(Live::new(token)),
            Auth::ApiKey(key) => LiveAuth::ApiKey(Live::new(key)),
        };
        let is_secure = url.starts_with("https:");
        Client { network: network.clone(), auth, is_http2: false, is_secure, made: Mutex::default() }
    }

    /// A client for servers that speak HTTP/2.
    pub fn http2(network: &Network, auth: &Auth, url: &str) -> Self {
        Client { is_http2: true, ..Client::new(network, auth, url) }
    }

    /// The client with the certificates that there are now.
    pub fn get(&self) -> Result<reqwest::Client, String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(made) = &mut *made {
            let is_fresh = now - made.looked < LOOK_EVERY;
            if is_fresh || self.stamps() == made.files {
                made.looked = if is_fresh { made.looked } else { now };
                return Ok(made.client.clone());
            }
        }
        let files = self.stamps();
        match self.make() {
            Ok(client) => {
                *made = Some(Made { client: client.clone(), files, looked: now });
                Ok(client)
            }
            // While a file is being replaced, what was known goes on.
            Err(error) => match &mut *made {
                Some(made) => {
                    made.looked = now;
                    tracing::warn!("keeping the certificates and the proxy of before: {error}");
                    Ok(made.client.clone())
                }
                None => Err(error),
            },
        }
    }

    fn stamps(&self) -> Vec<Option<Stamp>> {
        let identity = self.network.tls.identity.iter().flat_map(|(cert, key)| [cert, key]);
        let proxy = self.network.proxy.as_ref().and_then(Secret::file);
        self.network.tls.ca.iter().chain(identity).chain(proxy).map(|path| secret::stamp(path).ok()).collect()
    }

    fn make(&self) -> Result<reqwest::Client, String> {
        install_crypto();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(self.network.timeout)
            .connect_timeout(self.network.timeout.min(Duration::from_secs(10)))
            .pool_max_idle_per_host(self.network.concurrency)
            .pool_idle_timeout(Duration::from_secs(55))
            .tcp_nodelay(true);
        if self.is_http2 {
            builder = builder.http2_prior_knowledge();
        }
        let tls = &self.network.tls;
        let read = |path: &std::path::Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        if let Some(ca) = &tls.ca {
            let certificates = reqwest::Certificate::from_pem_bundle(&read(ca)?);
            let certificates = certificates.map_err(|error| format!("{}: {error}", ca.display()))?;
            if certificates.is_empty() {
                return Err(format!("{}: there is no certificate in it", ca.display()));
            }
            builder = builder.tls_certs_only(certificates);
        } else if !self.is_secure {
            // There may be none on the machine, and none is needed.
            builder = builder.tls_certs_only([]);
        }
        if let Some((cert, key)) = &tls.identity {
            let mut pem = read(cert)?;
            pem.push(b'\n');
            pem.extend_from_slice(&read(key)?);
            let identity = reqwest::Identity::from_pem(&pem);
            let what = || format!("{} and {}", cert.display(), key.display());
            builder = builder.identity(identity.map_err(|error| format!("{}: {error}", what()))?);
        }
        if let Some(proxy) = &self.network.proxy {
            let proxy =
                reqwest::Proxy::all(&*Live::new(proxy).get()?).map_err(|_| "the proxy is no address".to_owned())?;
            builder = builder.proxy(proxy);
        }
        builder.build().map_err(|error| describe(&error))
    }

    /// The same request with the header that says who sends it.
    pub fn authorize(&self, request: RequestBuilder) -> Result<RequestBuilder, String> {
        let value = match &self.auth {
            LiveAuth::None => return Ok(request),
            LiveAuth::Basic(user, password) => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.get()?)))
            }
            LiveAuth::Bearer(token) => format!("Bearer {}", token.get()?),
            LiveAuth::ApiKey(key) => format!("ApiKey {}", key.get()?),
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| "the credentials fit in no header".to_owned())?;
        value.set_sensitive(true);
        Ok(request.header(AUTHORIZATION, value))
    }
}

/// Once for the process.
fn install_crypto() {
    // An error says that it was done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// An answer, or why there is none.
pub async fn answer(request: RequestBuilder) -> Result<Response, Outcome> {
    request.send().await.map_err(|error| no_answer(&error))
}

/// What it means that no answer came.
pub fn no_answer(error: &reqwest::Error) -> Outcome {
    let why = describe(error);
    // What never arrived concerns all; what was sent and not answered may be for what it was.
    let scope = if error.is_connect() { Scope::Destination } else { Scope::Logstore };
    let is_mistake = error.is_builder();
    Outcome::Again(Again { why, after: None, scope, is_mistake })
}

/// An error with its causes, without the address, which may have a secret in it.
fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        let what = if error.is_connect() { "connecting" } else { "the answer" };
        return format!("{what} took too long");
    }
    let mut causes: Vec<String> = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    // The last are about what happened; those before, about what was being done.
    match causes.len() {
        0 => "the request cannot be made".to_owned(),
        _ => causes.into_iter().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(": "),
    }
}

/// What a status means, if it is not one of success. `body` is the beginning of what came with it.
pub fn outcome(status: StatusCode, after: Option<Duration>, body: &str) -> Outcome {
    match status.as_u16() {
        200..=299 => Outcome::Delivered,
        408 | 425 | 429 | 500..=599 => Outcome::later(format!("the answer is {status}"), after),
        // The events are at fault, not the request.
        400 | 413 | 422 => Outcome::Refused(format!("{status}: {}", shown(body))),
        _ => Outcome::mistake(format!("the answer is {status}")),
    }
}

/// What an answer means that is judged by its status alone.
pub async fn judge(response: Response) -> Outcome {
    let (status, after) = (response.status(), retry_after(&response));
    match read(response, MAX_ERROR).await {
        Ok(body) => outcome(status, after, &String::from_utf8_lossy(&body)),
        // The status is known, and what it means does not depend on the rest; but success is what was said to the end.
        Err(outcome_of_error) if status.is_success() => outcome_of_error,
        Err(_) => outcome(status, after, ""),
    }
}

/// An answer's body, up to `max` bytes of it.
pub async fn read(mut response: Response, max: usize) -> Result<Vec<u8>, Outcome> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| no_answer(&error))? {
        body.extend_from_slice(&chunk[..chunk.len().min(max - body.len())]);
        if body.len() == max {
            break;
        }
    }
    Ok(body)
}

/// Text from outside, on one line and short.
pub fn shown(text: &str) -> String {
    let is_plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.trim().chars().take(SHOWN).map(is_plain).collect();
    if text.is_empty() { "no reason given".to_owned() } else { text }
}

/// When the server wants to be asked again: so many seconds, or a date.
pub fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Headers whose values may be secret.
pub struct Headers(Vec<(String, Live)>);

impl Headers {
    /// Of these names and values.
    pub fn new(headers: &[(String, Secret)]) -> Self {
        Headers(headers.iter().map(|(name, value)| (name.clone(), Live::new(value))).collect())
    }

    /// The same request with the headers.
    pub fn add(&self, mut request: RequestBuilder) -> Result<RequestBuilder, String> {
        for (name, value) in &self.0 {
            let value = HeaderValue::from_str(&value.get()?);
            let mut value = value.map_err(|_| format!("the header {name} has a value that fits in no header"))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        Ok(request)
    }
}

/// A text for each logstore, made once.
pub struct Rendered<T> {
    make: Box<dyn Fn(&crate::config::LogstoreName) -> T + Send + Sync>,
    made: Mutex<std::collections::HashMap<crate::config::LogstoreName, Arc<T>>>,
}

impl<T> Rendered<T> {
    /// Made by that function.
    pub fn new(make: impl Fn(&crate::config::LogstoreName) -> T + Send + Sync + 'static) -> Self {
        Rendered { make: Box::new(make), made: Mutex::default() }
    }

    /// That of the logstore.
    pub fn of(&self, target: &crate::config::LogstoreName) -> Arc<T> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(target) {
            return known.clone();
        }
        made.entry(target.clone()).or_insert(Arc::new((self.make)(target))).clone()
    }
}
