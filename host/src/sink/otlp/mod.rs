//! Collectors that take the logs of OpenTelemetry, by HTTP and by gRPC.
//!
//! `encode` log records · `grpc` unary calls · here what both share, and HTTP.

mod encode;
mod grpc;

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use prost::Message;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

pub use encode::Encoder;

use super::client::{self, Client, Headers, Rendered};
use super::delivery::{Outcome, Transport};
use super::records::{Encode, Layout};
use crate::config::LogstoreName;
use crate::config::sinks::{Otlp, Protocol};

/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 10;

/// The encoder of such a sink for a logstore.
pub fn encoder(otlp: &Otlp, logstore: &LogstoreName) -> Box<dyn Encode> {
    Box::new(Encoder::new(otlp, logstore))
}

/// Sends each payload as an `ExportLogsServiceRequest`.
pub struct OtlpTransport {
    client: Client,
    url: Rendered<String>,
    protocol: Protocol,
    headers: Headers,
    timeout: Duration,
}

impl OtlpTransport {
    /// As configured.
    pub fn new(otlp: &Otlp) -> Self {
        let (url, fixed) = (otlp.url.clone(), otlp.url.fixed());
        let (client, path) = match otlp.protocol {
            Protocol::Http => (Client::new(&otlp.network, &otlp.auth, fixed), ""),
            Protocol::Grpc => (Client::http2(&otlp.network, &otlp.auth, fixed), grpc::PATH),
        };
        OtlpTransport {
            client,
            url: Rendered::new(move |target| url.render(target) + path),
            protocol: otlp.protocol,
            headers: Headers::new(&otlp.headers),
            timeout: otlp.network.timeout,
        }
    }

    fn request(&self, target: &LogstoreName, bytes: Bytes, layout: &Layout) -> Result<reqwest::RequestBuilder, String> {
        let request = self.client.get()?.post(&*self.url.of(target));
        let request = self.headers.add(self.client.authorize(request)?)?;
        if self.protocol == Protocol::Grpc {
            return Ok(grpc::complete(request, &bytes, layout, self.timeout));
        }
        let request = request.header(CONTENT_TYPE, "application/x-protobuf");
        Ok(match layout.compression.content_encoding() {
            Some(encoding) => request.header(CONTENT_ENCODING, encoding),
            None => request,
        }
        .body(bytes))
    }
}

impl Transport for OtlpTransport {
    fn format(&self) -> &'static str {
        "otlp"
    }

    fn send<'a>(&'a self, target: &'a LogstoreName, bytes: Bytes, layout: &'a Layout) -> BoxFuture<'a, Outcome> {
        async move {
            let response = match self.request(target, bytes, layout) {
                Err(why) => return Outcome::mistake(why),
                Ok(request) => match client::answer(request).await {
                    Ok(response) => response,
                    Err(outcome) => return outcome,
                },
            };
            match self.protocol {
                Protocol::Http => judge(response, layout.events).await,
                Protocol::Grpc => grpc::judge(response, layout.events).await,
            }
        }
        .boxed()
    }
}

/// What an answer by HTTP means.
async fn judge(response: Response, events: usize) -> Outcome {
    let (status, after) = (response.status(), client::retry_after(&response));
    let is_json = is_json(response.headers());
    match client::read(response, MAX_ANSWER).await {
        Ok(body) if status.is_success() => match success(&body, is_json) {
            Some(partial) => partial.outcome(events),
            None => Outcome::mistake(format!("the answer is {status}, but not that of a collector: is `url` right?")),
        },
        Err(outcome) if status.is_success() => outcome,
        read => failure(status, after, &read.unwrap_or_default()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.trim_start().to_ascii_lowercase().starts_with("application/json")
}

fn failure(status: StatusCode, after: Option<Duration>, body: &[u8]) -> Outcome {
    // Where it is no status of Google's, as it should be, it may be text.
    let message = match Status::decode(body) {
        Ok(status) if !status.message.is_empty() => status.message,
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    client::outcome(status, after, &message)
}

/// What a collector says of records that it has not taken.
#[derive(Clone, PartialEq, Message)]
struct Partial {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

/// `ExportLogsServiceResponse`.
#[derive(Clone, PartialEq, Message)]
struct Exported {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<Partial>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

impl Partial {
    fn outcome(self, events: usize) -> Outcome {
        let reason = || client::shown(&self.message);
        match usize::try_from(self.rejected).unwrap_or_default() {
            0 => Outcome::Delivered,
            // Each by itself: nothing must be sent again.
            count if count >= events => Outcome::Partly {
                refused: (0..events as u32).map(|event| (event, reason())).collect(),
                again: Vec::new(),
            },
            count => Outcome::SomeRefused { count, reason: reason() },
        }
    }
}

/// What the body of an answer with a good status says; none if it is no collector's.
fn success(body: &[u8], is_json: bool) -> Option<Partial> {
    /// The same as JSON, where 64-bit integers are strings.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ExportedJson {
        partial_success: Option<PartialJson>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct PartialJson {
        rejected_log_records: Option<serde_json::Value>,
        error_message: Option<String>,
    }
    if body.is_empty() {
        return Some(Partial::default());
    }
    if !is_json {
        return Some(Exported::decode(body).ok()?.partial_success.unwrap_or_default());
    }
    let partial = serde_json::from_slice::<ExportedJson>(body).ok()?.partial_success;
    let Some(PartialJson { rejected_log_records: count, error_message }) = partial else {
        return Some(Partial::default());
    };
    let rejected = match count {
        None => 0,
        Some(serde_json::Value::String(count)) => count.parse().ok()?,
        Some(count) => count.as_i64()?,
    };
    Some(Partial { rejected, message: error_message.unwrap_or_default() })
}

#[cfg(test)]
mod tests;
