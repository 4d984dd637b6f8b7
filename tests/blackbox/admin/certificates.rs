//! A certificate that is replaced while the agent runs.

use std::process::Command;

use super::{APP, Managed, OPERATOR};
use crate::harness::Site;

/// A certificate of `localhost` and its key, as PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Whether a new connection is made with that certificate, and all is well.
fn is_used(managed: &Managed, certificate: &str) -> bool {
    let mut curl = Command::new("curl");
    curl.args(["-fsS", "--noproxy", "*", "--cacert"]).arg(managed.site.path(certificate));
    curl.args(["-H", &format!("Authorization: Bearer {OPERATOR}")]);
    curl.arg(format!("https://localhost:{}/v1/status", managed.port));
    curl.output().expect("there is no curl").status.success()
}

#[test]
fn a_certificate_that_is_replaced_is_used_for_new_connections() {
    let managed = Managed::new(Site::new(), APP);
    let site = &managed.site;
    let (first, second) = (certificate(), certificate());
    for (name, pem) in
        [("first.pem", &first.0), ("second.pem", &second.0), ("tls/crt", &first.0), ("tls/key", &first.1)]
    {
        site.write(name, pem);
    }
    managed.config_with(APP, ", tls: { cert: tls/crt, key: tls/key }");
    let mut agent = site.start();
    agent.wait("an answer", |_| is_used(&managed, "first.pem"));
    assert!(!is_used(&managed, "second.pem"));

    // The key alone is of no use, and what was there goes on.
    site.write("new", &second.1);
    site.rename("new", "tls/key");
    agent.wait("a complaint", |site| {
        assert!(is_used(&managed, "first.pem"));
        let said = std::fs::read_to_string(site.path("stderr")).unwrap();
        said.contains("the admin server's certificate has changed and cannot be used")
    });
    site.write("new", &second.0);
    site.rename("new", "tls/crt");
    agent.wait("the new certificate", |_| is_used(&managed, "second.pem"));
    assert!(!is_used(&managed, "first.pem"));
    agent.stop();
}
