//! The sinks of a configuration, put to work: which sender each has, and how its lanes write.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::config::{self, Config, Logstore, Sink};
use crate::metrics::SinkAccounts;
use crate::sink::blackhole::{Blackhole, Nothing};
use crate::sink::clickhouse::{self, InsertTransport};
use crate::sink::compress::Compression;
use crate::sink::dead_letters::DeadLetters;
use crate::sink::delivery::{Delivery, Limits, Runtime, Transport};
use crate::sink::elasticsearch::{self, BulkTransport};
use crate::sink::file::Files;
use crate::sink::http::{self, HttpTransport};
use crate::sink::kafka::{self, KafkaTransport};
use crate::sink::loki::{self, LokiTransport};
use crate::sink::ndjson::Ndjson;
use crate::sink::otlp::{self, OtlpTransport};
use crate::sink::outlet::{Batching, OutletParts};
use crate::sink::sls::{self, SlsTransport};
use crate::sink::stdout::Stdout;
use crate::sink::{Encode, Sender};

/// Payloads of a logstore that may be on their way over a network.
const IN_FLIGHT: usize = 8;

/// The same where a logstore has several sinks and its project names a budget of memory: one that is slower than the
/// others holds them up only when that is used up.
const IN_FLIGHT_BESIDE: usize = 4096;

/// The sinks of an agent, by name.
pub struct Sinks {
    sinks: Mutex<BTreeMap<String, Started>>,
    accounts: Mutex<BTreeMap<String, Arc<SinkAccounts>>>,
    common: Mutex<Option<Common>>,
}

#[derive(Clone)]
struct Started {
    sink: Sink,
    sender: Arc<dyn Sender>,
}

/// Sinks of another configuration, started but for those that stay as they are.
pub struct Next {
    sinks: BTreeMap<String, Started>,
    accounts: BTreeMap<String, Arc<SinkAccounts>>,
}

impl Sinks {
    /// Starts those sinks of the configuration that are used.
    pub fn start(config: &Config, is_used: impl Fn(&str) -> bool) -> Result<Sinks> {
        let sinks = Sinks { sinks: Mutex::default(), accounts: Mutex::default(), common: Mutex::default() };
        let next = sinks.prepare(config, is_used)?;
        sinks.go_on_with(next);
        Ok(sinks)
    }

    /// Starts those that are used and are not there yet, or are another by now.
    pub fn prepare(&self, config: &Config, is_used: impl Fn(&str) -> bool) -> Result<Next> {
        let mut common = lock(&self.common);
        let mut starter = Starter { config, common: &mut common, accounts: lock(&self.accounts).clone() };
        let mut sinks = BTreeMap::new();
        for (name, sink) in config.sinks.iter().filter(|(name, _)| is_used(name)) {
            let known = lock(&self.sinks).get(name).filter(|started| started.sink == *sink).cloned();
            let started = match known {
                Some(started) => started,
                None => Started { sink: sink.clone(), sender: starter.start(name, sink)? },
            };
            sinks.insert(name.clone(), started);
        }
        starter.accounts.retain(|name, _| sinks.contains_key(name));
        Ok(Next { sinks, accounts: starter.accounts })
    }

    /// Whether a sink is not what it is in that configuration.
    pub fn differs(&self, name: &str, config: &Config) -> bool {
        lock(&self.sinks).get(name).map(|started| &started.sink) != config.sinks.get(name)
    }

    /// Uses these from now on. Gives those that nobody uses any more, once their lanes have ended.
    pub fn go_on_with(&self, next: Next) -> Vec<Arc<dyn Sender>> {
        let before = std::mem::replace(&mut *lock(&self.sinks), next.sinks);
        *lock(&self.accounts) = next.accounts;
        let now = lock(&self.sinks);
        let is_gone =
            |name: &str, old: &Started| now.get(name).is_none_or(|started| !Arc::ptr_eq(&started.sender, &old.sender));
        before.into_iter().filter(|(name, old)| is_gone(name, old)).map(|(_, old)| old.sender).collect()
    }

    /// What each sink counts.
    pub fn accounts(&self) -> BTreeMap<String, Arc<SinkAccounts>> {
        lock(&self.accounts).clone()
    }

    /// Starts those of a logstore that are not there yet: whoever used them first may have begun later than others.
    pub fn add(&self, config: &Config, logstore: &Logstore) -> Result<()> {
        let is_there = |name: &str| lock(&self.sinks).contains_key(name);
        let next = self.prepare(config, |name| is_there(name) || logstore.sinks.iter().any(|own| own == name))?;
        self.go_on_with(next);
        Ok(())
    }

    /// A logstore's ways to its sinks, which must have been started. `has_budget`: the configuration says how much memory
    /// its project has.
    pub fn outlets(&self, logstore: &Logstore, has_budget: bool) -> Result<Vec<OutletParts>> {
        let target = Arc::new(logstore.name.clone());
        let in_flight = if has_budget && logstore.sinks.len() > 1 { IN_FLIGHT_BESIDE } else { IN_FLIGHT };
        let sinks = lock(&self.sinks);
        let outlet = |name: &String| {
            let started = sinks.get(name).with_context(|| format!("the sink {name} is not started"));
            let Started { sink, sender } = started?;
            Ok(OutletParts {
                encoder: encoder(sink, logstore),
                compression: compression(sink),
                batching: batching(sink, in_flight),
                sender: sender.clone(),
                target: target.clone(),
            })
        };
        logstore.sinks.iter().map(outlet).collect()
    }

    /// Each by its name, with what it is and who delivers.
    pub fn list(&self) -> Vec<(String, &'static str, Arc<dyn Sender>)> {
        let sinks = lock(&self.sinks);
        sinks.iter().map(|(name, started)| (name.clone(), started.sink.kind(), started.sender.clone())).collect()
    }

    /// Whether it is so for one of them.
    pub fn any(&self, is_so: impl Fn(&dyn Sender) -> bool) -> bool {
        lock(&self.sinks).values().any(|started| is_so(&*started.sender))
    }

    /// Ends all, each with what is left of the time.
    pub fn close(&self, deadline: Instant) {
        let sinks = lock(&self.sinks).clone();
        for started in sinks.values() {
            started.sender.close(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What sinks on the network share.
#[derive(Clone)]
struct Common {
    runtime: Arc<Runtime>,
    dead_letters: Arc<DeadLetters>,
}

struct Starter<'c> {
    config: &'c Config,
    common: &'c mut Option<Common>,
    accounts: BTreeMap<String, Arc<SinkAccounts>>,
}

impl Starter<'_> {
    fn accounts_of(&mut self, name: &str) -> Arc<SinkAccounts> {
        self.accounts.entry(name.to_owned()).or_default().clone()
    }

    fn start(&mut self, name: &str, sink: &Sink) -> Result<Arc<dyn Sender>> {
        Ok(match sink {
            Sink::Stdout => Arc::new(Stdout::new(name, self.accounts_of(name))),
            Sink::File(file) => Arc::new(Files::new(name, file, self.accounts_of(name))),
            Sink::Blackhole => Arc::new(Blackhole),
            remote => {
                let network = remote.network().context("it is not on the network")?;
                let transport = transport(name, remote).context("it is not on the network")?;
                self.deliver(name, network, transport)?
            }
        })
    }

    fn deliver(
        &mut self,
        name: &str,
        network: &config::sinks::Network,
        transport: impl Transport,
    ) -> Result<Arc<dyn Sender>> {
        let Common { runtime, dead_letters } = match &*self.common {
            Some(common) => common.clone(),
            None => {
                let runtime = Runtime::start().context("starting the threads of the network")?;
                let dead_letters = Arc::new(dead_letters(self.config));
                self.common.insert(Common { runtime, dead_letters }).clone()
            }
        };
        let limits = Limits {
            concurrency: network.concurrency,
            max_backoff: network.max_backoff,
            is_one_host: self.config.sinks.get(name).is_none_or(Sink::has_one_host),
        };
        let accounts = self.accounts_of(name);
        Ok(Arc::new(Delivery::start(name, transport, limits, dead_letters, accounts, runtime)))
    }
}

/// Where an agent of this configuration keeps its dead letters.
pub fn dead_letters(config: &Config) -> DeadLetters {
    let config::DeadLetters { max_size, when_full } = config.dead_letters;
    let discards = when_full == config::WhenFull::Discard;
    DeadLetters::new(dead_letters_dir(config), max_size, discards)
}

/// The directory that they are in.
pub fn dead_letters_dir(config: &Config) -> std::path::PathBuf {
    config.data_dir.join("dead_letters")
}

/// How payloads are sent to a sink of that name; none if it is not on the network.
pub fn transport(name: &str, sink: &Sink) -> Option<Box<dyn Transport>> {
    Some(match sink {
        Sink::Stdout | Sink::File(_) | Sink::Blackhole => return None,
        Sink::ClickHouse(sink) => Box::new(InsertTransport::new(sink)),
        Sink::Elasticsearch(sink) => Box::new(BulkTransport::new(sink)),
        Sink::Http(http) => Box::new(HttpTransport::new(http)),
        Sink::Kafka(kafka) => Box::new(KafkaTransport::new(name, kafka)),
        Sink::Loki(loki) => Box::new(LokiTransport::new(loki)),
        Sink::Otlp(otlp) => Box::new(OtlpTransport::new(otlp)),
        Sink::Sls(sls) => Box::new(SlsTransport::new(sls)),
    })
}

/// How a sink writes the events of a logstore.
pub fn encoder(sink: &Sink, logstore: &Logstore) -> Box<dyn Encode> {
    match sink {
        Sink::Stdout | Sink::File(_) => Box::<Ndjson>::default(),
        Sink::Blackhole => Box::new(Nothing),
        Sink::Http(http) => http::encoder(http),
        Sink::Kafka(kafka) => kafka::encoder(kafka),
        Sink::Otlp(otlp) => otlp::encoder(otlp, &logstore.name),
        Sink::ClickHouse(sink) => clickhouse::encoder(sink),
        Sink::Elasticsearch(sink) => elasticsearch::encoder(sink),
        Sink::Loki(loki) => loki::encoder(loki, &logstore.name),
        Sink::Sls(sls) => sls::encoder(sls, &logstore.name),
    }
}

/// How a sink's payloads are compressed.
pub fn compression(sink: &Sink) -> Compression {
    match sink {
        Sink::Stdout | Sink::File(_) | Sink::Blackhole => Compression::None,
        Sink::Http(http) => http.compression,
        // Its client compresses what goes to each partition.
        Sink::Kafka(_) => Compression::None,
        Sink::Otlp(otlp) => otlp.compression,
        Sink::ClickHouse(sink) => sink.compression,
        Sink::Elasticsearch(sink) => sink.compression,
        Sink::Loki(_) => Compression::Snappy,
        Sink::Sls(sls) => sls.compression,
    }
}

fn batching(sink: &Sink, in_flight: usize) -> Batching {
    match sink.network() {
        None => Batching::LOCAL,
        Some(network) => {
            let config::sinks::Batching { max_bytes, max_events, max_age } = network.batching;
            Batching { max_bytes, max_events, max_age, in_flight }
        }
    }
}
