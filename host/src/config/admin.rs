//! What the admin server means: where it listens, who may call it, and its certificate.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::fields::{Fields, Table};
use super::raw::Node;
use super::secret::{Secret, token};

/// Where a server listens that doesn't say.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9480);

/// The admin server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Port 0 is any that is free.
    pub listen: SocketAddr,
    /// The operator's; if there is none, one is made and kept in `data_dir`.
    pub token: Option<Secret>,
    /// How it proves who it is. Without it, others can read along, so that it must be written out (`tls: off`) where
    /// others can.
    pub tls: Option<ServerTls>,
}

/// A server's certificates, PEM files. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Its certificate, and those between it and one that clients know.
    pub cert: PathBuf,
    /// The certificate's key.
    pub key: PathBuf,
    /// Who signs the certificates of clients, who must have one then.
    pub client_ca: Option<PathBuf>,
}

impl Admin {
    /// The files that it reads.
    pub fn files(&self) -> Vec<&PathBuf> {
        let secret = self.token.iter().filter_map(Secret::file);
        let tls = self.tls.iter().flat_map(|tls| [&tls.cert, &tls.key].into_iter().chain(&tls.client_ca));
        secret.chain(tls).collect()
    }
}

pub(super) fn admin(node: &Node, fields: &mut Fields) -> Option<Admin> {
    let table = fields.table(node, &["listen", "token", "token_file", "tls"])?;
    let listen = table.get("listen").map_or(Some(DEFAULT_LISTEN), |node| address(node, fields));
    let token = token(&table, fields);
    let tls = tls(&table, fields);
    let listen = listen?;
    if !listen.ip().is_loopback() && table.get("tls").is_none() {
        let place = table.get("listen").unwrap_or(node);
        let hint =
            "give `tls: { cert, key }`; or write `tls: off` if nobody can read along, or something else encrypts";
        fields.error_with(place, "whoever calls it over the network sends a token, which needs TLS", Some(hint.into()));
    }
    Some(Admin { listen, token, tls })
}

fn address(node: &Node, fields: &mut Fields) -> Option<SocketAddr> {
    let address = fields.text(node)?.parse().ok();
    if address.is_none() {
        let hint = "write 127.0.0.1:9480, 0.0.0.0:9480 or '[::]:9480'";
        fields.mismatch(node, "an IP address and a port", Some(hint));
    }
    address
}

fn tls(table: &Table, fields: &mut Fields) -> Option<ServerTls> {
    let node = table.get("tls").filter(|node| !node.is_word("off"))?;
    let table = fields.table(node, &["cert", "key", "client_ca"])?;
    let mut file = |key| fields.require(&table, key).and_then(|node| fields.path(node));
    let (cert, key) = (file("cert"), file("key"));
    let client_ca = table.get("client_ca").and_then(|node| fields.path(node));
    Some(ServerTls { cert: cert?, key: key?, client_ca })
}

#[cfg(test)]
mod tests {
    use super::super::{Loaded, parse};
    use super::*;

    fn parsed(admin: &str) -> Result<Option<Admin>, String> {
        let text = format!(
            "admin: {admin}\nlogstores: [{{ name: p/a, files: {{ root: /x }}, sink: s }}]\nsinks: {{ s: {{ type: blackhole }} }}\n"
        );
        let env = |name: &str| (name == "TOKEN").then(|| "0123456789abcdef".to_owned());
        let parsed = parse(&text, "/etc/weir/weir.yaml", &env);
        parsed.map(|Loaded { config, .. }| config.admin).map_err(|errors| errors.to_string())
    }

    #[test]
    fn there_is_no_server_without_being_asked_for() {
        assert_eq!(parsed(""), Ok(None));
        let plain = Admin { listen: "127.0.0.1:9480".parse().unwrap(), token: None, tls: None };
        assert_eq!(parsed("{}"), Ok(Some(plain.clone())));
        assert_eq!(parsed("{ tls: off, listen: '0.0.0.0:1' }"), {
            Ok(Some(Admin { listen: "0.0.0.0:1".parse().unwrap(), ..plain.clone() }))
        });
        assert_eq!(parsed("{ listen: '[::1]:0' }"), {
            Ok(Some(Admin { listen: "[::1]:0".parse().unwrap(), ..plain.clone() }))
        });
        let token = Some(Secret::Value("0123456789abcdef".into()));
        assert_eq!(parsed("{ token: '${TOKEN}' }"), Ok(Some(Admin { token, ..plain })));
    }

    #[test]
    fn files_are_known() {
        let admin = parsed("{ token_file: t, tls: { cert: c, key: /k, client_ca: ca } }").unwrap().unwrap();
        let files = ["/etc/weir/t", "/etc/weir/c", "/k", "/etc/weir/ca"].map(PathBuf::from);
        assert_eq!(admin.files(), files.iter().collect::<Vec<_>>());
    }

    #[test]
    fn servers_that_are_wrong() {
        for (admin, expected) in [
            (
                "{ listen: '0.0.0.0:9480' }",
                "10: admin.listen: whoever calls it over the network sends a token, which needs TLS\n  hint: give \
                 `tls: { cert, key }`; or write `tls: off` if nobody can read along, or something else encrypts",
            ),
            ("{ listen: 9480 }", "10: admin.listen: must be a string, not 9480\n  hint: put it in quotes"),
            (
                "{ listen: localhost }",
                "10: admin.listen: must be an IP address and a port, not \"localhost\"\n  hint: write \
                 127.0.0.1:9480, 0.0.0.0:9480 or '[::]:9480'",
            ),
            (
                "{ token: short }",
                "10: admin.token: must have at least 16 characters\n  hint: make one with `openssl rand -hex 16`",
            ),
            ("{ token: 0123456789abcde é }", "10: admin.token: must be of visible ASCII characters, without spaces"),
            ("{ token: 0123456789abcdef, token_file: x }", "35: admin.token_file: give either `token` or `token_file`"),
            ("{ tls: on }", "10: admin.tls: must be a mapping, not \"on\""),
            ("{ tls: { cert: x } }", "10: admin.tls.key: is required"),
        ] {
            let said = parsed(admin).unwrap_err();
            assert_eq!(said, format!("/etc/weir/weir.yaml:1:{expected}\n1 error in /etc/weir/weir.yaml"), "{admin}");
        }
    }
}
