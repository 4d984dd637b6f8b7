//! One event in so many, chosen by a hash: without a state, and the same each time.

use std::collections::BTreeMap;

use weir_plugin::prelude::*;

weir_plugin::export!(Sample, name = "sample");

/// What the plugin's user may set. A rate of 1 keeps all events, 10 one in ten, and 0 none.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// One event in so many is kept.
    rate: u64,
    /// The field whose hash decides: events with the same value are kept or dropped together. The whole event if not
    /// given, or if it has no such field.
    by: Option<String>,
    /// Other rates for some values of a field.
    rates: Option<Rates>,
    /// A field for the rate that an event was kept at.
    rate_field: Option<String>,
    /// Changes which events are kept: for several such plugins one behind the other.
    #[serde(default)]
    seed: u64,
}

/// Other rates for some values of a field.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// The field.
    field: String,
    /// The rates of its values.
    values: BTreeMap<String, u64>,
}

/// The plugin.
pub struct Sample {
    config: Config,
    rate_field: Option<FieldId>,
}

impl Plugin for Sample {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        config.rate_field.as_deref().map_or(Ok(()), Fields::check)?;
        let rate_field = config.rate_field.as_ref().map(|name| fields.add(name, Kind::Integer));
        Ok(Sample { config, rate_field })
    }

    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let rate = self.rate(event);
        if rate == 0 || rate > 1 && !self.hash(event).is_multiple_of(rate) {
            return Ok(Drop);
        }
        match self.rate_field {
            None => row.pass_all(event),
            Some(field) => {
                row.pass_all_but(event, self.config.rate_field.as_deref().unwrap_or_default());
                row.make(field, |made| made.extend_from_slice(rate.to_string().as_bytes()));
            }
        }
        Ok(Keep)
    }
}

impl Sample {
    fn rate(&self, event: &Event) -> u64 {
        let own = self.config.rates.as_ref().and_then(|rates| {
            let value = std::str::from_utf8(event.get(&rates.field)?).ok()?;
            rates.values.get(value)
        });
        own.copied().unwrap_or(self.config.rate)
    }

    fn hash(&self, event: &Event) -> u64 {
        let mut hash = Hash::new(self.config.seed);
        match self.config.by.as_ref().and_then(|name| event.get(name)) {
            Some(value) => hash.add(value),
            None => event.cells().for_each(|cell| {
                hash.add(cell.name.as_bytes());
                hash.add(cell.bytes);
            }),
        }
        hash.finish()
    }
}

/// FNV-1a, whose bits are mixed at the end, as its low bits alone are not good enough. The same on all machines and in
/// all versions: what was kept once is kept again.
struct Hash(u64);

impl Hash {
    fn new(seed: u64) -> Self {
        let mut hash = Hash(0xcbf2_9ce4_8422_2325);
        if seed != 0 {
            hash.add(&seed.to_le_bytes());
        }
        hash
    }

    fn add(&mut self, bytes: &[u8]) {
        // With its length, so that `ab`, `c` is not `a`, `bc`.
        for byte in bytes.iter().chain(&(bytes.len() as u32).to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// MurmurHash3's last step.
    fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ hash >> 33
    }
}

#[cfg(test)]
mod tests;
