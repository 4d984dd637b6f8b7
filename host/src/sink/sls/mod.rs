//! The Log Service: PutLogs, a LogGroup a request.
//!
//! `log_group` the encoder · `signature` who sends.

mod log_group;
mod signature;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use md5::Md5;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::client::{self, Client, Rendered};
use super::delivery::{Outcome, Transport};
use super::records::{Encode, Layout};
use crate::config::LogstoreName;
use crate::config::sinks::{Auth, Compression, Signature, Sls};
use crate::secret::Live;
use log_group::LogGroups;
use signature::{Request, hex};

/// The encoder for a logstore.
pub fn encoder(sls: &Sls, target: &LogstoreName) -> Box<dyn Encode> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // The beginnings of pack IDs must be those of no other process, nor of another lane.
    let seed = xxh3_64_with_seed(format!("{host}\0{target}").as_bytes(), fastrand::u64(..));
    let topic = sls.topic.as_ref().map(|topic| topic.render(target)).unwrap_or_default();
    Box::new(LogGroups::new(&topic, sls.source.as_deref().unwrap_or(&host), sls.time_ns, seed))
}

/// Sends each payload as a request of its own.
pub struct SlsTransport {
    client: Client,
    key_id: Live,
    key_secret: Live,
    token: Option<Live>,
    signature: Signature,
    targets: Rendered<Target>,
    /// Seconds that the service's clock is ahead of this machine's.
    ahead: AtomicI64,
}

/// Where a logstore's requests go.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    url: String,
    /// As the header has it.
    host: String,
    path: String,
    /// The project, where the host doesn't say it.
    project: Option<String>,
}

impl Target {
    fn new(sls: &Sls, name: &LogstoreName) -> Target {
        let project = sls.project.render(name);
        let path = format!("/logstores/{}/shards/lb", sls.logstore.render(name));
        let endpoint = &sls.endpoint;
        // As every client does, without the scheme's own port.
        let usual = if endpoint.scheme == "https" { ":443" } else { ":80" };
        let host = endpoint.host.strip_suffix(usual).unwrap_or(&endpoint.host);
        let (host, project) = match endpoint.is_address {
            true => (host.to_owned(), Some(project)),
            false => (format!("{project}.{host}"), None),
        };
        Target { url: format!("{}://{host}{path}", endpoint.scheme), host, path, project }
    }
}

impl SlsTransport {
    /// As configured.
    pub fn new(sls: &Sls) -> Self {
        let of = sls.clone();
        SlsTransport {
            client: Client::new(&sls.network, &Auth::None, &format!("{}:", sls.endpoint.scheme)),
            key_id: Live::new(&sls.key_id),
            key_secret: Live::new(&sls.key_secret),
            token: sls.token.as_ref().map(Live::new),
            signature: sls.signature.clone(),
            targets: Rendered::new(move |name| Target::new(&of, name)),
            ahead: AtomicI64::new(0),
        }
    }

    fn request(&self, target: &LogstoreName, bytes: Bytes, layout: &Layout) -> Result<RequestBuilder, String> {
        const TYPE: &str = "application/x-protobuf";
        let target = self.targets.of(target);
        let (id, secret) = (self.key_id.get()?, self.key_secret.get()?);
        let token = self.token.as_ref().map(Live::get).transpose()?;
        let size = layout.size.to_string();
        let now = unix_time().saturating_add(self.ahead.load(Ordering::Relaxed));
        let (time, digest);
        let mut headers = vec![("x-log-apiversion", "0.6.0"), ("x-log-bodyrawsize", &*size)];
        headers.extend(token.as_deref().map(|token| ("x-acs-security-token", token)));
        headers.extend(target.project.as_deref().map(|project| ("x-log-project", project)));
        headers.extend(match layout.compression {
            Compression::Lz4 => Some(("x-log-compresstype", "lz4")),
            Compression::Zstd(_) => Some(("x-log-compresstype", "zstd")),
            _ => None,
        });
        let mut request = self.client.get()?.post(&target.url).header(CONTENT_TYPE, TYPE);
        let authorization = match &self.signature {
            Signature::V1 => {
                digest = hex(&Md5::digest(&bytes)).to_ascii_uppercase();
                time = http_date(now);
                headers.push(("x-log-signaturemethod", "hmac-sha1"));
                headers.sort_unstable();
                request = request.header(DATE, &time).header("content-md5", &digest);
                let signed = Request { method: "POST", path: &target.path, headers: &headers };
                signed.v1(&id, &secret, &digest, TYPE, &time)
            }
            Signature::V4 { region } => {
                digest = hex(&Sha256::digest(&bytes));
                time = compact_date(now);
                headers.extend([("x-log-content-sha256", &*digest), ("x-log-date", &*time)]);
                let also = [("content-type", TYPE), ("host", &*target.host)];
                let mut all: Vec<_> = headers.iter().copied().chain(also).collect();
                all.sort_unstable();
                let signed = Request { method: "POST", path: &target.path, headers: &all };
                signed.v4(&id, &secret, region, &time, &digest)
            }
        };
        let mut authorization =
            HeaderValue::try_from(authorization).map_err(|_| "the access key's ID fits in no header")?;
        authorization.set_sensitive(true);
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| format!("{name} fits in no header"))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        Ok(request.header(AUTHORIZATION, authorization).body(bytes))
    }

    async fn send_once(&self, target: &LogstoreName, bytes: Bytes, layout: &Layout) -> Result<Answer, Outcome> {
        let request = self.request(target, bytes, layout).map_err(Outcome::mistake)?;
        let response = client::answer(request).await?;
        Answer::of(response).await
    }
}

impl Transport for SlsTransport {
    fn format(&self) -> &'static str {
        "sls"
    }

    fn send<'a>(&'a self, target: &'a LogstoreName, bytes: Bytes, layout: &'a Layout) -> BoxFuture<'a, Outcome> {
        async move {
            let mut answer = match self.send_once(target, bytes.clone(), layout).await {
                Ok(answer) => answer,
                Err(outcome) => return outcome,
            };
            if let (Some(Code { class: Class::Clock, .. }), Some(date)) = (answer.code(), answer.date) {
                // Once: if that is not what is wrong, it is tried again with pauses.
                self.ahead.store(date.saturating_sub(unix_time()), Ordering::Relaxed);
                answer = match self.send_once(target, bytes, layout).await {
                    Ok(answer) => answer,
                    Err(outcome) => return outcome,
                };
            }
            answer.outcome()
        }
        .boxed()
    }
}

/// What the service says.
struct Answer {
    status: StatusCode,
    after: Option<Duration>,
    /// What its clock shows, in Unix seconds.
    date: Option<i64>,
    error: Error,
    body: Vec<u8>,
}

#[derive(Default, Deserialize)]
struct Error {
    #[serde(default, rename = "errorCode")]
    code: String,
    #[serde(default, rename = "errorMessage")]
    message: String,
}

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 16 << 10;

impl Answer {
    async fn of(response: Response) -> Result<Answer, Outcome> {
        let (status, after) = (response.status(), client::retry_after(&response));
        let date = response.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let date = date.and_then(|date| i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok());
        let body = match client::read(response, MAX_ANSWER).await {
            Ok(body) => body,
            // The status is known; but success is what was said to the end.
            Err(outcome) if status.is_success() => return Err(outcome),
            Err(_) => Vec::new(),
        };
        let error = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Answer { status, after, date, error, body })
    }

    fn code(&self) -> Option<&'static Code> {
        CODES.iter().find(|code| code.name.eq_ignore_ascii_case(&self.error.code))
    }

    fn outcome(&self) -> Outcome {
        let status = self.status;
        match self.code() {
            _ if status.is_success() => Outcome::Delivered,
            // Somebody on the way, or something new.
            None => client::outcome(status, self.after, &String::from_utf8_lossy(&self.body)),
            Some(Code { name, class }) => match class {
                Class::Later => Outcome::later(format!("the answer is {status}: {name}"), self.after),
                Class::Mistake | Class::Clock => Outcome::mistake(format!("the answer is {status}: {name}")),
                Class::Body => Outcome::Refused(format!("{name}: {}", client::shown(&self.error.message))),
            },
        }
    }
}

/// An error of the service.
struct Code {
    name: &'static str,
    class: Class,
}

#[derive(Clone, Copy)]
enum Class {
    /// Too much is sent for now, or the service is not well.
    Later,
    /// Nothing is taken before somebody sets something right.
    Mistake,
    /// The clocks differ too much.
    Clock,
    /// Something is wrong with the events.
    Body,
}

const fn code(name: &'static str, class: Class) -> Code {
    Code { name, class }
}

/// The errors that are known. No sequence numbers are sent, so `InvalidSequenceId` proves no duplicate.
const CODES: &[Code] = &[
    code("ServerBusy", Class::Later),
    code("InternalServerError", Class::Later),
    code("WriteQuotaExceed", Class::Later),
    code("ShardWriteQuotaExceed", Class::Later),
    code("RequestTimeExpired", Class::Clock),
    code("PostBodyInvalid", Class::Body),
    code("PostBodyTooLarge", Class::Body),
    code("InvalidKey", Class::Body),
    code("InvalidEncoding", Class::Body),
    code("InvalidTimestamp", Class::Body),
    code("ParameterInvalid", Class::Body),
    code("Unauthorized", Class::Mistake),
    code("SignatureNotMatch", Class::Mistake),
    code("ProjectForbidden", Class::Mistake),
    code("ProjectNotExist", Class::Mistake),
    code("LogStoreNotExist", Class::Mistake),
    code("InvalidSequenceId", Class::Mistake),
    code("PostBodyUncompressError", Class::Mistake),
    code("InvalidBodyRawSize", Class::Mistake),
    code("InvalidCompressType", Class::Mistake),
    code("InvalidDateFormat", Class::Mistake),
    code("InvalidAPIVersion", Class::Mistake),
    code("InvalidContentType", Class::Mistake),
    code("MissingContentType", Class::Mistake),
    code("MissingContentLength", Class::Mistake),
    code("MissingBodyRawSize", Class::Mistake),
    code("MissingHost", Class::Mistake),
    code("MissingDate", Class::Mistake),
    code("MissingAPIVersion", Class::Mistake),
];

fn unix_time() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

fn http_date(time: i64) -> String {
    let seconds = u64::try_from(time).unwrap_or_default();
    // The last second that has four digits for its year.
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799)))
}

/// As `20220808T032330Z`.
fn compact_date(time: i64) -> String {
    let time = jiff::Timestamp::from_second(time).unwrap_or_default().to_string();
    time.chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

#[cfg(test)]
mod tests {
    use super::super::delivery::{Again, Scope};
    use super::*;

    fn sls(keys: &str) -> Sls {
        let text = format!(
            "logstores: [{{name: shop/a.log, files: {{root: /x}}, sink: s}}]\nsinks:\n  \
             s: {{type: sls, access_key_id: i, access_key_secret: s, {keys}}}"
        );
        let config = crate::config::parse(&text, "weir.yaml", &|_| None).unwrap().config;
        match &config.sinks["s"] {
            crate::config::Sink::Sls(sls) => (**sls).clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_go_to_the_projects_host_or_to_an_address() {
        for (keys, url, host, project) in [
            (
                "endpoint: cn-hangzhou.log.aliyuncs.com",
                "https://shop.cn-hangzhou.log.aliyuncs.com/logstores/a.log/shards/lb",
                "shop.cn-hangzhou.log.aliyuncs.com",
                None,
            ),
            (
                "endpoint: 'https://cn-hangzhou.log.aliyuncs.com:443', sls_project: 'x-{project}', logstore: 'y_{logstore}'",
                "https://x-shop.cn-hangzhou.log.aliyuncs.com/logstores/y_a.log/shards/lb",
                "x-shop.cn-hangzhou.log.aliyuncs.com",
                None,
            ),
            (
                "endpoint: 'http://127.0.0.1:8080', region: r",
                "http://127.0.0.1:8080/logstores/a.log/shards/lb",
                "127.0.0.1:8080",
                Some("shop"),
            ),
            (
                "endpoint: '[::1]:80', signature: v1",
                "https://[::1]:80/logstores/a.log/shards/lb",
                "[::1]:80",
                Some("shop"),
            ),
        ] {
            let target = Target::new(&sls(keys), &"shop/a.log".parse().unwrap());
            let path = url[url.find("/logstores").unwrap()..].to_owned();
            let project = project.map(str::to_owned);
            assert_eq!(target, Target { url: url.into(), host: host.into(), path, project });
        }
    }

    #[test]
    fn errors_are_classed_by_their_codes() {
        let again = |why: &str, is_mistake| {
            Outcome::Again(Again { why: why.into(), after: None, scope: Scope::Logstore, is_mistake })
        };
        let later = |why| again(why, false);
        let mistake = |why| again(why, true);
        for (status, code, expected) in [
            (200, "", Outcome::Delivered),
            (503, "ServerBusy", later("the answer is 503 Service Unavailable: ServerBusy")),
            (500, "InternalServerError", later("the answer is 500 Internal Server Error: InternalServerError")),
            (403, "WriteQuotaExceed", later("the answer is 403 Forbidden: WriteQuotaExceed")),
            (403, "ShardWriteQuotaExceed", later("the answer is 403 Forbidden: ShardWriteQuotaExceed")),
            (401, "Unauthorized", mistake("the answer is 401 Unauthorized: Unauthorized")),
            (401, "SignatureNotMatch", mistake("the answer is 401 Unauthorized: SignatureNotMatch")),
            (403, "ProjectForbidden", mistake("the answer is 403 Forbidden: ProjectForbidden")),
            (404, "ProjectNotExist", mistake("the answer is 404 Not Found: ProjectNotExist")),
            (404, "LogStoreNotExist", mistake("the answer is 404 Not Found: LogStoreNotExist")),
            (400, "RequestTimeExpired", mistake("the answer is 400 Bad Request: RequestTimeExpired")),
            (400, "InvalidSequenceId", mistake("the answer is 400 Bad Request: InvalidSequenceId")),
            (400, "PostBodyInvalid", Outcome::Refused("PostBodyInvalid: a b".into())),
            (400, "PostBodyTooLarge", Outcome::Refused("PostBodyTooLarge: a b".into())),
            (400, "InvalidKey", Outcome::Refused("InvalidKey: a b".into())),
            (400, "ParameterInvalid", Outcome::Refused("ParameterInvalid: a b".into())),
            // What is not known is judged by its status, and not shown.
            (502, "a log's content", later("the answer is 502 Bad Gateway")),
            (403, "a log's content", mistake("the answer is 403 Forbidden")),
            (
                413,
                "",
                Outcome::Refused("413 Payload Too Large: {\"errorCode\":\"\",\"errorMessage\":\"a\\nb\"}".into()),
            ),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let body = format!("{{\"errorCode\":\"{code}\",\"errorMessage\":\"a\\nb\"}}").into_bytes();
            let error = serde_json::from_slice(&body).unwrap();
            let answer = Answer { status, after: None, date: None, error, body };
            assert_eq!(answer.outcome(), expected, "{status} {code}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(http_date(1_262_507_627), "Sun, 03 Jan 2010 08:33:47 GMT");
        assert_eq!(compact_date(1_659_929_010), "20220808T032330Z");
        for time in [i64::MIN, -1, 0, i64::MAX] {
            assert!(http_date(time).ends_with("GMT") && compact_date(time).ends_with('Z'));
        }
    }
}
