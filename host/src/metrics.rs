//! Every metric's name, in one place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

macro_rules! counters {
    (
        $(#[$doc:meta])* $name:ident { $($(#[doc = $help:literal])* $field:ident => $metric:literal,)* }
        $(and { $($(#[$more_doc:meta])* $more:ident: $type:ty,)* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name {
            $($(#[doc = $help])* pub $field: AtomicU64,)*
            $($($(#[$more_doc])* pub $more: $type,)*)?
        }

        impl $name {
            /// Values by their short names.
            pub fn summary(&self) -> BTreeMap<&'static str, u64> {
                self.list().into_iter().map(|(name, _, value)| (name, value)).collect()
            }

            /// Each one's metric and what it is, in their order.
            pub const HELP: &[(&'static str, &'static str)] = &[$(($metric, concat!($($help,)*)),)*];

            /// Each one's short name, metric and value, in their order.
            pub fn list(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($field), $metric, self.$field.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// The accounts of one logstore. Events are counted as they were read, before joining and splitting.
    ///
    /// At every moment `read = delivered + dropped + dead-lettered + discarded + in flight`, and what is kept raw is a
    /// part of delivered.
    Accounts {
        /// Events read.
        read => "weir_events_read_total",
        /// Events that the destination has.
        delivered => "weir_events_delivered_total",
        /// Events of these that were delivered unchanged, because a plugin failed on them.
        kept_raw => "weir_events_kept_raw_total",
        /// Events that a plugin left out on purpose.
        dropped => "weir_events_dropped_total",
        /// Events that a limit of the logstore left out: they were too long, and `long_lines` is `skip`; or a plugin
        /// faulted on them, and `on_fault` is `drop`.
        discarded => "weir_events_discarded_total",
        /// Those of them that a plugin faulted on.
        faulted => "weir_events_faulted_total",
        /// Events that a destination refused, and that are kept on disk instead.
        dead_lettered => "weir_events_dead_lettered_total",
        /// Events of the discarded that a destination refused, when dead letters were full.
        undeliverable => "weir_events_undeliverable_total",
        /// Events of the discarded that had been read when the configuration changed, of files that were gone by then.
        abandoned => "weir_events_abandoned_total",
        /// Events that passed by a plugin that was suspended, by all plugins together.
        suspended => "weir_events_suspended_total",
        /// Events that are on their way to the destination, or held by a plugin. Counted by itself, not as the rest.
        in_flight => "weir_events_in_flight",
        /// Cuts that were made in events because they were too long; each makes one event more.
        split => "weir_events_split_total",
        /// Events that were cut because they were too long, and the rest of them left out.
        truncated => "weir_events_truncated_total",
        /// Lines that are not what `format` says, delivered as they are.
        malformed => "weir_lines_malformed_total",
        /// Lines with bytes that are not valid in their encoding.
        invalid => "weir_lines_invalid_total",
        /// Bytes of files that were read.
        bytes_read => "weir_read_bytes_total",
        /// Bytes that were delivered.
        bytes_delivered => "weir_delivered_bytes_total",
        /// Files that were found truncated or replaced, and begun anew.
        truncations => "weir_file_truncations_total",
        /// Times that a file could not be opened.
        refused => "weir_file_refusals_total",
        /// Rotated files that were let go before their end, because of a budget.
        abandoned_files => "weir_files_abandoned_total",
        /// Bytes of these that were not read.
        abandoned_bytes => "weir_file_abandoned_bytes_total",
        /// Files that are open.
        open_files => "weir_files_open",
        /// Fuel that its plugins used.
        fuel => "weir_fuel_total",
        /// Calls of its plugins that trapped, ran out of something, or broke the contract.
        faults => "weir_faults_total",
        /// CPU time of its plugins, here in nanoseconds.
        plugin_cpu => "weir_plugins_cpu_seconds_total",
        /// Bytes of memory that it has of its project's.
        memory => "weir_memory_bytes",
        /// Turns in which it could not go on, because its project had no memory left.
        short => "weir_memory_shortages_total",
        /// CPU time of all the logstore's turns, here in nanoseconds.
        cpu => "weir_cpu_seconds_total",
        /// Bytes of files that were read lately that are not settled.
        lag_bytes => "weir_lag_bytes",
        /// How long the oldest of them have been there, as far as was seen, here in nanoseconds.
        lag => "weir_lag_seconds",
    } and {
        /// Time from when an event was written, as far as is known, to when it was settled.
        latency: Histogram,
        /// What the accounts were at the end of the last turn, for whoever looks on.
        balance: Balance,
    }
}

/// The counts of the conservation law as they were together: whoever reads them one by one while a turn changes them
/// gets some from before and some from after.
#[derive(Debug, Default)]
pub struct Balance(Mutex<Option<Balanced>>);

/// Of the counts that are in the law, by their metrics.
type Balanced = [(&'static str, u64); 6];

impl Accounts {
    /// A turn is over: from now on this is what they are for who looks on.
    pub fn balance(&self) {
        let counts = [
            ("weir_events_read_total", &self.read),
            ("weir_events_delivered_total", &self.delivered),
            ("weir_events_dropped_total", &self.dropped),
            ("weir_events_discarded_total", &self.discarded),
            ("weir_events_dead_lettered_total", &self.dead_lettered),
            ("weir_events_in_flight", &self.in_flight),
        ];
        let now = counts.map(|(metric, count)| (metric, count.load(Ordering::Relaxed)));
        *self.balance.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// All counts, in their order, with those of the law as they were together.
    pub fn balanced(&self) -> Vec<(&'static str, &'static str, u64)> {
        let balanced = *self.balance.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = self.list();
        for (metric, count) in balanced.into_iter().flatten() {
            list.iter_mut().filter(|(_, known, _)| *known == metric).for_each(|(.., value)| *value = count);
        }
        list
    }
}

counters! {
    /// What one plugin of one logstore has done, and what that cost.
    PluginAccounts {
        /// Calls of `process`.
        calls => "weir_plugin_calls_total",
        /// Events that it was given.
        events => "weir_plugin_events_total",
        /// Events on which it failed: it could not process them, as it says, or faulted on them.
        failed => "weir_plugin_events_failed_total",
        /// Bytes that it was given.
        bytes => "weir_plugin_input_bytes_total",
        /// Fuel that it used.
        fuel => "weir_plugin_fuel_total",
        /// CPU time of its calls, here in nanoseconds.
        cpu => "weir_plugin_cpu_seconds_total",
        /// Calls that trapped, ran out of something, or broke the contract.
        faults => "weir_plugin_faults_total",
        /// Instances that were made.
        instances => "weir_plugin_instances_total",
        /// Times that it was suspended.
        suspensions => "weir_plugin_suspensions_total",
        /// 1 while it is suspended, and until it has worked again.
        suspended => "weir_plugin_suspended",
        /// Bytes of linear memory that it has.
        memory => "weir_plugin_memory_bytes",
    }
}

counters! {
    /// What one sink has done, but for `blackhole`. A write or a sync of what is local is a request here. Events are counted as they are sent, after joining and splitting.
    SinkAccounts {
        /// Requests that were answered, or given up.
        requests => "weir_sink_requests_total",
        /// Requests after which nothing was delivered.
        failures => "weir_sink_failures_total",
        /// Times that a payload, or what was left of it, had to be sent again.
        retries => "weir_sink_retries_total",
        /// Events that the destination has.
        delivered => "weir_sink_events_delivered_total",
        /// Events that it refused, and that are kept on disk instead.
        dead_lettered => "weir_sink_events_dead_lettered_total",
        /// Events that it refused when dead letters were full.
        discarded => "weir_sink_events_discarded_total",
        /// Bytes that were delivered, as they were sent.
        bytes_delivered => "weir_sink_delivered_bytes_total",
        /// Time from request to answer, here in nanoseconds.
        request_time => "weir_sink_request_seconds_total",
        /// Payloads that are waiting for their turn.
        waiting => "weir_sink_payloads_waiting",
        /// Requests that may be under way at once, by now.
        concurrency => "weir_sink_concurrency",
    }
}

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; Histogram::BOUNDS.len() + 1],
    /// Nanoseconds, together.
    sum: AtomicU64,
}

impl Histogram {
    /// Upper bounds of the buckets, in milliseconds; the last bucket has none.
    pub const BOUNDS: [u64; 15] =
        [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 3_600_000];

    /// So many things took so long.
    pub fn observe(&self, time: Duration, count: u64) {
        let bucket = Self::BOUNDS.partition_point(|bound| Duration::from_millis(*bound) < time);
        add(&self.counts[bucket], count);
        add(&self.sum, (time.as_nanos() as u64).saturating_mul(count));
    }

    /// How many fell into each bucket, and not into one before.
    pub fn counts(&self) -> [u64; Histogram::BOUNDS.len() + 1] {
        std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed))
    }

    /// How long all took together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum.load(Ordering::Relaxed))
    }
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Sets a counter to what somebody else has counted.
pub fn set(counter: &AtomicU64, value: u64) {
    counter.store(value, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Accounts, Histogram, PluginAccounts, SinkAccounts};

    #[test]
    fn times_fall_into_buckets() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_millis(5), 2);
        histogram.observe(Duration::from_micros(5_001), 1);
        histogram.observe(Duration::from_secs(4000), 3);
        let mut expected = [0; 16];
        (expected[0], expected[1], expected[15]) = (2, 1, 3);
        assert_eq!(histogram.counts(), expected);
        assert_eq!(histogram.sum(), Duration::from_micros(12_000_015_001));
    }

    #[test]
    fn whoever_looks_on_sees_accounts_as_they_were_between_two_turns() {
        let accounts = Accounts::default();
        let seen = |name: &str| accounts.balanced().into_iter().find(|(known, ..)| *known == name).unwrap().2;
        super::add(&accounts.read, 5);
        super::set(&accounts.in_flight, 5);
        assert_eq!(seen("read"), 5);
        accounts.balance();
        super::add(&accounts.read, 2);
        super::add(&accounts.bytes_read, 9);
        assert_eq!(["read", "in_flight", "bytes_read"].map(seen), [5, 5, 9]);
        accounts.balance();
        assert_eq!(seen("read"), 7);
    }

    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../docs/guarantees.md");
        let all = [Accounts::default().list(), PluginAccounts::default().list(), SinkAccounts::default().list()];
        for (name, metric, _) in all.concat() {
            assert!(page.contains(&format!("`{name}`")) && page.contains(&format!("`{metric}`")), "{name}, {metric}");
        }
    }
}
