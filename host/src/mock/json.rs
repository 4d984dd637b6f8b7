//! Structured logs: one JSON object a line.

use super::Lines;
use super::parts::{Rng, Stamp, fill, fraction, hex, number, pool, put};

/// Objects of flat values and one object.
pub struct Json {
    time: Stamp,
    origins: Vec<String>,
    messages: Vec<String>,
    users: Vec<String>,
}

impl Json {
    pub fn new(rng: &mut Rng) -> Self {
        Json {
            time: Stamp::new("%Y-%m-%dT%H:%M:%S"),
            origins: pool(256, rng, |rng| {
                let (level, service) = (rng.pick(&LEVELS), rng.pick(&SERVICES));
                let pid = fill("####", rng);
                format!(r#""level":"{level}","service":"{service}","pid":{pid},"message":""#)
            }),
            messages: pool(512, rng, |rng| fill(rng.pick(&MESSAGES), rng)),
            users: pool(1024, rng, |rng| {
                let (id, plan, country) = (fill("#####", rng), rng.pick(&PLANS), rng.pick(&COUNTRIES));
                format!(r#","user":{{"id":{id},"plan":"{plan}","country":{country}}}"#)
            }),
        }
    }
}

impl Lines for Json {
    fn event(&mut self, seq: u64, millis: i64, rng: &mut Rng, out: &mut Vec<u8>) {
        put(out, r#"{"seq":"#);
        number(out, seq, 1);
        put(out, r#","time":""#);
        put(out, self.time.text(millis));
        fraction(out, millis);
        put(out, r#"Z","#);
        put(out, rng.pick(&self.origins));
        match rng.in_thousand(5) {
            true => put(out, rng.pick(&ESCAPED)),
            false => put(out, rng.pick(&self.messages)),
        }
        put(out, r#"","trace_id":""#);
        hex(out, rng.next());
        put(out, r#"","duration_ms":"#);
        number(out, u64::from(rng.sized(12)), 1);
        fraction(out, i64::from(rng.below(1000)));
        put(out, r#","bytes":"#);
        number(out, u64::from(rng.sized(20)), 1);
        put(out, rng.pick(&TAILS));
        put(out, rng.pick(&self.users));
        put(out, "}\n");
    }
}

const LEVELS: [&str; 8] = ["info", "info", "info", "info", "info", "debug", "warn", "error"];

const SERVICES: [&str; 5] = ["checkout", "catalog", "payments", "search-api", "user-profile"];

const MESSAGES: [&str; 10] = [
    "request completed",
    "order ##### placed, # items, total ##.## EUR",
    "cache refreshed, ### keys, # evicted",
    "payment of ##.## authorized by provider ##",
    "upstream answered after ### ms, retrying once",
    "connection to replica ## was reset by the peer",
    "user changed the delivery address of order #####",
    "slow query: SELECT * FROM orders WHERE customer = #####",
    "job reindex-#### finished in ## s",
    "feature flag new-checkout-# is on for this session",
];

/// What a parser's slow path is for.
const ESCAPED: [&str; 4] = [
    r#"cannot open \"C:\\data\\export.csv\": access denied"#,
    r"first line\nsecond line\tafter a tab",
    r"caf\u00e9 order \ud83d\ude80 shipped",
    r#"{\"nested\":\"as text\"} \/ done"#,
];

const TAILS: [&str; 5] = [
    r#","cache_hit":true,"retry_of":null"#,
    r#","cache_hit":false,"retry_of":null"#,
    r#","cache_hit":true,"retry_of":null,"ratio":0.9375"#,
    r#","cache_hit":false,"retry_of":17,"ratio":-1.5"#,
    r#","cache_hit":false,"retry_of":null,"ratio":2.5e-3"#,
];

const PLANS: [&str; 3] = ["free", "team", "enterprise"];

const COUNTRIES: [&str; 6] = [r#""DE""#, r#""US""#, r#""CN""#, r#""BR""#, r#""Österreich""#, "null"];
