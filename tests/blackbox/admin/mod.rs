//! The admin server of an agent that runs.
//!
//! Rooms: [`client`] what asks it · [`description`] whether it is as the OpenAPI document says · [`tokens`] who may do
//! what · [`killed`] `kill -9` while plugins and the configuration change · [`unusable`] a choice that cannot run ·
//! [`conserved`] what its metrics say under load · [`waiting`] what takes long · [`numbers`] how soon, and what others
//! notice of it · [`certificates`] that are replaced · [`page`] the commands of the
//! documentation.

mod certificates;
mod client;
mod conserved;
mod description;
mod killed;
mod numbers;
mod page;
mod tokens;
mod unusable;
mod waiting;

use std::fs;

use serde_json::{Value, json};
use socket2::Socket;

use crate::harness::{Agent, Site, plugins};
use crate::proxy::reserve_port;
use client::{Answer, Client};

const OPERATOR: &str = "operator-operator";
const SHOP: &str = "shop-shop-shop-shop";
const OTHER: &str = "other-other-other";

/// The logstore of the project `shop` whose plugin is changed: numbered lines of two columns.
const APP: &str = "
- name: shop/app
  files: { root: logs, include: [app.log] }
  plugins: [{ use: delimiter, settings: { fields: [number, v0] } }]
  sink: out
";
const APP_PLUGINS: &str = "/v1/logstores/shop/app/plugins";

/// A site whose agent has an admin server, on a port that stays the same.
struct Managed {
    site: Site,
    port: u16,
    _reserved: Socket,
}

impl Managed {
    fn new(site: Site, logstores: &str) -> Managed {
        let (reserved, port) = reserve_port();
        let managed = Managed { site, port, _reserved: reserved };
        managed.config(logstores);
        managed
    }

    /// Writes the configuration with these logstores, as Kubernetes does it: another file in its place.
    fn config(&self, logstores: &str) {
        self.config_with(logstores, "");
    }

    /// The same with more keys of `admin`.
    fn config_with(&self, logstores: &str, admin: &str) {
        let before = fs::read(self.site.path("weir.yaml")).ok();
        self.site.config(logstores);
        let text = fs::read_to_string(self.site.path("weir.yaml")).unwrap();
        if let Some(before) = before {
            self.site.write("weir.yaml", before);
        }
        let projects = format!(
            "projects:
  shop: {{ token: {SHOP}, uploads: {{ max_versions: 1000 }} }}
  other: {{ token: {OTHER} }}"
        );
        let admin = format!("admin: {{ listen: '127.0.0.1:{}', token: {OPERATOR}{admin} }}", self.port);
        self.site.write("next.yaml", format!("{admin}\n{projects}\n{text}"));
        self.site.rename("next.yaml", "weir.yaml");
    }

    /// Starts the agent, and waits until its server answers.
    fn start(&self) -> Agent<'_> {
        let mut agent = self.site.start();
        let client = self.client(None);
        agent.wait("an answer", |_| client.try_ask("GET", "/healthz").is_ok_and(|answer| answer.status == 200));
        agent
    }

    fn client(&self, token: Option<&'static str>) -> Client {
        Client { port: self.port, token }
    }

    fn operator(&self) -> Client {
        self.client(Some(OPERATOR))
    }
}

/// The bytes of a plugin.
fn wasm(name: &str) -> Vec<u8> {
    fs::read(plugins().join(format!("{name}.wasm"))).unwrap()
}

/// The same plugin with other bytes, which has to be compiled again: one with a custom section more.
fn another(plugin: &[u8], number: u64) -> Vec<u8> {
    let name = b"number";
    let content = number.to_le_bytes();
    let head = [0, (1 + name.len() + content.len()) as u8, name.len() as u8];
    [plugin, &head, name, &content].concat()
}

/// Settings of the plugin `delimiter` for lines of [`APP`], by which its events can be told from others.
fn settings(column: &str) -> Value {
    json!({ "fields": ["number", column] })
}
