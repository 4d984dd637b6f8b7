//! Every metric's name, in one place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident => $metric:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $name { $($(#[$field_doc])* pub $field: AtomicU64,)* }

        impl $name {
            /// Values by their short names.
            pub fn summary(&self) -> BTreeMap<&'static str, u64> {
                self.list().into_iter().map(|(name, _, value)| (name, value)).collect()
            }

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
        /// CPU time of its plugins, in nanoseconds.
        plugin_cpu => "weir_plugins_cpu_nanoseconds_total",
        /// Bytes of memory that it has of its project's.
        memory => "weir_memory_bytes",
        /// Turns in which it could not go on, because its project had no memory left.
        short => "weir_memory_shortages_total",
        /// CPU time of all the logstore's turns, in nanoseconds.
        cpu => "weir_cpu_nanoseconds_total",
    }
}

counters! {
    /// What one plugin of one logstore has done, and what that cost.
    PluginAccounts {
        /// Calls of `process`.
        calls => "weir_plugin_calls_total",
        /// Events that it was given.
        events => "weir_plugin_events_total",
        /// Bytes that it was given.
        bytes => "weir_plugin_input_bytes_total",
        /// Fuel that it used.
        fuel => "weir_plugin_fuel_total",
        /// CPU time of its calls, in nanoseconds.
        cpu => "weir_plugin_cpu_nanoseconds_total",
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
    /// What one sink on the network has done. Events are counted as they are sent, after joining and splitting.
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
        /// Time from request to answer, in nanoseconds.
        request_time => "weir_sink_request_nanoseconds_total",
        /// Payloads that are waiting for their turn.
        waiting => "weir_sink_payloads_waiting",
        /// Requests that may be under way at once, by now.
        concurrency => "weir_sink_concurrency",
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
    use super::{Accounts, PluginAccounts, SinkAccounts};

    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../docs/guarantees.md");
        let all = [Accounts::default().list(), PluginAccounts::default().list(), SinkAccounts::default().list()];
        for (name, metric, _) in all.concat() {
            assert!(page.contains(&format!("`{name}`")) && page.contains(&format!("`{metric}`")), "{name}, {metric}");
        }
    }
}
