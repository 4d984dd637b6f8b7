//! Topics of a Kafka cluster, by librdkafka.
//!
//! `encode` a payload's body, with all records in it · here the client. It has threads of its own: one for each broker,
//! which compress and send, and one that hands out what became of each record. They sleep while there is nothing.

mod encode;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use tokio::sync::Notify;

pub use encode::Encoder;

use super::client::Rendered;
use super::delivery::{Again, Outcome, Scope, Transport};
use super::records::{Encode, Layout};
use crate::config::LogstoreName;
use crate::config::sinks::{Acks, Kafka, KafkaCompression, Mechanism};
use crate::secret::{self, Live, Stamp};
use encode::Record;

/// How often whoever waits for records looks whether the password or the certificates have changed.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long the thread that hands out sleeps at most.
const SLEEP: Duration = Duration::from_secs(1);

/// Trouble is told of this often.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// How long records wait for others before they are sent: payloads were collected before.
const LINGER_MS: &str = "5";

/// The encoder of such a sink.
pub fn encoder(kafka: &Kafka) -> Box<dyn Encode> {
    Box::new(Encoder::new(kafka))
}

/// Hands each payload's records to a producer, and waits until it says of each what became of it.
pub struct KafkaTransport {
    sink: String,
    config: Kafka,
    topic: Rendered<String>,
    password: Option<Live>,
    /// The producer of all, which is made when it is needed first.
    producer: Mutex<Option<Arc<Made>>>,
    /// One whose records are sent each by itself.
    alone: Mutex<Option<Arc<Made>>>,
}

/// A producer, and what it was made of.
struct Made {
    producer: Arc<BaseProducer<Context>>,
    password: Option<Arc<str>>,
    files: Vec<Option<Stamp>>,
}

/// What became of some records.
struct Reports {
    /// How many have none yet.
    left: AtomicUsize,
    failed: Mutex<Vec<(u32, Code)>>,
    done: Notify,
}

/// What a report is for.
struct Sent {
    reports: Arc<Reports>,
    record: u32,
}

/// A record that was not taken.
struct Failure {
    record: u32,
    code: Code,
    /// Whether it was not even sent, so that no other record has to do with it.
    is_local: bool,
}

impl KafkaTransport {
    /// As configured, for the sink of that name.
    pub fn new(sink: &str, kafka: &Kafka) -> Self {
        let topic = kafka.topic.clone();
        KafkaTransport {
            sink: sink.to_owned(),
            topic: Rendered::new(move |target| topic.render(target)),
            password: kafka.sasl.as_ref().map(|sasl| Live::new(&sasl.password)),
            config: kafka.clone(),
            producer: Mutex::default(),
            alone: Mutex::default(),
        }
    }

    async fn deliver(&self, topic: &str, body: &[u8]) -> Result<Outcome, String> {
        let Some(records) = encode::records(body) else {
            return Err("a payload that weir made cannot be read again".to_owned());
        };
        let all: Vec<u32> = (0..records.len() as u32).collect();
        let made = self.made(&self.producer, false)?;
        let mut failures = self.produce(&made, topic, &records, &all).await;
        // What a broker refuses, it refuses with all that came with it.
        let is_suspect = |failure: &Failure| is_refusal(failure.code) && !failure.is_local && records.len() > 1;
        let suspects: Vec<u32> = failures.iter().filter(|f| is_suspect(f)).map(|failure| failure.record).collect();
        if !suspects.is_empty() {
            failures.retain(|failure| !is_suspect(failure));
            let alone = self.made(&self.alone, true)?;
            failures.extend(self.produce(&alone, topic, &records, &suspects).await);
            failures.sort_unstable_by_key(|failure| failure.record);
        }
        if failures.iter().any(|failure| is_fatal(failure.code)) {
            // Such a producer does nothing any more.
            *lock(&self.producer) = None;
            *lock(&self.alone) = None;
        }
        Ok(self.outcome(&failures, records.len(), made.producer.client().context()))
    }

    fn outcome(&self, failures: &[Failure], count: usize, context: &Context) -> Outcome {
        let (mut refused, mut again) = (Vec::new(), Vec::new());
        for failure in failures {
            match is_refusal(failure.code) {
                true => refused.push((failure.record, failure.code.to_string())),
                false => again.push(failure),
            }
        }
        match again.first() {
            None if refused.is_empty() => Outcome::Delivered,
            Some(first) if again.len() == count => context.again(first.code),
            _ => Outcome::Partly { refused, again: again.into_iter().map(|failure| failure.record).collect() },
        }
    }

    /// Sends some of the records, and gives those that were not taken.
    async fn produce(&self, made: &Made, topic: &str, records: &[Record<'_>], which: &[u32]) -> Vec<Failure> {
        let (left, failed, done) = (AtomicUsize::new(which.len()), Mutex::default(), Notify::new());
        let reports = Arc::new(Reports { left, failed, done });
        let mut failures = hand_over(made, topic, records, which, &reports);
        while reports.left.load(Ordering::Acquire) > 0 {
            let waited = tokio::time::timeout(LOOK_EVERY, reports.done.notified()).await;
            if waited.is_err() && self.is_stale(made) {
                // It would go on with what is wrong; another is made with what is right.
                made.producer.purge(PurgeConfig::default().queue().inflight().non_blocking());
            }
        }
        let failed = std::mem::take(&mut *lock(&reports.failed));
        failures.extend(failed.into_iter().map(|(record, code)| Failure { record, code, is_local: false }));
        failures.sort_unstable_by_key(|failure| failure.record);
        failures
    }

    /// The producer, made if there is none or if it was made of what has changed since.
    fn made(&self, slot: &Mutex<Option<Arc<Made>>>, alone: bool) -> Result<Arc<Made>, String> {
        let mut slot = lock(slot);
        if let Some(made) = slot.as_ref().filter(|made| !self.is_stale(made)) {
            return Ok(made.clone());
        }
        let (password, files) = (self.password()?, self.files());
        // Certificates are read, which takes its time.
        let producer = tokio::task::block_in_place(|| self.make(password.as_deref(), alone))?;
        let made = Arc::new(Made { producer, password, files });
        *slot = Some(made.clone());
        Ok(made)
    }

    fn is_stale(&self, made: &Made) -> bool {
        // While a file is being replaced, what was known goes on.
        let is_other = self.password().is_ok_and(|password| password != made.password);
        is_other || self.files().iter().zip(&made.files).any(|(now, then)| now.is_some() && now != then)
    }

    fn password(&self) -> Result<Option<Arc<str>>, String> {
        self.password.as_ref().map(Live::get).transpose()
    }

    fn files(&self) -> Vec<Option<Stamp>> {
        let tls = &self.config.network.tls;
        let identity = tls.identity.iter().flat_map(|(cert, key)| [cert, key]);
        tls.ca.iter().chain(identity).map(|path| secret::stamp(path).ok()).collect()
    }

    fn make(&self, password: Option<&str>, alone: bool) -> Result<Arc<BaseProducer<Context>>, String> {
        let context = Context { sink: self.sink.clone(), trouble: Mutex::default() };
        let producer: BaseProducer<Context> =
            self.settings(password, alone).create_with_context(context).map_err(|error| match error {
                // What it was set to may be secret.
                KafkaError::ClientConfig(_, _, key, _) => format!("librdkafka does not take its setting {key}"),
                KafkaError::ClientCreation(why) => why,
                error => error.to_string(),
            })?;
        let producer = Arc::new(producer);
        let polled = Arc::downgrade(&producer);
        let hand_out = move || {
            while let Some(producer) = polled.upgrade() {
                producer.poll(SLEEP);
            }
        };
        let thread = std::thread::Builder::new().name("kafka".to_owned()).spawn(hand_out);
        thread.map_err(|error| format!("starting a thread: {error}"))?;
        Ok(producer)
    }

    fn settings(&self, password: Option<&str>, alone: bool) -> ClientConfig {
        let kafka = &self.config;
        let network = &kafka.network;
        // Twice what may be under way: there is always room.
        let room = (2 * network.concurrency).saturating_mul(network.batching.max_bytes + kafka.max_message_size);
        let security = match (&kafka.sasl, kafka.is_secure) {
            (None, false) => "plaintext",
            (None, true) => "ssl",
            (Some(_), false) => "sasl_plaintext",
            (Some(_), true) => "sasl_ssl",
        };
        let acks = match kafka.acks {
            Acks::All => "all",
            Acks::Leader => "1",
        };
        let compression = match kafka.compression {
            KafkaCompression::None => "none",
            KafkaCompression::Gzip => "gzip",
            KafkaCompression::Lz4 => "lz4",
            KafkaCompression::Zstd => "zstd",
            KafkaCompression::Snappy => "snappy",
        };
        let mut config = ClientConfig::new();
        let mut set = |key: &str, value: &str| {
            config.set(key, value);
        };
        set("bootstrap.servers", &kafka.brokers.join(","));
        set("client.id", &kafka.client_id);
        set("security.protocol", security);
        set("acks", acks);
        set("enable.idempotence", if kafka.idempotent { "true" } else { "false" });
        set("max.in.flight.requests.per.connection", "5");
        set("compression.codec", compression);
        set("message.timeout.ms", &network.timeout.as_millis().to_string());
        set("message.max.bytes", &kafka.max_message_size.to_string());
        set("queue.buffering.max.messages", "0");
        set("queue.buffering.max.kbytes", &(room >> 10).clamp(1 << 10, i32::MAX as usize).to_string());
        set("linger.ms", LINGER_MS);
        // As Kafka's own client for Java has it, so that a key has the same partition whoever sends it.
        set("partitioner", "murmur2_random");
        set("reconnect.backoff.max.ms", &network.max_backoff.as_millis().to_string());
        set("socket.keepalive.enable", "true");
        set("log.connection.close", "false");
        if alone {
            set("batch.num.messages", "1");
        }
        if let (Some(sasl), Some(password)) = (&kafka.sasl, password) {
            let mechanism = match sasl.mechanism {
                Mechanism::Plain => "PLAIN",
                Mechanism::ScramSha256 => "SCRAM-SHA-256",
                Mechanism::ScramSha512 => "SCRAM-SHA-512",
            };
            set("sasl.mechanism", mechanism);
            set("sasl.username", &sasl.user);
            set("sasl.password", password);
        }
        if kafka.is_secure {
            let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
            // The system's, wherever it keeps them.
            set("ssl.ca.location", &network.tls.ca.as_deref().map_or("probe".to_owned(), path));
            if let Some((cert, key)) = &network.tls.identity {
                set("ssl.certificate.location", &path(cert));
                set("ssl.key.location", &path(key));
            }
        }
        config
    }
}

impl Transport for KafkaTransport {
    fn format(&self) -> &'static str {
        "kafka"
    }

    fn send<'a>(&'a self, target: &'a LogstoreName, bytes: Bytes, _layout: &'a Layout) -> BoxFuture<'a, Outcome> {
        async move {
            let topic = self.topic.of(target);
            self.deliver(&topic, &bytes).await.unwrap_or_else(Outcome::mistake)
        }
        .boxed()
    }
}

/// Gives records to the producer, in their order, and gives those that it doesn't take.
fn hand_over(made: &Made, topic: &str, records: &[Record<'_>], which: &[u32], reports: &Arc<Reports>) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut headers: (&[u8], Option<OwnedHeaders>) = (&[], None);
    for at in which {
        let record = &records[*at as usize];
        let sent = Box::new(Sent { reports: reports.clone(), record: *at });
        let mut base = BaseRecord::with_opaque_to(topic, sent).key(record.key).payload(record.value);
        // Zero would mean now.
        if record.time >= 1_000_000 {
            base = base.timestamp(record.time / 1_000_000);
        }
        // Neighbours have the same.
        if headers.0.as_ptr() != record.headers.as_ptr() {
            headers = (record.headers, owned_headers(record));
        }
        if let Some(headers) = &headers.1 {
            base = base.headers(headers.clone());
        }
        if let Err((error, base)) = made.producer.send(base) {
            let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
            failures.push(Failure { record: *at, code, is_local: true });
            base.delivery_opaque.report();
        }
    }
    failures
}

fn owned_headers(record: &Record) -> Option<OwnedHeaders> {
    let mut headers = None;
    for (key, value) in record.headers() {
        let more = headers.take().unwrap_or_else(OwnedHeaders::new);
        headers = Some(more.insert(Header { key, value: Some(value) }));
    }
    headers
}

impl Sent {
    /// There is a report; whoever waits is told by the last.
    fn report(&self) {
        if self.reports.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.reports.done.notify_one();
        }
    }
}

/// Whether the record itself is at fault.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::UnsupportedForMessageFormat
    )
}

/// Whether somebody has to set something right.
fn is_mistake(code: Code) -> bool {
    matches!(
        code,
        Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicOrPartition
            | Code::InvalidTopic
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::SecurityDisabled
            | Code::SSL
            | Code::PolicyViolation
            | Code::InvalidRequiredAcks
            | Code::UnsupportedCompressionType
            | Code::UnsupportedFeature
            | Code::UnsupportedVersion
            | Code::InvalidConfig
    )
}

/// Whether the producer is of no use any more.
fn is_fatal(code: Code) -> bool {
    matches!(
        code,
        Code::Fatal | Code::OutOfOrderSequenceNumber | Code::InvalidProducerEpoch | Code::ProducerFenced | Code::Fenced
    )
}

/// What the client tells of: reports, and trouble with the cluster as a whole.
struct Context {
    sink: String,
    trouble: Mutex<Trouble>,
}

#[derive(Default)]
struct Trouble {
    /// What it is, until a record is delivered.
    is: Option<(Code, String)>,
    told: Option<Instant>,
}

impl Context {
    /// What it means that nothing was taken.
    fn again(&self, code: Code) -> Outcome {
        // That time ran out says nothing by itself.
        let is_cause_elsewhere = matches!(
            code,
            Code::MessageTimedOut
                | Code::PurgeQueue
                | Code::PurgeInflight
                | Code::BrokerTransportFailure
                | Code::AllBrokersDown
        );
        let trouble = lock(&self.trouble).is.clone().filter(|_| is_cause_elsewhere);
        match trouble {
            Some((trouble, why)) => {
                let is_mistake = is_mistake(trouble);
                Outcome::Again(Again { why, after: None, scope: Scope::Destination, is_mistake })
            }
            None if is_mistake(code) => Outcome::mistake(code.to_string()),
            None => Outcome::later(code.to_string(), None),
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(sink = self.sink, ?level, "librdkafka: {facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        // What was said by a broker stays out of the log; what is found out here has the broker's address.
        let is_own = matches!(code, Code::SSL | Code::Resolve | Code::BrokerTransportFailure | Code::AllBrokersDown);
        let why = if is_own { format!("{code}: {}", super::client::shown(reason)) } else { code.to_string() };
        let mut trouble = lock(&self.trouble);
        // That no broker is left says less than why.
        if code != Code::AllBrokersDown || trouble.is.is_none() {
            trouble.is = Some((code, why.clone()));
        }
        let now = Instant::now();
        if trouble.told.is_none_or(|told| now - told >= TELL_EVERY) {
            trouble.told = Some(now);
            tracing::error!(sink = self.sink, "trouble with the cluster; nothing is lost: {why}");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult, sent: Box<Sent>) {
        match result {
            Ok(_) if sent.record == 0 => {
                let mut trouble = lock(&self.trouble);
                if trouble.is.take().is_some() && trouble.told.take().is_some() {
                    tracing::info!(sink = self.sink, "the cluster takes records again");
                }
            }
            Ok(_) => {}
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
                lock(&sent.reports.failed).push((sent.record, code));
            }
        }
        sent.report();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
