//! Unary calls of gRPC: a message in a frame each way, and a status in what comes after the answer.

use std::time::Duration;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http_body_util::BodyExt;
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, TE};
use reqwest::{Body, RequestBuilder, Response};

use super::super::client;
use super::super::delivery::Outcome;
use super::super::records::Layout;
use super::{Exported, MAX_ANSWER, Status};

/// Of the method.
pub const PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// What stands before a message: whether it is compressed, and its length.
const FRAME: usize = 5;

/// What comes with a failure that is worth another try.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// The call with its message.
pub fn complete(request: RequestBuilder, message: &Bytes, layout: &Layout, timeout: Duration) -> RequestBuilder {
    let encoding = layout.compression.content_encoding();
    let mut frame = Vec::with_capacity(FRAME + message.len());
    frame.push(u8::from(encoding.is_some()));
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    let request = request
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header("grpc-timeout", format!("{}m", timeout.as_millis()))
        .body(frame);
    match encoding {
        Some(encoding) => request.header("grpc-encoding", encoding),
        None => request,
    }
}

/// What an answer means.
pub async fn judge(response: Response, events: usize) -> Outcome {
    let (status, after) = (response.status(), client::retry_after(&response));
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !status.is_success() {
        return match client::outcome(status, after, "") {
            // Not of gRPC: of something on the way there.
            Outcome::Refused(_) if status.as_u16() != 413 => Outcome::mistake(format!("the answer is {status}")),
            outcome => outcome,
        };
    }
    if !content_type.starts_with("application/grpc") {
        return Outcome::mistake("the answer is none of gRPC: is `url` right?");
    }
    let head = response.headers().clone();
    let (message, trailers) = match read(Body::from(response)).await {
        Ok(read) => read,
        Err(outcome) => return outcome,
    };
    // With an empty answer, it may be in the head.
    let of =
        |headers: &HeaderMap| headers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    match of(&trailers).map(|code| (code, &trailers)).or_else(|| of(&head).map(|code| (code, &head))) {
        None => Outcome::later("the answer of gRPC has no status", None),
        Some((0, _)) => match message.get(FRAME..).map(Exported::decode) {
            // An answer that is compressed was not asked for.
            Some(Ok(exported)) if message[0] == 0 => exported.partial_success.unwrap_or_default().outcome(events),
            _ => Outcome::mistake("the answer is not that of a collector: is `url` right?"),
        },
        Some((code, headers)) => outcome(code, headers),
    }
}

/// The frame of an answer, as far as it is read, and what comes after it.
async fn read(mut body: Body) -> Result<(Vec<u8>, HeaderMap), Outcome> {
    let (mut message, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| client::no_answer(&error))?;
        match frame.into_data() {
            Ok(data) => {
                if message.len() + data.len() > MAX_ANSWER {
                    return Err(Outcome::mistake("the answer of gRPC has more bytes than a collector's"));
                }
                message.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok((message, trailers))
}

/// What a status means, if it is not one of success.
fn outcome(code: u32, headers: &HeaderMap) -> Outcome {
    let message = headers.get("grpc-message").map(|value| unescaped(value.as_bytes())).unwrap_or_default();
    let after = retry_delay(headers);
    let name = name(code);
    let why = format!("the answer of gRPC is {name}");
    match name {
        "INVALID_ARGUMENT" => Outcome::Refused(format!("{name}: {}", client::shown(&message))),
        // Said also of a message that is too large, which never passes: with fewer events it may.
        "RESOURCE_EXHAUSTED" if after.is_none() && is_too_large(&message) => {
            Outcome::Refused(format!("{name}: {}", client::shown(&message)))
        }
        "UNAUTHENTICATED"
        | "PERMISSION_DENIED"
        | "UNIMPLEMENTED"
        | "NOT_FOUND"
        | "ALREADY_EXISTS"
        | "FAILED_PRECONDITION" => Outcome::mistake(why),
        _ => Outcome::later(why, after),
    }
}

fn name(code: u32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(code as usize).copied().unwrap_or("no status that there is")
}

/// In the words of gRPC's libraries, for Go, C++ and Java.
fn is_too_large(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["larger than max", "exceeds maximum size", "too large"].iter().any(|words| message.contains(words))
}

/// When the server wants to be asked again.
fn retry_delay(headers: &HeaderMap) -> Option<Duration> {
    /// `google.rpc.RetryInfo`.
    #[derive(Clone, PartialEq, Message)]
    struct RetryInfo {
        #[prost(message, optional, tag = "1")]
        retry_delay: Option<Delay>,
    }
    /// `google.protobuf.Duration`.
    #[derive(Clone, PartialEq, Message)]
    struct Delay {
        #[prost(int64, tag = "1")]
        seconds: i64,
        #[prost(int32, tag = "2")]
        nanos: i32,
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let details = headers.get("grpc-status-details-bin")?;
    let details = GeneralPurpose::new(&STANDARD, config).decode(details.as_bytes()).ok()?;
    let details = Status::decode(&*details).ok()?.details;
    let info = details.iter().find(|detail| detail.type_url == RETRY_INFO)?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    let seconds = Duration::from_secs(u64::try_from(delay.seconds).ok()?);
    seconds.checked_add(Duration::from_nanos(u64::try_from(delay.nanos).ok()?))
}

/// Text in which bytes may be written as `%` and two digits.
fn unescaped(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let code =
            text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        match code {
            Some(code) if text[at] == b'%' => {
                bytes.push(code);
                at += 3;
            }
            _ => {
                bytes.push(text[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome_of(code: u32, message: &str, details: Option<&str>) -> Outcome {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-message", message.parse().unwrap());
        details.map(|details| headers.insert("grpc-status-details-bin", details.parse().unwrap()));
        outcome(code, &headers)
    }

    #[test]
    fn statuses_mean_what_the_protocol_says() {
        let why = |code| format!("the answer of gRPC is {}", name(code));
        for code in [1, 2, 4, 8, 10, 11, 13, 14, 15, 99] {
            assert_eq!(outcome_of(code, "x", None), Outcome::later(why(code), None));
        }
        for code in [5, 6, 7, 9, 12, 16] {
            assert_eq!(outcome_of(code, "x", None), Outcome::mistake(why(code)));
        }
        assert_eq!(outcome_of(3, "b%C3%A4d%0A", None), Outcome::Refused("INVALID_ARGUMENT: bäd".into()));
        let large = "grpc: received message larger than max (5 vs. 4)";
        assert_eq!(outcome_of(8, large, None), Outcome::Refused(format!("RESOURCE_EXHAUSTED: {large}")));
    }

    #[test]
    fn a_server_says_when_to_ask_again() {
        // Status { code: 14, details: [RetryInfo { retry_delay: 2.5 s }] }
        let info = b"\x0a\x08\x08\x02\x10\x80\xca\xb5\xee\x01";
        let any = [&b"\x0a\x28"[..], RETRY_INFO.as_bytes(), b"\x12\x0a", info].concat();
        let status = [&b"\x08\x0e\x1a"[..], &[any.len() as u8], &any].concat();
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(status);
        let expected = Outcome::later("the answer of gRPC is UNAVAILABLE", Some(Duration::from_millis(2500)));
        assert_eq!(outcome_of(14, "", Some(&text)), expected);
        assert_eq!(outcome_of(14, "", Some("!")), Outcome::later("the answer of gRPC is UNAVAILABLE", None));
    }
}
