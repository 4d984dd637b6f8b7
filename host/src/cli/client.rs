//! What commands share that ask a running agent: where it is, who asks, and what its answers mean.
//!
//! An answer may be anyone's: its size is bounded, and what is shown of it is [harmless].

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::Usage;
use super::config_file::ConfigFile;
use super::screen::harmless;
use crate::admin::{Problem, TOKEN_FILE};
use crate::config::{Admin, LogstoreName, Reach, ServerTls};
use crate::environment;

/// Where an agent is if nobody says so.
const DEFAULT: &str = "http://127.0.0.1:9480";

/// Variables that stand for arguments.
const ADDRESS: &str = "WEIR_ADDRESS";
const TOKEN: &str = "WEIR_TOKEN";

/// An agent is reached in this time.
const CONNECTING: Duration = Duration::from_secs(5);

/// An agent answers in less: it gives up itself before. With compiling.
pub const SEEING: Duration = Duration::from_secs(40);
pub const CHANGING: Duration = Duration::from_secs(16 * 60);

/// Bytes of an answer; of one that says what is wrong.
const ANSWER: usize = 64 << 20;
const SAID: usize = 1 << 20;

/// Bytes of a token's file.
const TOKEN_BYTES: u64 = 64 << 10;

/// Which agent, and who asks it.
#[derive(clap::Args)]
pub struct Whom {
    #[command(flatten)]
    config: ConfigFile,
    /// The agent's admin server [env: WEIR_ADDRESS] [default: as the configuration has it, or http://127.0.0.1:9480]
    #[arg(long, value_name = "URL")]
    address: Option<String>,
    /// The operator's token or a project's, which others on this machine can see here [env: WEIR_TOKEN] [default: the
    /// operator's, if the configuration gives the address or is named, and its token can be read]
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the token in it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of who signs the agent's certificate, or of that itself [default: that of the configuration, or those that
    /// this machine trusts]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file of a certificate, where the agent wants one
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file of the certificate's key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// Asks an agent.
pub struct Client {
    runtime: Runtime,
    http: reqwest::Client,
    address: Url,
    token: Option<Token>,
}

struct Token {
    header: HeaderValue,
    /// Where it is from, for messages.
    source: String,
}

/// Why there is no answer as it was meant.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody answers, or something else does.
    #[error("{0}")]
    NoAnswer(String),
    /// What the agent says.
    #[error("{}", told(.0))]
    Refused(Box<Refused>),
}

/// What an agent says instead of an answer.
#[derive(Debug)]
pub struct Refused {
    pub status: StatusCode,
    pub problem: Problem,
}

fn told(refused: &Refused) -> String {
    let problem = &refused.problem;
    let hint = problem.hint.as_ref().map(|hint| format!("\n  hint: {}", harmless(hint))).unwrap_or_default();
    format!("{}{hint}", harmless(&problem.error))
}

impl Whom {
    /// Whose signature a server's certificate has to have.
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// A client for it.
    pub fn client(&self) -> Result<Client> {
        let named = self.address.clone().or_else(|| variable(ADDRESS));
        // Another agent's token is not for this one.
        let concerns = named.is_none() || self.config.is_given();
        let reach = if concerns { self.config.reach()? } else { None };
        self.client_of(named, reach)
    }

    /// A client that asks for no more than anybody may. The configuration may be broken: the agent may go on with the one
    /// before.
    pub fn client_of_anybody(&self) -> Result<Client> {
        let named = self.address.clone().or_else(|| variable(ADDRESS));
        let reach = if named.is_none() || self.config.is_given() { self.config.reach().ok().flatten() } else { None };
        self.client_of(named, reach)
    }

    fn client_of(&self, named: Option<String>, reach: Option<Reach>) -> Result<Client> {
        let admin = reach.as_ref().and_then(|reach| reach.admin.as_ref());
        let address = match (&named, &reach, admin) {
            (Some(named), ..) => parse_address(named)?,
            (None, None, _) => parse_address(DEFAULT)?,
            (None, Some(_), Some(admin)) => address_of(admin)?,
            (None, Some(_), None) => {
                return Err(Usage(format!(
                    "{} has no admin server: add `admin: {{ listen: 127.0.0.1:9480 }}` to it, or give --address",
                    self.config.name()
                ))
                .into());
            }
        };
        let token = self.token(reach.as_ref())?;
        if token.is_some() && address.scheme() == "http" && !is_loopback(&address) {
            return Err(Usage(format!(
                "a token would be sent to {} for others to read: use https://, or go through a tunnel to its loopback",
                shown(&address)
            ))
            .into());
        }
        Ok(Client {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            http: self.http(&address, admin.and_then(|admin| admin.tls.as_ref()))?,
            address,
            token,
        })
    }

    fn token(&self, reach: Option<&Reach>) -> Result<Option<Token>> {
        if let Some(token) = &self.token {
            return Token::new(token, "--token").map(Some);
        }
        if let Some(path) = &self.token_file {
            return Token::read(path).map(Some);
        }
        if let Some(token) = variable(TOKEN) {
            return Token::new(&token, TOKEN).map(Some);
        }
        let Some(reach) = reach else { return Ok(None) };
        let made = || crate::config::Secret::File(reach.data_dir.join(TOKEN_FILE));
        let own = reach.admin.as_ref().and_then(|admin| admin.token.clone()).unwrap_or_else(made);
        // Whoever may not read it may have no need of it: the agent says so if it is otherwise.
        Ok(match &own {
            crate::config::Secret::Value(token) => Token::new(token, &self.config.name()).ok(),
            crate::config::Secret::File(path) => Token::read(path).ok(),
        })
    }

    fn http(&self, address: &Url, own: Option<&ServerTls>) -> Result<reqwest::Client> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let _ = CryptoProvider::install_default((*provider).clone());
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECTING)
            .tcp_nodelay(true);
        if address.scheme() == "http" {
            return Ok(builder.tls_certs_only([]).build()?);
        }
        let trusted = self.ca.as_ref().or(own.map(|own| &own.cert));
        // An agent that wants a certificate of its callers may take its own.
        let own_identity = own.filter(|own| own.client_ca.is_some()).map(|own| (&own.cert, &own.key));
        let identity = self.cert.as_ref().zip(self.key.as_ref()).or(own_identity);
        match trusted {
            Some(path) => {
                let verifier = Trusted::new(certificates(path)?, &provider)?;
                let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
                let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
                let config = match identity {
                    None => config.with_no_client_auth(),
                    Some((cert, key)) => config.with_client_auth_cert(certificates(cert)?, private_key(key)?)?,
                };
                builder = builder.tls_backend_preconfigured(config);
            }
            None => {
                if let Some((cert, key)) = identity {
                    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
                    let pem = [read(cert)?, b"\n".to_vec(), read(key)?].concat();
                    let identity = reqwest::Identity::from_pem(&pem);
                    builder = builder.identity(identity.with_context(|| cert.display().to_string())?);
                }
            }
        }
        Ok(builder.build()?)
    }
}

impl Client {
    /// Where the agent is.
    pub fn address(&self) -> &str {
        shown(&self.address)
    }

    /// Asks for something.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.ask(Method::GET, path, SEEING, |request| request)
    }

    /// Has something done, with what the closure adds to the request.
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        add: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<T> {
        self.ask(Method::POST, path, CHANGING, add)
    }

    /// Has something removed.
    pub fn delete(&self, path: &str) -> Result<(), Failure> {
        self.block_on(async {
            self.open(Method::DELETE, path, Some(CHANGING), |request| request).await?;
            Ok(())
        })
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        time: Duration,
        add: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<T> {
        let answer = self.block_on(async {
            let response = self.open(method, path, Some(time), add).await?;
            self.read(response, ANSWER).await
        })?;
        serde_json::from_slice(&answer).map_err(|error| anyhow!("{}: {error}", self.strange()))
    }

    /// Asks, and gives the answer when it begins, if it is one of success.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        time: Option<Duration>,
        add: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let response = self.send(method, path, time, self.token.as_ref(), add).await?;
        if response.status().is_success() { Ok(response) } else { Err(self.refused(response).await) }
    }

    /// Asks whether the agent is well: the status and what it says. With a token that it does not know, as nobody.
    pub async fn health(&self, path: &str) -> Result<(StatusCode, Vec<u8>), Failure> {
        let mut response = self.send(Method::GET, path, None, self.token.as_ref(), |request| request).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            response = self.send(Method::GET, path, None, None, |request| request).await?;
        }
        Ok((response.status(), self.read(response, SAID).await?))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        time: Option<Duration>,
        token: Option<&Token>,
        add: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        let url = self.address.join(path).map_err(|error| Failure::NoAnswer(error.to_string()))?;
        let mut request = self.http.request(method, url);
        if let Some(time) = time {
            request = request.timeout(time);
        }
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token.header.clone());
        }
        add(request).send().await.map_err(|error| self.no_answer(&error))
    }

    /// An answer's body. One that has more bytes is none.
    pub async fn read(&self, mut response: Response, most: usize) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.no_answer(&error))? {
            if body.len() + chunk.len() > most {
                let what = format!("the answer of {} has more than {most} bytes", self.address());
                return Err(Failure::NoAnswer(what));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Waits for what this client does.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Ends without waiting for what cannot be ended, such as looking up a name.
    pub fn abandon(self) {
        self.runtime.shutdown_background();
    }

    async fn refused(&self, response: Response) -> Failure {
        let status = response.status();
        let body = match self.read(response, SAID).await {
            Ok(body) => body,
            Err(failure) => return failure,
        };
        let Ok(mut problem) = serde_json::from_slice::<Problem>(&body) else {
            return Failure::NoAnswer(format!("{}: {status}", self.strange()));
        };
        if status == StatusCode::UNAUTHORIZED {
            (problem.error, problem.hint) = self.who();
        }
        Failure::Refused(Box::new(Refused { status, problem }))
    }

    /// Why the agent does not know who asks, and what to do about it.
    fn who(&self) -> (String, Option<String>) {
        let ways = "give --token-file or WEIR_TOKEN; or -c with the agent's configuration, as whoever may read the \
                    operator's token in its data_dir";
        match &self.token {
            None => ("the agent wants a token, and there is none here".to_owned(), Some(ways.to_owned())),
            Some(token) => (format!("the agent does not know the token of {}", token.source), Some(ways.to_owned())),
        }
    }

    fn strange(&self) -> String {
        format!("what answers at {} is not weir, or another version of it", self.address())
    }

    /// Why no answer came, or not to its end.
    pub fn no_answer(&self, error: &reqwest::Error) -> Failure {
        let address = self.address();
        let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
        let root = causes.by_ref().last().map(|cause| cause.to_string()).unwrap_or_default();
        let hint = "\n  hint: is weir running, with `admin` in its configuration? --address says where";
        Failure::NoAnswer(match (error.is_timeout(), error.is_connect()) {
            (true, true) => format!("the agent at {address} is not reached: it takes too long{hint}"),
            (true, false) => format!("the agent at {address} takes too long to answer"),
            (false, true) => format!("no agent is reached at {address}: {}{hint}", harmless(&root)),
            (false, false) => format!("the agent at {address} ended the answer: {}", harmless(&root)),
        })
    }
}

/// Where an agent shows all of it.
pub const STATUS: &str = "/v1/status";

/// Where a logstore is.
pub fn logstore(name: &LogstoreName) -> String {
    format!("/v1/logstores/{name}")
}

impl Token {
    fn new(token: &str, source: &str) -> Result<Self> {
        let header = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut header =
            header.map_err(|_| Usage(format!("the token of {source} has characters that no token has")))?;
        header.set_sensitive(true);
        Ok(Token { header, source: source.to_owned() })
    }

    fn read(path: &Path) -> Result<Self> {
        use std::io::Read;
        let name = path.display().to_string();
        let mut token = String::new();
        let read = fs::File::open(path).and_then(|file| file.take(TOKEN_BYTES).read_to_string(&mut token));
        read.with_context(|| format!("reading the token in {name}"))?;
        Token::new(&token, &name)
    }
}

/// A variable that is set, and not empty.
fn variable(name: &str) -> Option<String> {
    environment::process(name).filter(|value| !value.is_empty())
}

fn parse_address(text: &str) -> Result<Url> {
    let wrong =
        |what: &str| Usage(format!("the address must be like http://127.0.0.1:9480 or https://node:9480{what}"));
    let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&url).map_err(|error| wrong(&format!(": {error}")))?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let has_user = !url.username().is_empty() || url.password().is_some();
    match matches!(url.scheme(), "http" | "https") && url.has_host() && is_bare && !has_user {
        true => Ok(url),
        false => Err(wrong(", with nothing more").into()),
    }
}

/// Where a server is reached on its own machine.
fn address_of(admin: &Admin) -> Result<Url> {
    let listen = admin.listen;
    if listen.port() == 0 {
        let what = "the configuration leaves the port to the system: give --address, which the agent's log says";
        return Err(Usage(what.to_owned()).into());
    }
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if admin.tls.is_some() { "https" } else { "http" };
    parse_address(&format!("{scheme}://{}", SocketAddr::new(ip, listen.port())))
}

fn is_loopback(address: &Url) -> bool {
    let host = address.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn shown(address: &Url) -> &str {
    address.as_str().trim_end_matches('/')
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let describe = || format!("reading the certificate {}", path.display());
    let found = CertificateDer::pem_file_iter(path).with_context(describe)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().with_context(describe)?;
    anyhow::ensure!(!found.is_empty(), "there is no certificate in {}", path.display());
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).with_context(|| format!("reading the key {}", path.display()))
}

/// Certificates that an agent may have, whatever its address; or that sign those of agents.
#[derive(Debug)]
struct Trusted {
    certificates: Vec<CertificateDer<'static>>,
    signed: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Trusted {
    fn new(certificates: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone())?;
        }
        let signed = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
        Ok(Trusted { certificates, signed, provider: provider.clone() })
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificates.iter().any(|known| known == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        self.signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(listen: &str, tls: bool) -> Admin {
        let tls = tls.then(|| ServerTls { cert: "c".into(), key: "k".into(), client_ca: None });
        Admin { listen: listen.parse().unwrap(), token: None, tls }
    }

    #[test]
    fn an_agent_is_where_it_listens() {
        let at = |listen: &str, tls| address_of(&admin(listen, tls)).map(|url| shown(&url).to_owned());
        assert_eq!(at("127.0.0.1:9480", false).unwrap(), "http://127.0.0.1:9480");
        assert_eq!(at("0.0.0.0:1", true).unwrap(), "https://127.0.0.1:1");
        assert_eq!(at("[::]:1", true).unwrap(), "https://[::1]:1");
        assert_eq!(at("10.1.2.3:80", false).unwrap(), "http://10.1.2.3");
        assert!(at("127.0.0.1:0", false).unwrap_err().to_string().contains("give --address"));
    }

    #[test]
    fn addresses_are_bare() {
        let parse = |text: &str| parse_address(text).map(|url| shown(&url).to_owned()).ok();
        assert_eq!(parse("127.0.0.1:9480").as_deref(), Some("http://127.0.0.1:9480"));
        assert_eq!(parse("https://node.example:9480/").as_deref(), Some("https://node.example:9480"));
        for wrong in ["ftp://x", "http://", "http://a:b@x", "http://x/v1", "http://x?y", "x y"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn loopback_is_known_by_any_of_its_names() {
        let is = |text: &str| is_loopback(&parse_address(text).unwrap());
        let names = ["http://localhost:1", "http://127.1.2.3:1", "http://[::1]:1", "http://[::ffff:127.0.0.1]:1"];
        assert_eq!(names.map(is), [true; 4]);
        assert_eq!(["http://10.0.0.1:1", "http://localhost.example:1", "http://[fe80::1]:1"].map(is), [false; 3]);
    }
}
