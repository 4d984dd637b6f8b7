//! Access logs of web servers.

use super::Lines;
use super::parts::{Rng, Stamp, address, fill, number, pool, put, sequence};

/// Lines of nginx's format `main`, or Apache's `combined`, which is the same without the last field.
pub struct Access {
    flavor: Flavor,
    time: Stamp,
    clients: Vec<String>,
    paths: Vec<String>,
    referers: Vec<String>,
    agents: Vec<String>,
    forwarded: Vec<String>,
}

#[derive(PartialEq)]
enum Flavor {
    Nginx,
    Apache,
}

impl Access {
    pub fn nginx(rng: &mut Rng) -> Self {
        Access::new(Flavor::Nginx, rng)
    }

    pub fn apache(rng: &mut Rng) -> Self {
        Access::new(Flavor::Apache, rng)
    }

    fn new(flavor: Flavor, rng: &mut Rng) -> Self {
        Access {
            flavor,
            time: Stamp::new("%d/%b/%Y:%H:%M:%S +0000"),
            clients: pool(4096, rng, |rng| format!("{} - {} [", address(rng), rng.pick(&USERS))),
            paths: pool(1024, rng, |rng| fill(rng.pick(&PATHS), rng)),
            referers: pool(256, rng, |rng| fill(rng.pick(&REFERERS), rng)),
            agents: pool(256, rng, |rng| fill(rng.pick(&AGENTS), rng)),
            forwarded: pool(1024, rng, |rng| match rng.below(20) {
                0..15 => "-".to_owned(),
                15..19 => address(rng),
                _ => format!("{}, 10.0.{}.{}", address(rng), rng.below(256), rng.below(256)),
            }),
        }
    }
}

impl Lines for Access {
    fn event(&mut self, seq: u64, millis: i64, rng: &mut Rng, out: &mut Vec<u8>) {
        let status = rng.pick(&STATUSES);
        put(out, rng.pick(&self.clients));
        put(out, self.time.text(millis));
        put(out, "] \"");
        put(out, rng.pick(&METHODS));
        put(out, rng.pick(&self.paths));
        out.push(b'?');
        sequence(out, seq);
        put(out, rng.pick(&QUERIES));
        put(out, rng.pick(&PROTOCOLS));
        put(out, status);
        match (status, &self.flavor) {
            ("304 ", Flavor::Nginx) => out.push(b'0'),
            ("304 ", Flavor::Apache) => out.push(b'-'),
            _ => number(out, u64::from(rng.sized(20)), 1),
        }
        put(out, " \"");
        put(out, rng.pick(&self.referers));
        put(out, "\" \"");
        put(out, rng.pick(&self.agents));
        if self.flavor == Flavor::Nginx {
            put(out, "\" \"");
            put(out, rng.pick(&self.forwarded));
        }
        put(out, "\"\n");
    }
}

const USERS: [&str; 10] = ["-", "-", "-", "-", "-", "-", "-", "-", "alice", "svc-reports"];

const METHODS: [&str; 10] = ["GET ", "GET ", "GET ", "GET ", "GET ", "GET ", "GET ", "POST ", "PUT ", "DELETE "];

const PATHS: [&str; 16] = [
    "/",
    "/index.html",
    "/api/v1/orders",
    "/api/v1/orders/####",
    "/api/v1/items/####",
    "/api/v2/users/#####/cart",
    "/api/v2/users/#####/profile",
    "/api/v2/search",
    "/static/js/app.#a#f#c##.js",
    "/static/css/main.####.css",
    "/images/products/#####/large.jpg",
    "/login",
    "/blog/2025/1#/how-we-halved-our-bill",
    "/healthz",
    "/metrics",
    "/docs/%E5%85%A5%E9%97%A8/####",
];

const QUERIES: [&str; 10] =
    ["", "", "", "", "", "&page=2", "&lang=de", "&sort=price&desc=1", "&q=blue%20shoes", "&utm_source=mail"];

const PROTOCOLS: [&str; 10] = [
    " HTTP/1.1\" ",
    " HTTP/1.1\" ",
    " HTTP/1.1\" ",
    " HTTP/1.1\" ",
    " HTTP/1.1\" ",
    " HTTP/1.1\" ",
    " HTTP/2.0\" ",
    " HTTP/2.0\" ",
    " HTTP/2.0\" ",
    " HTTP/1.0\" ",
];

const STATUSES: [&str; 32] = [
    "200 ", "200 ", "200 ", "200 ", "200 ", "200 ", "200 ", "200 ", "200 ", "200 ", "200 ", "200 ", "200 ", "200 ",
    "200 ", "200 ", "200 ", "200 ", "200 ", "200 ", "201 ", "206 ", "301 ", "302 ", "304 ", "304 ", "400 ", "401 ",
    "404 ", "404 ", "500 ", "502 ",
];

const REFERERS: [&str; 8] = [
    "-",
    "-",
    "-",
    "-",
    "https://www.example.com/",
    "https://shop.example.com/items/####",
    "https://www.google.com/",
    "https://shop.example.org/search?q=shoes&page=#",
];

const AGENTS: [&str; 12] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/14#.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.# Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:14#.0) Gecko/20100101 Firefox/14#.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_# like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "curl/8.#.#",
    "Go-http-client/2.0",
    "python-requests/2.3#.#",
    "kube-probe/1.3#",
    "okhttp/4.1#.0",
    "-",
];
