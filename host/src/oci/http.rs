//! Requests to one repository of a registry, by the distribution specification of OCI.
//!
//! Credentials go to the registry, and to where it has tokens made; never to where it redirects to. What comes is read up
//! to a limit, within a time.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http_auth::ChallengeRef;
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use reqwest::{Body, Certificate, Client, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::time::timeout;

use super::credentials::Credentials;
use super::reference::{Digest, Reference};
use crate::sandbox::limits::COMPONENT_BYTES;

/// A registry is reached in this time, answers a small request in that, and takes or gives a plugin in the last.
const CONNECTING: Duration = Duration::from_secs(10);
const ANSWERING: Duration = Duration::from_secs(60);
const TRANSFER: Duration = Duration::from_secs(15 * 60);

/// Nothing comes for so long: nothing more will.
const STALL: Duration = Duration::from_secs(30);

/// Bytes of a manifest: what registries take.
pub(super) const MANIFEST_BYTES: u64 = 4 << 20;

/// Bytes of a token's answer; of an answer that says what is wrong.
const TOKEN: u64 = 256 << 10;
const SAID: u64 = 64 << 10;

/// Characters that are shown of such an answer.
const SHOWN: usize = 300;

/// Redirects that are followed.
const REDIRECTS: usize = 5;

/// Bytes that are sent at once; and in one request, to a registry that does not take all in one.
const PIECE: usize = 64 << 10;
const CHUNK: u64 = 4 << 20;

/// Where Docker's own registry really is, and whose repositories are there that are named without an owner.
const DOCKER: (&str, &str) = ("docker.io", "registry-1.docker.io");
const DOCKERS_OWN: &str = "library";

/// The server of a reference, and the name of its repository there.
fn place(reference: &Reference) -> (&str, String) {
    let Reference { host, repository, .. } = reference;
    match (host == DOCKER.0, repository.contains('/')) {
        (false, _) => (host, repository.clone()),
        (true, true) => (DOCKER.1, repository.clone()),
        (true, false) => (DOCKER.1, format!("{DOCKERS_OWN}/{repository}")),
    }
}

/// How a registry is reached, and by whom.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Who asks.
    pub credentials: Credentials,
    /// Without TLS, also where it is not on this machine.
    pub is_plain: bool,
    /// A file with who signs its certificate.
    pub ca: Option<PathBuf>,
}

/// Is told how many bytes of how many are done.
pub type Told = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// A repository of a registry.
pub struct Repository {
    http: Client,
    /// Ends in a slash.
    url: Url,
    /// As users write it.
    host: String,
    name: String,
    is_plain: bool,
    credentials: Credentials,
    /// What tokens are asked for: `pull`, or `pull,push`.
    actions: &'static str,
    authorization: Option<HeaderValue>,
}

impl Repository {
    /// One to read from.
    pub fn to_pull(reference: &Reference, access: Access) -> Result<Self> {
        Self::open(reference, access, "pull")
    }

    /// One to write to.
    pub fn to_push(reference: &Reference, access: Access) -> Result<Self> {
        Self::open(reference, access, "pull,push")
    }

    fn open(reference: &Reference, access: Access, actions: &'static str) -> Result<Self> {
        let host = reference.host.clone();
        let (server, name) = place(reference);
        let is_plain = access.is_plain || (reference.is_local() && access.ca.is_none());
        if is_plain && !reference.is_local() && access.credentials.account.is_some() {
            bail!("a password would be sent to {host} for others to read: leave out --plain-http");
        }
        let scheme = if is_plain { "http" } else { "https" };
        let url = Url::parse(&format!("{scheme}://{server}/v2/{name}/"))?;
        let http = client(&access, is_plain, reference.is_local())?;
        Ok(Repository {
            http,
            url,
            host,
            name,
            is_plain,
            credentials: access.credentials,
            actions,
            authorization: None,
        })
    }

    /// The registry and the name in it, as signatures have them.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.host, self.name)
    }

    /// The manifest of that tag or digest; none if there is none. Its digest is not checked yet.
    pub async fn manifest(&mut self, reference: &str, accept: &'static str) -> Result<Option<Vec<u8>>> {
        let url = self.url.join(&format!("manifests/{reference}"))?;
        let request = |http: &Client| http.get(url.clone()).header("accept", accept).timeout(ANSWERING);
        let response = self.send(request).await?;
        let response = self.follow(response).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(self.refused(response, "asked for the manifest").await),
        }
        let said = response.headers().get("docker-content-digest").cloned();
        let bytes = self.read(response, MANIFEST_BYTES, "the manifest", &none()).await?;
        let digest = Digest::of(&bytes).to_string();
        let is_same = said.is_none_or(|said| said.as_bytes() == digest.as_bytes());
        ensure!(is_same, "{} says of the manifest a digest that is not its own", self.host);
        Ok(Some(bytes))
    }

    /// Puts a manifest under a tag, or under its digest.
    pub async fn put_manifest(&mut self, reference: &str, media_type: &'static str, bytes: &Bytes) -> Result<()> {
        let url = self.url.join(&format!("manifests/{reference}"))?;
        let request = |http: &Client| {
            http.put(url.clone()).header(CONTENT_TYPE, media_type).body(bytes.clone()).timeout(ANSWERING)
        };
        let response = self.send(request).await?;
        match response.status().is_success() {
            true => Ok(()),
            false => Err(self.refused(response, "given the manifest").await),
        }
    }

    /// The blob of that digest, which has so many bytes, or nothing at all.
    pub async fn blob(&mut self, digest: &Digest, size: u64, told: &Told) -> Result<Vec<u8>> {
        let url = self.url.join(&format!("blobs/{digest}"))?;
        let response = self.send(|http| http.get(url.clone()).timeout(TRANSFER)).await?;
        let response = self.follow(response).await?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(response, "asked for a blob").await);
        }
        let bytes = self.read(response, size, "the blob", told).await?;
        let (got, host) = (bytes.len(), &self.host);
        ensure!(got as u64 == size, "{host} ends the blob {digest} after {got} bytes, and its manifest says {size}");
        ensure!(
            Digest::of(&bytes) == *digest,
            "{host} sends another blob than {digest}: it is damaged, or not what was asked for"
        );
        Ok(bytes)
    }

    /// Puts a blob there, unless it is there already.
    pub async fn put_blob(&mut self, bytes: &Bytes, told: &Told) -> Result<()> {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        let url = self.url.join(&format!("blobs/{digest}"))?;
        let status = self.send(|http| http.head(url.clone()).timeout(ANSWERING)).await?.status();
        // One that would send it from elsewhere has it.
        if status == StatusCode::OK || status.is_redirection() {
            told(size, size);
            return Ok(());
        }
        let (to, _) = self.begin_upload().await?;
        let to = with_digest(to, &digest);
        let request = |http: &Client| {
            let body = Body::wrap(StreamBody::new(pieces(bytes.clone(), told.clone())));
            let request = http.put(to.clone()).header(CONTENT_TYPE, "application/octet-stream");
            request.header(CONTENT_LENGTH, size).body(body).timeout(TRANSFER)
        };
        let response = self.send_to(&to, request).await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            StatusCode::PAYLOAD_TOO_LARGE => self.put_in_chunks(bytes, &digest, told).await,
            _ => Err(self.refused(response, "given a blob").await),
        }
    }

    async fn put_in_chunks(&mut self, bytes: &Bytes, digest: &Digest, told: &Told) -> Result<()> {
        let (mut to, least) = self.begin_upload().await?;
        let chunk = CHUNK.max(least) as usize;
        for start in (0..bytes.len()).step_by(chunk) {
            let end = bytes.len().min(start + chunk);
            let request = |http: &Client| {
                let request = http.patch(to.clone()).header(CONTENT_TYPE, "application/octet-stream");
                let request = request.header(CONTENT_RANGE, format!("{start}-{}", end - 1));
                request.body(bytes.slice(start..end)).timeout(TRANSFER)
            };
            let response = self.send_to(&to, request).await?;
            if response.status() != StatusCode::ACCEPTED {
                return Err(self.refused(response, "given a part of a blob").await);
            }
            to = self.location(&response)?;
            told(end as u64, bytes.len() as u64);
        }
        let to = with_digest(to, digest);
        let request = |http: &Client| http.put(to.clone()).header(CONTENT_LENGTH, 0).timeout(ANSWERING);
        let response = self.send_to(&to, request).await?;
        match response.status().is_success() {
            true => Ok(()),
            false => Err(self.refused(response, "given a blob in parts").await),
        }
    }

    /// Where a blob is to be put, and bytes that each part of it must have at least.
    async fn begin_upload(&mut self) -> Result<(Url, u64)> {
        let url = self.url.join("blobs/uploads/")?;
        let request = |http: &Client| http.post(url.clone()).header(CONTENT_LENGTH, 0).timeout(ANSWERING);
        let response = self.send(request).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.refused(response, "asked to take a blob").await);
        }
        let least = response.headers().get("oci-chunk-min-length").and_then(|least| least.to_str().ok()?.parse().ok());
        Ok((self.location(&response)?, least.unwrap_or(0).min(COMPONENT_BYTES)))
    }

    /// Sends a request to the registry; once more as somebody it knows, if it asks for that.
    async fn send(&mut self, make: impl Fn(&Client) -> RequestBuilder) -> Result<Response> {
        let to = self.url.clone();
        self.send_to(&to, make).await
    }

    /// The same to where the registry wants it sent to.
    async fn send_to(&mut self, to: &Url, make: impl Fn(&Client) -> RequestBuilder) -> Result<Response> {
        let is_own = to.origin() == self.url.origin();
        let response = self.answer(self.authorize(make(&self.http), is_own)).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !is_own {
            return Ok(response);
        }
        self.authorization = Some(self.authenticate(response.headers()).await?);
        let response = self.answer(self.authorize(make(&self.http), true)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            return Err(self.unknown());
        }
        Ok(response)
    }

    fn authorize(&self, request: RequestBuilder, is_own: bool) -> RequestBuilder {
        match self.authorization.clone().filter(|_| is_own) {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|error| anyhow!("{} does not answer: {}", self.host, why(error)))
    }

    /// The answer from where a registry redirects to.
    async fn follow(&self, mut response: Response) -> Result<Response> {
        for _ in 0..REDIRECTS {
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let to = self.location(&response)?;
            let is_own = to.origin() == self.url.origin();
            response = self.answer(self.authorize(self.http.get(to).timeout(TRANSFER), is_own)).await?;
        }
        match response.status().is_redirection() {
            true => bail!("{} redirects more than {REDIRECTS} times", self.host),
            false => Ok(response),
        }
    }

    /// Where an answer leads, which is not from TLS to a place without it.
    fn location(&self, response: &Response) -> Result<Url> {
        let host = &self.host;
        let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        let to = to.and_then(|to| response.url().join(to).ok());
        let to = to.with_context(|| format!("{host} does not say where to go on"))?;
        let is_sound = to.scheme() == "https" || (self.is_plain && to.scheme() == "http");
        ensure!(is_sound && to.has_host(), "{host} leads to a place without TLS, which is not followed");
        Ok(to)
    }

    /// What shows the registry who asks, in the way that it wants.
    async fn authenticate(&self, headers: &HeaderMap) -> Result<HeaderValue> {
        let values: Vec<_> = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let challenges: Vec<_> =
            values.iter().filter_map(|value| http_auth::parse_challenges(value).ok()).flatten().collect();
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
        let value = match (of("Bearer"), of("Basic")) {
            (Some(bearer), _) => format!("Bearer {}", self.token(bearer).await?),
            (None, Some(_)) => self.basic().ok_or_else(|| self.unknown())?,
            (None, None) => bail!("{} wants to know who asks, in a way that weir does not have", self.host),
        };
        secret(&value)
    }

    fn basic(&self) -> Option<String> {
        let account = self.credentials.account.as_ref()?;
        Some(format!("Basic {}", STANDARD.encode(format!("{}:{}", account.username, account.password))))
    }

    /// A token from where the challenge says.
    async fn token(&self, challenge: &ChallengeRef<'_>) -> Result<String> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(alias = "access_token")]
            token: String,
        }
        let host = &self.host;
        let param = |name: &str| {
            let found = challenge.params.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let realm = param("realm").and_then(|realm| Url::parse(&realm).ok());
        let mut realm = realm.with_context(|| format!("{host} wants a token, and does not say from where"))?;
        let is_sound = realm.scheme() == "https" || (self.is_plain && realm.scheme() == "http");
        ensure!(is_sound && realm.has_host(), "{host} wants a token from a place without TLS, which is not asked");
        let scope = param("scope").unwrap_or_else(|| format!("repository:{}:{}", self.name, self.actions));
        realm
            .query_pairs_mut()
            .append_pair("scope", &scope)
            .extend_pairs(param("service").map(|name| ("service", name)));
        let mut request = self.http.get(realm).timeout(ANSWERING);
        if let Some(basic) = self.basic() {
            request = request.header(AUTHORIZATION, secret(&basic)?);
        }
        let response = request.send().await;
        let response = response.map_err(|error| anyhow!("where {host} has tokens made: {}", why(error)))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.unknown()),
            _ => return Err(self.refused(response, "asked for a token").await),
        }
        let answer = self.read(response, TOKEN, "the token", &none()).await?;
        // Nothing of it is said: it may have a token in it.
        let answer: Answer = serde_json::from_slice(&answer).ok().with_context(|| format!("{host} gives no token"))?;
        Ok(answer.token)
    }

    /// The registry does not take who asks.
    fn unknown(&self) -> anyhow::Error {
        let host = &self.host;
        match (&self.credentials.account, &self.credentials.hint) {
            (Some(_), _) => anyhow!("{host} refuses the name and the password, or does not let them do this"),
            (None, Some(hint)) => anyhow!("{host} wants to know who asks, and {hint}"),
            (None, None) => anyhow!(
                "{host} wants to know who asks: log in with `docker login`, give --username and --password-file, or set \
                 WEIR_REGISTRY_USERNAME and WEIR_REGISTRY_PASSWORD"
            ),
        }
    }

    /// What the registry says instead of what it was to do.
    async fn refused(&self, response: Response, asked: &str) -> anyhow::Error {
        #[derive(Deserialize)]
        struct Said {
            errors: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let (host, status) = (&self.host, response.status());
        let body = self.read(response, SAID, "the answer", &none()).await.unwrap_or_default();
        let said = serde_json::from_slice::<Said>(&body).ok().and_then(|said| said.errors.into_iter().next());
        let said = said.map(|One { code, message }| format!(": {}", shown(&format!("{code} {message}"))));
        anyhow!("{host}, {asked}, answers {status}{}", said.unwrap_or_default())
    }

    /// What is sent, up to so many bytes.
    async fn read(&self, mut response: Response, most: u64, what: &str, told: &Told) -> Result<Vec<u8>> {
        let host = &self.host;
        let too_large = || anyhow!("{host} sends more than the {most} bytes that {what} may have");
        if response.content_length().is_some_and(|length| length > most) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        loop {
            let chunk = timeout(STALL, response.chunk()).await;
            let chunk = chunk.map_err(|_| anyhow!("{host} sends nothing of {what} for {} seconds", STALL.as_secs()))?;
            let chunk = chunk.map_err(|error| anyhow!("{host} ends {what} too early: {}", why(error)))?;
            let Some(chunk) = chunk else { return Ok(bytes) };
            if bytes.len() as u64 + chunk.len() as u64 > most {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
            told(bytes.len() as u64, most);
        }
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.full_name())
    }
}

/// For what nobody looks at.
pub(super) fn none() -> Told {
    Arc::new(|_, _| {})
}

fn client(access: &Access, is_plain: bool, is_local: bool) -> Result<Client> {
    // An error says that it was done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECTING)
        .tcp_nodelay(true);
    if is_local {
        builder = builder.no_proxy();
    }
    if let Some(ca) = &access.ca {
        let describe = || format!("reading the certificate {}", ca.display());
        let certificates =
            Certificate::from_pem_bundle(&fs::read(ca).with_context(describe)?).with_context(describe)?;
        ensure!(!certificates.is_empty(), "there is no certificate in {}", ca.display());
        builder = builder.tls_certs_only(certificates);
    } else if is_plain {
        // There may be none on the machine, and none is needed.
        builder = builder.tls_certs_only([]);
    }
    Ok(builder.build()?)
}

/// The bytes, piece by piece; it is told how many are sent.
fn pieces(bytes: Bytes, told: Told) -> impl stream::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync {
    let (all, sent) = (bytes.len() as u64, AtomicU64::new(0));
    let starts = (0..bytes.len()).step_by(PIECE);
    let pieces: Vec<_> = starts.map(|start| bytes.slice(start..bytes.len().min(start + PIECE))).collect();
    futures_util::StreamExt::map(stream::iter(pieces), move |piece| {
        let length = piece.len() as u64;
        told(sent.fetch_add(length, Ordering::Relaxed) + length, all);
        Ok(Frame::data(piece))
    })
}

fn with_digest(mut to: Url, digest: &Digest) -> Url {
    to.query_pairs_mut().append_pair("digest", &digest.to_string());
    to
}

fn secret(value: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(value).map_err(|_| anyhow!("the credentials fit in no header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Why there is no answer, without the address: a registry may have put a secret into it.
fn why(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "it takes too long".to_owned();
    }
    let mut cause: &dyn std::error::Error = &error.without_url();
    while let Some(source) = cause.source() {
        cause = source;
    }
    shown(&cause.to_string())
}

/// Text from outside, on one line and short.
pub(super) fn shown(text: &str) -> String {
    let is_plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(SHOWN).map(is_plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_own_repositories_have_an_owner() {
        let place = |text: &str| {
            let reference = text.parse().unwrap();
            let (server, name) = place(&reference);
            format!("{server} {name}")
        };
        assert_eq!(place("oci://docker.io/nginx:1"), "registry-1.docker.io library/nginx");
        assert_eq!(place("oci://docker.io/shop/nginx"), "registry-1.docker.io shop/nginx");
        assert_eq!(place("oci://r.example/nginx"), "r.example nginx");
    }
}
