//! ClickHouse, by its HTTP interface: each payload is an `INSERT` of JSON objects.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::header::CONTENT_ENCODING;
use reqwest::{RequestBuilder, Response, StatusCode, Url};

use super::client::{self, Client, Headers, Rendered};
use super::delivery::{Outcome, Transport};
use super::ndjson::{Ndjson, Style, TagsAs};
use super::records::{Encode, Layout};
use crate::config::LogstoreName;
use crate::config::sinks::{Auth, ClickHouse, ColumnOfTags, Secret};

/// Bytes of an answer that are read: success says nothing, and failure not much.
const MAX_ANSWER: usize = 16 << 10;

/// The encoder of such a sink.
pub fn encoder(sink: &ClickHouse) -> Box<dyn Encode> {
    Box::new(Ndjson::with(Style {
        time: sink.time_field.clone(),
        tags_as: match sink.tags {
            ColumnOfTags::Map => TagsAs::Object,
            ColumnOfTags::String => TagsAs::Text,
        },
        names_are_unique: true,
        ..Style::default()
    }))
}

/// Sends each payload as the data of a query.
pub struct InsertTransport {
    client: Client,
    /// None, if it is no address.
    url: Rendered<Option<Url>>,
    headers: Headers,
}

impl InsertTransport {
    /// As configured.
    pub fn new(sink: &ClickHouse) -> Self {
        let (user, key) = (sink.user.clone(), sink.password.clone());
        let user = user.or(key.is_some().then(|| "default".to_owned())).map(Secret::Value);
        let headers = [("X-ClickHouse-User", user), ("X-ClickHouse-Key", key)];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let config = sink.clone();
        InsertTransport {
            client: Client::new(&sink.network, &Auth::None, &sink.url),
            url: Rendered::new(move |target| insert_url(&config, target)),
            headers: Headers::new(&headers.collect::<Vec<_>>()),
        }
    }

    fn request(&self, target: &LogstoreName, bytes: Bytes, layout: &Layout) -> Result<RequestBuilder, String> {
        let url = self.url.of(target);
        let url = url.as_ref().as_ref().ok_or("the `url` is no address")?;
        let request = self.headers.add(self.client.get()?.post(url.clone()))?;
        Ok(match layout.compression.content_encoding() {
            Some(encoding) => request.header(CONTENT_ENCODING, encoding),
            None => request,
        }
        .body(bytes))
    }
}

impl Transport for InsertTransport {
    fn format(&self) -> &'static str {
        "clickhouse"
    }

    fn send<'a>(&'a self, target: &'a LogstoreName, bytes: Bytes, layout: &'a Layout) -> BoxFuture<'a, Outcome> {
        async move {
            match self.request(target, bytes, layout) {
                Err(why) => Outcome::mistake(why),
                Ok(request) => match client::answer(request).await {
                    Ok(response) => judge(response).await,
                    Err(outcome) => outcome,
                },
            }
        }
        .boxed()
    }
}

fn insert_url(sink: &ClickHouse, target: &LogstoreName) -> Option<Url> {
    let names = sink.database.iter().chain([&sink.table]).map(|name| quoted(&name.render(target)));
    let query = format!("INSERT INTO {} FORMAT JSONEachRow", names.collect::<Vec<_>>().join("."));
    let mut url = Url::parse(&sink.url).ok()?;
    let own = [
        ("input_format_skip_unknown_fields", "1"),
        // RFC 3339.
        ("date_time_input_format", "best_effort"),
    ];
    let gathers: &[_] = match sink.async_insert {
        Some(true) => &[("async_insert", "1"), ("wait_for_async_insert", "1")],
        Some(false) => &[("async_insert", "0")],
        None => &[],
    };
    let is_not_given = |(name, _): &(&str, &str)| !sink.settings.iter().any(|(given, _)| given == name);
    // Else success could be said before all is done.
    url.query_pairs_mut().append_pair("query", &query).append_pair("wait_end_of_query", "1");
    url.query_pairs_mut().extend_pairs(own.iter().chain(gathers).copied().filter(is_not_given));
    url.query_pairs_mut().extend_pairs(&sink.settings);
    Some(url)
}

/// An identifier of SQL.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

async fn judge(response: Response) -> Outcome {
    let (status, after) = (response.status(), client::retry_after(&response));
    let header = response.headers().get("x-clickhouse-exception-code");
    let code = header.and_then(|code| code.to_str().ok()?.trim().parse().ok());
    match client::read(response, MAX_ANSWER).await {
        Ok(body) => outcome(status, code, after, &String::from_utf8_lossy(&body)),
        Err(_) if code.is_some() || !status.is_success() => outcome(status, code, after, ""),
        Err(outcome) => outcome,
    }
}

/// What an answer means. A code says more than a status, which may have been sent before something failed.
fn outcome(status: StatusCode, code: Option<u32>, after: Option<Duration>, body: &str) -> Outcome {
    match code.or_else(|| code_in(body)) {
        Some(code) => exception(code, after, body),
        None if !status.is_success() => client::outcome(status, after, body),
        None if body.trim().is_empty() => Outcome::Delivered,
        None => Outcome::mistake("the answer is not one of ClickHouse"),
    }
}

/// The code of an exception that an answer tells of: `Code: 27. DB::Exception: …`.
fn code_in(body: &str) -> Option<u32> {
    let at = match body.starts_with("Code: ") {
        true => 0,
        false => body[..body.find("DB::Exception")?].rfind("Code: ")?,
    };
    let rest = &body[at + "Code: ".len()..];
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// What an exception of ClickHouse means, by its code; see its `src/Common/ErrorCodes.cpp`.
fn exception(code: u32, after: Option<Duration>, body: &str) -> Outcome {
    let refused = || Outcome::Refused(format!("code {code}: {}", client::shown(body)));
    let later = |why: &str| Outcome::later(format!("ClickHouse's code {code}: {why}"), after);
    let mistake = |why: &str| Outcome::mistake(format!("ClickHouse's code {code}: {why}"));
    match code {
        // What an event has in it cannot be read as its column's type, or breaks the table's rules.
        6
        | 25..=27
        | 33
        | 34
        | 38
        | 41
        | 53
        | 69
        | 70
        | 72
        | 117
        | 128
        | 130
        | 131
        | 190
        | 321
        | 349
        | 376
        | 407
        | 441
        | 467
        | 469
        | 675
        | 676
        | 691 => refused(),
        // Too many partitions for one insert: fewer events have fewer.
        252 if body.contains("Too many partitions") => refused(),
        252 => later("the table has too many parts"),
        241 | 173 => later("no memory"),
        202 => later("too many queries at once"),
        201 => later("the quota is used up"),
        159 | 160 | 209 => later("it took too long"),
        242 => later("the table is read-only"),
        243 => later("no space on the disk"),
        394 | 236 => later("the query was cancelled"),
        225 | 999 => later("its keeper is not reached"),
        3 | 203 | 210 | 279 | 285 | 286 | 319 | 425 | 439 | 668 | 677 => later("it cannot now"),
        60 => mistake("the table is not there"),
        81 => mistake("the database is not there"),
        192..=194 | 516 => mistake("the user or the password is wrong"),
        497 => mistake("the user may not insert into the table"),
        164 => mistake("the user may only read"),
        115 => mistake("it does not know a setting"),
        _ => mistake("see its list of error codes"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::delivery::{Again, Scope};
    use super::*;
    use crate::config;

    fn sink(keys: &str) -> ClickHouse {
        let text = format!(
            "logstores: [{{name: a/b-c, files: {{root: /x}}, sink: s}}]\nsinks: {{s: {{type: clickhouse, {keys}}}}}\n"
        );
        match config::parse(&text, "/weir.yaml", &|_| None).unwrap().config.sinks.remove("s") {
            Some(config::Sink::ClickHouse(sink)) => *sink,
            other => panic!("{other:?}"),
        }
    }

    fn query(keys: &str) -> Vec<(String, String)> {
        let url = insert_url(&sink(keys), &"a/b-c".parse().unwrap()).unwrap();
        url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }

    #[test]
    fn a_query_names_the_table_and_has_settings() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let insert = "INSERT INTO `a`.`b-c_raw` FORMAT JSONEachRow";
        assert_eq!(
            query("url: 'http://c/', database: '{project}', table: '{logstore}_raw', async_insert: true"),
            pairs(&[
                ("query", insert),
                ("wait_end_of_query", "1"),
                ("input_format_skip_unknown_fields", "1"),
                ("date_time_input_format", "best_effort"),
                ("async_insert", "1"),
                ("wait_for_async_insert", "1"),
            ])
        );
        assert_eq!(
            query("url: 'http://c/', table: 'a`\\b', settings: {input_format_skip_unknown_fields: 0, max_threads: 1}"),
            pairs(&[
                ("query", "INSERT INTO `a\\`\\\\b` FORMAT JSONEachRow"),
                ("wait_end_of_query", "1"),
                ("date_time_input_format", "best_effort"),
                ("input_format_skip_unknown_fields", "0"),
                ("max_threads", "1"),
            ])
        );
    }

    #[test]
    fn a_code_is_found_in_old_and_new_answers() {
        for (body, expected) in [
            ("Code: 27, e.displayText() = DB::Exception: Cannot parse input", Some(27)),
            ("Code: 60. DB::Exception: Table default.x does not exist. (UNKNOWN_TABLE)", Some(60)),
            ("some rows\nCode: 241. DB::Exception: Memory limit", Some(241)),
            ("<html>Status Code: 502</html>", None),
            ("Code: ", None),
            ("Code: 99999999999999999999. DB::Exception", None),
            ("DB::Exception", None),
            ("", None),
        ] {
            assert_eq!(code_in(body), expected, "{body}");
        }
    }

    #[test]
    fn answers_are_told_apart_by_their_codes() {
        let ok = StatusCode::OK;
        let failed = StatusCode::INTERNAL_SERVER_ERROR;
        let again = |outcome: Outcome| match outcome {
            Outcome::Again(Again { is_mistake, scope: Scope::Logstore, .. }) => is_mistake,
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome(ok, None, None, ""), Outcome::Delivered);
        assert_eq!(
            outcome(StatusCode::BAD_REQUEST, Some(27), None, "Code: 27. no\n"),
            Outcome::Refused("code 27: Code: 27. no".into())
        );
        // Success that is followed by an exception is none, and neither is a page of somebody else.
        assert!(!again(outcome(ok, None, None, "Code: 241. DB::Exception: Memory limit")));
        assert!(!again(outcome(ok, Some(159), None, "")));
        assert!(again(outcome(ok, None, None, "<html>welcome</html>")));
        let partitions = "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100)";
        assert!(matches!(outcome(failed, None, None, partitions), Outcome::Refused(_)));
        assert!(!again(outcome(failed, None, None, "Code: 252. DB::Exception: Too many parts (300)")));
        for code in [60, 81, 115, 192, 193, 194, 497, 516, 12345] {
            assert!(again(outcome(failed, Some(code), None, "secret")), "{code}");
        }
        for code in [202, 241, 242, 394, 999] {
            assert!(!again(outcome(failed, Some(code), None, "")), "{code}");
        }
        // From a proxy before it.
        assert!(!again(outcome(StatusCode::BAD_GATEWAY, None, None, "<html>")));
        assert!(matches!(outcome(StatusCode::PAYLOAD_TOO_LARGE, None, None, ""), Outcome::Refused(_)));
    }
}
