//! An application's log: a line an event, and now and then a stack trace below it.

use super::Lines;
use super::parts::{Rng, Stamp, fill, fraction, pool, put, sequence};

/// Events that begin with a date, a fifth of them with a trace of 5 to 30 lines.
pub struct Java {
    time: Stamp,
    quiet: Vec<String>,
    failing: Vec<String>,
    messages: Vec<String>,
    traces: Vec<String>,
}

impl Java {
    pub fn new(rng: &mut Rng) -> Self {
        let origin = |level: &str, rng: &mut Rng| {
            let thread = fill(rng.pick(&THREADS), rng);
            format!(" {level} [{thread}] com.example.shop.{} - ", rng.pick(&CLASSES))
        };
        Java {
            time: Stamp::new("%Y-%m-%d %H:%M:%S"),
            quiet: pool(256, rng, |rng| origin(rng.pick(&LEVELS), rng)),
            failing: pool(256, rng, |rng| origin("ERROR", rng)),
            messages: pool(512, rng, |rng| fill(rng.pick(&MESSAGES), rng)),
            traces: pool(128, rng, trace),
        }
    }
}

impl Lines for Java {
    fn event(&mut self, seq: u64, millis: i64, rng: &mut Rng, out: &mut Vec<u8>) {
        let fails = rng.in_thousand(200);
        put(out, self.time.text(millis));
        fraction(out, millis);
        put(out, rng.pick(if fails { &self.failing } else { &self.quiet }));
        sequence(out, seq);
        put(out, rng.pick(&self.messages));
        if fails {
            put(out, rng.pick(&self.traces));
        }
        out.push(b'\n');
    }
}

/// The lines below the first, each with a newline before it.
fn trace(rng: &mut Rng) -> String {
    let lines = 5 + rng.below(26);
    let mut trace = format!("\n{}", fill(rng.pick(&EXCEPTIONS), rng));
    for line in 1..lines {
        trace.push('\n');
        match line {
            // Only a longer trace has a cause, of at least three lines.
            _ if lines > 12 && line == lines - 4 => {
                trace.push_str("Caused by: ");
                trace.push_str(&fill(rng.pick(&EXCEPTIONS), rng));
            }
            _ if lines > 12 && line == lines - 1 => trace.push_str(&fill("\t... ## more", rng)),
            _ => {
                let (class, method) = (rng.pick(&CLASSES), rng.pick(&METHODS));
                trace.push_str(&fill(&format!("\tat com.example.shop.{class}.{method}({class}.java:##)"), rng));
            }
        }
    }
    trace
}

const LEVELS: [&str; 8] = ["INFO ", "INFO ", "INFO ", "INFO ", "INFO ", "DEBUG", "DEBUG", "WARN "];

const THREADS: [&str; 4] = ["http-nio-8080-exec-#", "http-nio-8080-exec-1#", "scheduler-#", "kafka-consumer-#"];

const CLASSES: [&str; 6] =
    ["OrderService", "PaymentGateway", "CatalogRepository", "CartController", "RetryTemplate", "MailQueue"];

const METHODS: [&str; 6] = ["place", "authorize", "findById", "lambda$checkout$#", "<init>", "doInTransaction"];

const MESSAGES: [&str; 6] = [
    " order ##### placed in ## ms",
    " fetched ## rows for customer #####",
    " payment ##### declined: insufficient funds",
    " cache miss for item #####, loading from the database",
    " retrying call # of 9 to inventory-service",
    " session ##### expired after ## minutes",
];

const EXCEPTIONS: [&str; 4] = [
    "java.lang.IllegalStateException: order ##### is closed",
    "java.net.SocketTimeoutException: Read timed out after ##00 ms",
    "org.springframework.dao.DuplicateKeyException: key (id)=(#####) already exists",
    "java.lang.NullPointerException: Cannot invoke \"Cart.total()\" because \"cart\" is null",
];
