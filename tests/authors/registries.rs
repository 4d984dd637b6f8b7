//! Registries to push to and pull from: Debian's `docker-registry`, and a stand-in by the distribution specification that
//! takes nothing else, records all that is asked, and can be made to lie.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use weir::registry::hex_digest;

use crate::harness::{Done, POLL, Site};

/// Nothing here takes nearly as long on an idle machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Who may use a registry that asks.
pub const USERNAME: &str = "shop";
pub const PASSWORD: &str = "secret-secret";
/// The password, as `htpasswd -B` writes it.
const HASH: &str = "$2b$05$7rW3oDVgN4GsASYIMhRCt.cDaSuKJnUqXLPoXUzpjJ8uoMXXGYDfW";

/// Runs a command of weir with nothing of this machine's logins, and more variables.
pub fn weir(site: &Site, args: &[&str], variables: &[(&str, &str)]) -> Done {
    let mut command = site.weir(args);
    for name in ["WEIR_REGISTRY_USERNAME", "WEIR_REGISTRY_PASSWORD", "SOURCE_DATE_EPOCH"] {
        command.env_remove(name);
    }
    command.env("DOCKER_CONFIG", site.path("docker")).envs(variables.iter().copied());
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Done { status: output.status, stdout: output.stdout, stderr, peak: 0 }
}

/// The same, where all goes well: what it prints.
#[track_caller]
pub fn told(site: &Site, args: &[&str]) -> String {
    let done = weir(site, args, &[]);
    done.assert_code(0);
    assert_eq!(done.stderr, "");
    done.text().to_owned()
}

/// Debian's registry. Dropped, it ends.
pub struct Docker {
    child: Child,
    /// A host and a port.
    pub address: String,
}

impl Docker {
    /// One for everybody.
    pub fn start(site: &Site) -> Self {
        Self::start_with(site, "")
    }

    /// One for [`USERNAME`] alone.
    pub fn start_with_login(site: &Site) -> Self {
        site.write("htpasswd", format!("{USERNAME}:{HASH}\n"));
        Self::start_with(site, &format!("auth: {{ htpasswd: {{ realm: weir, path: {:?} }} }}\n", site.path("htpasswd")))
    }

    /// One with TLS, whose certificate is signed by that of the file `ca.pem`.
    pub fn start_tls(site: &Site) -> Self {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        site.write("ca.pem", ca.self_signed(&ca_key).unwrap().pem());
        let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let own = own.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
        site.write("registry.pem", own.pem());
        site.write("registry.key", key.serialize_pem());
        let (certificate, key) = (site.path("registry.pem"), site.path("registry.key"));
        let mut registry =
            Self::start_with(site, &format!("  tls: {{ certificate: {certificate:?}, key: {key:?} }}\n"));
        registry.address = registry.address.replace("127.0.0.1", "localhost");
        registry
    }

    fn start_with(site: &Site, more: &str) -> Self {
        let storage = site.path("storage");
        let storage = format!("storage: {{ filesystem: {{ rootdirectory: {storage:?} }} }}");
        site.write("registry.yml", format!("version: 0.1\n{storage}\nhttp:\n  addr: 127.0.0.1:0\n{more}"));
        let said = site.path("registry.log");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(site.path("registry.yml")).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(File::create(&said).unwrap()).spawn();
        let child = child.expect("there is no docker-registry: apt-get install docker-registry, or `make servers`");
        let mut registry = Docker { child, address: String::new() };
        let begun = Instant::now();
        while registry.address.is_empty() {
            let log = fs::read_to_string(&said).unwrap();
            if let Some((_, rest)) = log.split_once("listening on ") {
                let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
                registry.address = end.map(|end| rest[..end].to_owned()).unwrap_or_default();
            }
            assert!(registry.child.try_wait().unwrap().is_none(), "the registry ended:\n{log}");
            assert!(begun.elapsed() < DEADLINE, "the registry does not listen:\n{log}");
            thread::sleep(POLL);
        }
        registry
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the stand-in does instead of what it should; none: what it should.
type Lie = Box<dyn Fn(&Method, &str, &HeaderMap) -> Option<Response> + Send + Sync>;

/// The stand-in. Dropped, it ends.
pub struct StandIn {
    /// A host and a port.
    pub address: String,
    state: Arc<State>,
    _runtime: Runtime,
}

struct State {
    kept: Mutex<Kept>,
    /// Whether tokens are wanted, for [`USERNAME`].
    has_tokens: bool,
    /// Bytes that it takes in one request.
    most: usize,
    lie: Lie,
}

/// What a registry has.
#[derive(Default)]
pub struct Kept {
    pub blobs: BTreeMap<String, Bytes>,
    /// By tag, or digest.
    pub manifests: BTreeMap<String, Bytes>,
    uploads: HashMap<u64, Vec<u8>>,
    /// All that was asked: `GET /v2/…`.
    pub asked: Vec<String>,
}

/// The token that the stand-in gives.
const TOKEN: &str = "token-token-token";

impl StandIn {
    /// One that keeps to the specification.
    pub fn start() -> Self {
        Self::start_with(false, usize::MAX, Box::new(|_, _, _| None))
    }

    /// One that wants tokens.
    pub fn with_tokens() -> Self {
        Self::start_with(true, usize::MAX, Box::new(|_, _, _| None))
    }

    /// One that takes no more bytes than that in one request.
    pub fn with_small_requests(most: usize) -> Self {
        Self::start_with(false, most, Box::new(|_, _, _| None))
    }

    /// One that lies.
    pub fn lying(lie: impl Fn(&Method, &str, &HeaderMap) -> Option<Response> + Send + Sync + 'static) -> Self {
        Self::start_with(false, usize::MAX, Box::new(lie))
    }

    fn start_with(has_tokens: bool, most: usize, lie: Lie) -> Self {
        let state = Arc::new(State { kept: Mutex::default(), has_tokens, most, lie });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (shared, own) = (state.clone(), address.clone());
        let app = axum::Router::new().fallback(move |request: Request| answer(shared.clone(), own.clone(), request));
        runtime.spawn(async move { axum::serve(listener, app).await });
        StandIn { address, state, _runtime: runtime }
    }

    /// What it has.
    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.state.kept.lock().unwrap()
    }

    /// A manifest that it has, by its tag.
    pub fn manifest(&self, tag: &str) -> Value {
        serde_json::from_slice(&self.kept().manifests[tag]).unwrap()
    }
}

/// An error, as registries say it.
pub fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "errors": [{ "code": code, "message": message }] });
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// A manifest, as registries send it.
pub fn manifest(bytes: impl Into<Bytes>) -> Response {
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    ([(header::CONTENT_TYPE, media_type)], bytes.into()).into_response()
}

/// Bytes without an end.
pub fn endless() -> Response {
    let piece = Bytes::from(vec![b' '; 64 << 10]);
    let pieces = futures_util::stream::repeat_with(move || Ok::<_, std::convert::Infallible>(piece.clone()));
    Body::from_stream(pieces).into_response()
}

async fn answer(state: Arc<State>, address: String, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
    state.kept.lock().unwrap().asked.push(format!("{} {path}", parts.method));
    if let Some(lie) = (state.lie)(&parts.method, &path, &parts.headers) {
        return lie;
    }
    let authorization = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if state.has_tokens {
        if path == "/token" {
            return token(authorization, &query);
        }
        if authorization != Some(&format!("Bearer {TOKEN}")) {
            let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"weir,tests\"");
            return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
        }
    } else if authorization.is_some() {
        return error(StatusCode::BAD_REQUEST, "UNSUPPORTED", "nobody asked who asks");
    }
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let body = to_bytes(body, 128 << 20).await.unwrap();
    let wants_length = matches!(parts.method, Method::PUT | Method::POST | Method::PATCH);
    if wants_length && length != Some(body.len()) {
        return error(StatusCode::LENGTH_REQUIRED, "SIZE_INVALID", "Content-Length is not that of the body");
    }
    if body.len() > state.most {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let mut kept = state.kept.lock().unwrap();
    kept.answer(&parts.method, &path, &query, &parts.headers, body)
}

fn token(authorization: Option<&str>, query: &str) -> Response {
    use base64::Engine;
    let account = base64::engine::general_purpose::STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
    let mut asked: Vec<_> = query.split('&').collect();
    asked.sort();
    let is_scope = |scope: &str| {
        matches!(scope, "scope=repository%3Ateam%2Fnginx%3Apull" | "scope=repository%3Ateam%2Fnginx%3Apull%2Cpush")
    };
    match authorization == Some(&format!("Basic {account}")) {
        true if asked.len() == 2 && is_scope(asked[0]) && asked[1] == "service=weir%2Ctests" => {
            axum::Json(json!({ "access_token": TOKEN, "expires_in": 300 })).into_response()
        }
        true => error(StatusCode::BAD_REQUEST, "UNSUPPORTED", query),
        false => StatusCode::UNAUTHORIZED.into_response(),
    }
}

impl Kept {
    fn answer(&mut self, method: &Method, path: &str, query: &str, headers: &HeaderMap, body: Bytes) -> Response {
        let unknown = |code: &str| error(StatusCode::NOT_FOUND, code, "not known");
        let Some(rest) = path.strip_prefix("/v2/team/nginx/") else { return unknown("NAME_UNKNOWN") };
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if let Some(reference) = rest.strip_prefix("manifests/") {
            return match *method {
                Method::GET => match self.manifests.get(reference) {
                    Some(bytes) => manifest(bytes.clone()),
                    None => unknown("MANIFEST_UNKNOWN"),
                },
                Method::PUT => self.put_manifest(reference, content_type, body),
                _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
            };
        }
        if let Some(number) = rest.strip_prefix("blobs/uploads/") {
            return self.upload(method, number, query, headers, &body);
        }
        let Some(digest) = rest.strip_prefix("blobs/") else { return StatusCode::NOT_FOUND.into_response() };
        match (method, self.blobs.get(digest)) {
            (&Method::GET | &Method::HEAD, Some(bytes)) => bytes.clone().into_response(),
            (&Method::GET | &Method::HEAD, None) => unknown("BLOB_UNKNOWN"),
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
    }

    fn put_manifest(&mut self, reference: &str, content_type: &str, body: Bytes) -> Response {
        let digest = format!("sha256:{}", hex_digest(&body));
        let parsed: Value = serde_json::from_slice(&body).unwrap();
        let layers = parsed["layers"].as_array().unwrap().iter();
        let is_known = |one: &Value| {
            let blob = self.blobs.get(one["digest"].as_str().unwrap());
            blob.is_some_and(|blob| blob.len() as u64 == one["size"])
        };
        let is_sound = content_type == parsed["mediaType"] && parsed["schemaVersion"] == 2;
        let is_own = !reference.starts_with("sha256:") || reference == digest;
        if !is_sound || !is_own || !layers.chain([&parsed["config"]]).all(is_known) {
            return error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", "not as it must be");
        }
        self.manifests.insert(reference.to_owned(), body.clone());
        self.manifests.insert(digest, body);
        StatusCode::CREATED.into_response()
    }

    fn upload(&mut self, method: &Method, number: &str, query: &str, headers: &HeaderMap, body: &[u8]) -> Response {
        let accepted = |number: u64| {
            let location = format!("/v2/team/nginx/blobs/uploads/{number}?state=a%2Bb");
            (StatusCode::ACCEPTED, [(header::LOCATION, location)]).into_response()
        };
        if *method == Method::POST {
            let number = self.uploads.len() as u64;
            self.uploads.insert(number, Vec::new());
            return accepted(number);
        }
        let invalid = |why: &str| error(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", why);
        let Some(number) = number.parse().ok().filter(|number| self.uploads.contains_key(number)) else {
            return error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "no such upload");
        };
        let Some(digest) = query.strip_prefix("state=a%2Bb") else { return invalid("the location is another") };
        let so_far = self.uploads.get_mut(&number).unwrap();
        if *method == Method::PATCH {
            let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
            if range != Some(&format!("{}-{}", so_far.len(), so_far.len() + body.len() - 1)) {
                return invalid("the range does not go on where the last ended");
            }
            so_far.extend_from_slice(body);
            return accepted(number);
        }
        so_far.extend_from_slice(body);
        let blob = self.uploads.remove(&number).unwrap();
        let own = format!("sha256:{}", hex_digest(&blob));
        if digest != format!("&digest={}", own.replace(':', "%3A")) {
            return error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not its digest");
        }
        self.blobs.insert(own, blob.into());
        StatusCode::CREATED.into_response()
    }
}
