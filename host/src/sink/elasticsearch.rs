//! Elasticsearch and OpenSearch, by their bulk API.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response, Url};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::client::{self, Client, Headers, Rendered};
use super::delivery::{Outcome, Transport};
use super::ndjson::{Ndjson, Style};
use super::records::{Encode, Layout};
use crate::config::LogstoreName;
use crate::config::sinks::{Action, Elasticsearch};

/// Bytes of an answer that are read. One about 10,000 events that were all refused is shorter.
const MAX_ANSWER: usize = 16 << 20;

/// What an answer has to say.
const FILTER: &str = "took,errors,items.*.status,items.*.error.type,items.*.error.reason";

/// The encoder of such a sink: a line that says what to do, and one with the event.
pub fn encoder(sink: &Elasticsearch) -> Box<dyn Encode> {
    let before = match sink.action {
        Action::Create => "{\"create\":{}}\n",
        Action::Index => "{\"index\":{}}\n",
    };
    Box::new(Ndjson::with(Style {
        before: before.into(),
        time: sink.timestamp_field.clone(),
        // Data streams require it.
        is_always_timed: true,
        tags: sink.tags_field.clone(),
        names_are_unique: true,
        ..Style::default()
    }))
}

/// Sends each payload as a bulk request.
pub struct BulkTransport {
    client: Client,
    /// None, if it is no address.
    url: Rendered<Option<Url>>,
    headers: Headers,
}

impl BulkTransport {
    /// As configured.
    pub fn new(sink: &Elasticsearch) -> Self {
        let (base, index, pipeline) = (sink.url.clone(), sink.index.clone(), sink.pipeline.clone());
        BulkTransport {
            client: Client::new(&sink.network, &sink.auth, &sink.url),
            url: Rendered::new(move |target| bulk_url(&base, &index.render(target), pipeline.as_deref())),
            headers: Headers::new(&sink.headers),
        }
    }

    fn request(&self, target: &LogstoreName, bytes: Bytes, layout: &Layout) -> Result<RequestBuilder, String> {
        let url = self.url.of(target);
        let url = url.as_ref().as_ref().ok_or("the `url` is no address")?;
        let request = self.client.get()?.post(url.clone());
        let request = self.headers.add(self.client.authorize(request)?)?.header(CONTENT_TYPE, "application/x-ndjson");
        Ok(match layout.compression.content_encoding() {
            Some(encoding) => request.header(CONTENT_ENCODING, encoding),
            None => request,
        }
        .body(bytes))
    }
}

impl Transport for BulkTransport {
    fn format(&self) -> &'static str {
        "elasticsearch"
    }

    fn send<'a>(&'a self, target: &'a LogstoreName, bytes: Bytes, layout: &'a Layout) -> BoxFuture<'a, Outcome> {
        async move {
            match self.request(target, bytes, layout) {
                Err(why) => Outcome::mistake(why),
                Ok(request) => match client::answer(request).await {
                    Ok(response) if response.status().is_success() => judge(response, layout.events).await,
                    Ok(response) => client::judge(response).await,
                    Err(outcome) => outcome,
                },
            }
        }
        .boxed()
    }
}

fn bulk_url(base: &str, index: &str, pipeline: Option<&str>) -> Option<Url> {
    let mut url = Url::parse(base).ok()?;
    url.path_segments_mut().ok()?.pop_if_empty().extend([index, "_bulk"]);
    let mut query = url.query_pairs_mut();
    query.append_pair("filter_path", FILTER);
    query.extend_pairs(pipeline.map(|name| ("pipeline", name)));
    drop(query);
    Some(url)
}

async fn judge(response: Response, events: usize) -> Outcome {
    match client::read(response, MAX_ANSWER).await {
        // Some events may be there; but that answer will never be read.
        Ok(body) if body.len() == MAX_ANSWER => Outcome::Refused("the answer is too long".to_owned()),
        Ok(body) => outcome(&body, events),
        Err(outcome) => outcome,
    }
}

/// What a bulk request's answer means.
fn outcome(body: &[u8], events: usize) -> Outcome {
    let Ok(Answer { errors, items }) = serde_json::from_slice(body) else {
        return Outcome::mistake("the answer is not one of the bulk API");
    };
    if !errors && items.count == 0 {
        return Outcome::Delivered;
    }
    if items.count != events {
        return Outcome::mistake(format!("the answer is about {} events, and {events} were sent", items.count));
    }
    if items.refused.is_empty() && items.again.is_empty() {
        return Outcome::Delivered;
    }
    if items.again.len() == events {
        return match items.mistake {
            Some(mistake) => Outcome::mistake(mistake),
            None => Outcome::later(format!("all of {events} events were pushed back"), None),
        };
    }
    Outcome::Partly { refused: items.refused, again: items.again }
}

#[derive(Deserialize)]
struct Answer {
    errors: bool,
    #[serde(default)]
    items: Items,
}

/// What became of the events, each of which is an item; only what was not taken is kept.
#[derive(Default)]
struct Items {
    count: usize,
    refused: Vec<(u32, String)>,
    again: Vec<u32>,
    /// Why one of those to be sent again was not taken, if somebody has to set something right.
    mistake: Option<&'static str>,
}

/// What became of an event: the only value of an item.
#[derive(Deserialize)]
struct Item {
    status: u16,
    #[serde(default)]
    error: Cause,
}

#[derive(Default, Deserialize)]
struct Cause {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    reason: String,
}

/// What is to be done about an event.
#[derive(Debug, PartialEq)]
enum Verdict {
    Taken,
    Later,
    Mistake(&'static str),
    Refused,
}

impl Item {
    fn verdict(&self) -> Verdict {
        let Cause { kind, reason } = &self.error;
        match (self.status, &**kind) {
            // A conflict: it is there already.
            (200..=299 | 409, _) => Verdict::Taken,
            (_, "fail_processor_exception") => Verdict::Refused,
            (_, "index_not_found_exception") => Verdict::Mistake("the index is not there"),
            (_, "security_exception") => Verdict::Mistake("writing to the index is not allowed"),
            (_, "invalid_index_name_exception") => Verdict::Mistake("the index has a name that it cannot have"),
            (_, "index_closed_exception") => Verdict::Mistake("the index is closed"),
            (_, "illegal_argument_exception") if reason.starts_with("no write index is defined for alias") => {
                Verdict::Mistake("the alias has no index to write to")
            }
            (_, "validation_exception") if reason.contains("maximum") && reason.contains("shards open") => {
                Verdict::Mistake("the cluster has as many shards as it may have")
            }
            (_, "illegal_argument_exception") if reason.starts_with("pipeline with id [") => {
                Verdict::Mistake("the pipeline is not there")
            }
            (_, "illegal_argument_exception") if reason.starts_with("only write ops with an op_type of create") => {
                Verdict::Mistake("a data stream takes only `action: create`")
            }
            (_, "es_rejected_execution_exception" | "cluster_block_exception" | "circuit_breaking_exception") => {
                Verdict::Later
            }
            (408 | 429 | 500..=599, _) => Verdict::Later,
            (401 | 403, _) => Verdict::Mistake("writing to the index is not allowed"),
            (404, _) => Verdict::Mistake("what it writes to is not there"),
            _ => Verdict::Refused,
        }
    }
}

impl Items {
    fn add(&mut self, item: &Item) {
        let index = self.count as u32;
        self.count += 1;
        match item.verdict() {
            Verdict::Taken => {}
            Verdict::Later => self.again.push(index),
            Verdict::Mistake(why) => {
                self.again.push(index);
                self.mistake = Some(why);
            }
            Verdict::Refused => {
                let Cause { kind, reason } = &item.error;
                self.refused
                    .push((index, format!("{} {}: {}", item.status, client::shown(kind), client::shown(reason))));
            }
        }
    }
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Items;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("the items of a bulk request")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items, A::Error> {
        let mut items = Items::default();
        while let Some(Named(item)) = seq.next_element()? {
            items.add(&item);
        }
        Ok(items)
    }
}

/// An item with the name of its action.
struct Named(Item);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor)
    }
}

struct NamedVisitor;

impl<'de> Visitor<'de> for NamedVisitor {
    type Value = Named;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an action and its result")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
        let Some((IgnoredAny, item)) = map.next_entry()? else {
            return Err(serde::de::Error::invalid_length(0, &self));
        };
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Named(item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_index_and_the_pipeline() {
        let url = |base, index, pipeline| bulk_url(base, index, pipeline).unwrap().to_string();
        let filter = "filter_path=took%2Cerrors%2Citems.*.status%2Citems.*.error.type%2Citems.*.error.reason";
        assert_eq!(url("http://e:9200", "logs", None), format!("http://e:9200/logs/_bulk?{filter}"));
        let with_pipeline = format!("https://e/x/a%25b/_bulk?{filter}&pipeline=p+q");
        assert_eq!(url("https://e/x", "a%b", Some("p q")), with_pipeline);
        assert_eq!(bulk_url("http://:0:0", "a", None), None);
    }

    #[test]
    fn success_is_told_with_items_or_without() {
        for body in [
            r#"{"errors":false,"took":3}"#,
            r#"{"took":3,"errors":false,"items":[]}"#,
            r#"{"errors":false,"items":[{"create":{"status":201}},{"create":{"_index":"a","status":200}}]}"#,
            r#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":409,"error":{"type":"version_conflict_engine_exception"}}}]}"#,
        ] {
            assert_eq!(outcome(body.as_bytes(), 2), Outcome::Delivered, "{body}");
        }
    }

    #[test]
    fn each_event_has_its_own_outcome() {
        let item = |status: u16, kind: &str, reason: &str| {
            format!(r#"{{"create":{{"status":{status},"error":{{"type":"{kind}","reason":"{reason}","x":[1]}}}}}}"#)
        };
        let items = [
            r#"{"create":{"status":201}}"#.to_owned(),
            item(429, "es_rejected_execution_exception", "queue is full"),
            item(400, "document_parsing_exception", "failed\\nto parse"),
            item(503, "unavailable_shards_exception", ""),
            item(500, "fail_processor_exception", "no"),
            item(404, "index_not_found_exception", "no such index"),
            item(403, "cluster_block_exception", "read-only"),
        ];
        let body = format!(r#"{{"took":1,"errors":true,"items":[{}]}}"#, items.join(","));
        let reasons = ["400 document_parsing_exception: failed to parse", "500 fail_processor_exception: no"];
        let refused = vec![(2, reasons[0].to_owned()), (4, reasons[1].to_owned())];
        assert_eq!(outcome(body.as_bytes(), 7), Outcome::Partly { refused, again: vec![1, 3, 5, 6] });
        let all = |item: &str| outcome(format!(r#"{{"errors":true,"items":[{item},{item}]}}"#).as_bytes(), 2);
        assert_eq!(all(&items[1]), Outcome::later("all of 2 events were pushed back", None));
        assert_eq!(all(&items[5]), Outcome::mistake("the index is not there"));
        let pipeline = item(400, "illegal_argument_exception", "pipeline with id [p] does not exist");
        assert_eq!(all(&pipeline), Outcome::mistake("the pipeline is not there"));
        // What is wrong with the index is no event's fault: none of them may end as a dead letter.
        for (status, kind, reason) in [
            (400, "index_closed_exception", "closed"),
            (400, "illegal_argument_exception", "no write index is defined for alias [logs]. The write index may be"),
            (
                400,
                "validation_exception",
                "this action would add [2] shards, but this cluster currently has [1000]/[1000] maximum normal shards open;",
            ),
            (404, "aliases_not_found_exception", "aliases [logs] missing"),
        ] {
            let outcome = all(&item(status, kind, reason));
            assert!(matches!(&outcome, Outcome::Again(again) if again.is_mistake), "{kind}: {outcome:?}");
        }
    }

    #[test]
    fn what_is_no_answer_of_the_bulk_api_delivers_nothing() {
        let item = r#"{"create":{"status":201}}"#;
        for body in [
            "",
            "{}",
            "[]",
            "<html></html>",
            r#"{"items":[]}"#,
            r#"{"errors":true}"#,
            r#"{"errors":"no"}"#,
            r#"{"errors":false,"items":[{}]}"#,
            r#"{"errors":false,"items":[{"create":7}]}"#,
            r#"{"errors":true,"items":[{"create":{"error":{}}}]}"#,
            &format!(r#"{{"errors":false,"items":[{item}]}}"#),
            &format!(r#"{{"errors":true,"items":[{item},{item},{item}]}}"#),
            &format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        ] {
            let Outcome::Again(again) = outcome(body.as_bytes(), 2) else { panic!("{body:.100}") };
            assert!(again.is_mistake);
        }
    }
}
