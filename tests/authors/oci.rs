//! Plugins in registries: what is pushed is what is pulled.

use std::fs;

use serde_json::{Value, json};
use weir::registry::hex_digest;

use crate::harness::{Site, plugins};
use crate::registries::{Docker, PASSWORD, StandIn, USERNAME, told, weir};

fn wasm(name: &str) -> String {
    plugins().join(format!("{name}.wasm")).display().to_string()
}

/// Pushes a plugin. Gives its reference by digest.
#[track_caller]
fn push(site: &Site, to: &str, name: &str) -> String {
    told(site, &["plugin", "push", to, &wasm(name)]).trim_end().to_owned()
}

/// Pulls a plugin, and compares it with the one that was pushed.
#[track_caller]
fn assert_pulled(site: &Site, from: &str, name: &str) {
    told(site, &["plugin", "pull", from, "-o", "pulled.wasm"]);
    assert_eq!(fs::read(site.path("pulled.wasm")).unwrap(), fs::read(wasm(name)).unwrap(), "{from}");
}

#[test]
fn a_plugin_goes_through_a_registry() {
    let site = Site::new();
    let registry = Docker::start(&site);
    let repository = format!("oci://{}/team/parsers/nginx", registry.address);
    let tag = format!("{repository}:1.0");
    let first = push(&site, &tag, "nginx");
    assert!(first.starts_with(&format!("{repository}@sha256:")), "{first}");
    assert_pulled(&site, &tag, "nginx");
    assert_pulled(&site, &first, "nginx");

    // The tag is moved, the digest stays.
    let second = push(&site, &tag, "json");
    assert_ne!(first, second);
    assert_pulled(&site, &tag, "json");
    assert_pulled(&site, &first, "nginx");
    // A digest says more than a tag.
    assert_pulled(&site, &first.replace('@', ":1.0@"), "nginx");

    let said = told(&site, &["plugin", "pull", &first]);
    assert_eq!(said, format!("nginx.wasm: nginx 0.1.0, {first}\n"));
    let said = told(&site, &["plugin", "pull", &first, "--json", "-o", "n.wasm"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let bytes = fs::read(wasm("nginx")).unwrap();
    let (_, digest) = first.split_once('@').unwrap();
    let expected = json!({
        "file": "n.wasm", "reference": first, "digest": digest, "plugin": format!("sha256:{}", hex_digest(&bytes)),
        "size": bytes.len(), "name": "nginx", "version": "0.1.0",
    });
    assert_eq!(said, expected);
    assert_eq!(weir(&site, &["plugin", "pull", &first, "-o", "-"], &[]).stdout, bytes);

    let none = format!("{repository}:2.0");
    let done = weir(&site, &["plugin", "pull", &none], &[]);
    done.assert_code(70);
    assert_eq!(done.stderr, format!("error: there is no 2.0 in {}/team/parsers/nginx\n", registry.address));
    let done = weir(&site, &["plugin", "pull", &repository], &[]);
    assert_eq!(done.stderr, format!("error: there is no latest in {}/team/parsers/nginx\n", registry.address));
    let other = format!("{repository}@sha256:{}", hex_digest(b"other"));
    let done = weir(&site, &["plugin", "pull", &other], &[]);
    done.assert_code(70);
    done.assert_says("error: there is no sha256:");
}

#[test]
fn an_artifact_is_in_the_layout_for_webassembly() {
    let site = Site::new();
    let registry = StandIn::start();
    let tag = format!("oci://{}/team/nginx:1.0", registry.address);
    let at = [("SOURCE_DATE_EPOCH", "1767225600")];
    let push = || weir(&site, &["plugin", "push", &tag, &wasm("nginx"), "--json"], &at);
    let pushed: Value = serde_json::from_slice(&push().stdout).unwrap();
    // The same plugin at the same time has the same digest.
    assert_eq!(serde_json::from_slice::<Value>(&push().stdout).unwrap(), pushed);
    let bytes = fs::read(wasm("nginx")).unwrap();
    let digest = format!("sha256:{}", hex_digest(&bytes));
    assert_eq!(
        (&pushed["plugin"], &pushed["size"], &pushed["signed"]),
        (&json!(digest), &json!(bytes.len()), &json!(false))
    );
    let manifest = registry.manifest("1.0");
    let config = registry.kept().blobs[manifest["config"]["digest"].as_str().unwrap()].clone();
    let expected = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.wasm.config.v0+json",
            "digest": format!("sha256:{}", hex_digest(&config)),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/wasm",
            "digest": digest,
            "size": bytes.len(),
            "annotations": { "org.opencontainers.image.title": "nginx.wasm" },
        }],
        "annotations": {
            "org.opencontainers.image.created": "2026-01-01T00:00:00Z",
            "org.opencontainers.image.title": "nginx",
            "org.opencontainers.image.version": "0.1.0",
            "org.opencontainers.image.description": manifest["annotations"]["org.opencontainers.image.description"],
        },
    });
    assert_eq!(manifest, expected);
    let config: Value = serde_json::from_slice(&config).unwrap();
    let expected = json!({
        "created": "2026-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [digest],
        "component": {
            "exports": ["weir:plugin/processor@0.1.0"],
            "imports": config["component"]["imports"],
        },
    });
    assert_eq!(config, expected);
    assert!(config["component"]["imports"].as_array().unwrap().contains(&json!("weir:plugin/log@0.1.0")), "{config}");
    // What is there is not sent again.
    let asked = registry.kept().asked.iter().filter(|asked| asked.starts_with("PUT /v2/team/nginx/blobs/")).count();
    assert_eq!(asked, 2);
    assert_pulled(&site, &tag, "nginx");
}

#[test]
fn a_registry_that_wants_a_password_gets_it() {
    let site = Site::new();
    let registry = Docker::start_with_login(&site);
    let tag = format!("oci://{}/shop/nginx:1.0", registry.address);
    let plugin = wasm("nginx");
    let push = ["plugin", "push", &tag, &plugin];
    let host = &registry.address;
    let done = weir(&site, &push, &[]);
    done.assert_code(70);
    let expected = format!(
        "error: {host} wants to know who asks: log in with `docker login`, give --username and --password-file, or set \
         WEIR_REGISTRY_USERNAME and WEIR_REGISTRY_PASSWORD\n"
    );
    assert_eq!(done.stderr, expected);
    let wrong = [("WEIR_REGISTRY_USERNAME", USERNAME), ("WEIR_REGISTRY_PASSWORD", "not-the-password")];
    let done = weir(&site, &push, &wrong);
    done.assert_code(70);
    let refused = format!("error: {host} refuses the name and the password, or does not let them do this\n");
    assert_eq!(done.stderr, refused);
    weir(&site, &push, &[("WEIR_REGISTRY_USERNAME", USERNAME), ("WEIR_REGISTRY_PASSWORD", PASSWORD)]).assert_code(0);

    site.write("password", format!("{PASSWORD}\n"));
    let pull = ["plugin", "pull", &tag, "-o", "a.wasm"];
    told(&site, &[&pull[..], &["--username", USERNAME, "--password-file", "password"]].concat());
    // As `docker login` writes it.
    use base64::Engine;
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
    site.write("docker/config.json", json!({ "auths": { host: { "auth": auth } } }).to_string());
    told(&site, &pull);
    assert_eq!(fs::read(site.path("a.wasm")).unwrap(), fs::read(&plugin).unwrap());
    site.write("docker/config.json", json!({ "auths": { host: {} }, "credsStore": "desktop" }).to_string());
    let done = weir(&site, &pull, &[]);
    done.assert_code(70);
    done.assert_says("which weir does not run: give --username and --password-file\n");

    // A password is not sent for others to read.
    let done = weir(
        &site,
        &[
            "plugin",
            "pull",
            "oci://registry.example/a:1",
            "--plain-http",
            "--username",
            "a",
            "--password-file",
            "password",
        ],
        &[],
    );
    done.assert_code(70);
    assert_eq!(
        done.stderr,
        "error: a password would be sent to registry.example for others to read: leave out --plain-http\n"
    );
}

#[test]
fn a_registry_with_tls_is_reached_by_its_certificate() {
    let site = Site::new();
    let registry = Docker::start_tls(&site);
    let tag = format!("oci://{}/nginx:1.0", registry.address);
    told(&site, &["plugin", "push", &tag, &wasm("nginx"), "--registry-ca", "ca.pem"]);
    told(&site, &["plugin", "push", &tag, &wasm("nginx"), "--ca", "ca.pem"]);
    told(&site, &["plugin", "pull", &tag, "--ca", "ca.pem", "-o", "a.wasm"]);
    assert_eq!(fs::read(site.path("a.wasm")).unwrap(), fs::read(wasm("nginx")).unwrap());
    // Of another authority.
    let other = Site::new();
    let _another = Docker::start_tls(&other);
    let ca = other.path("ca.pem").display().to_string();
    let done = weir(&site, &["plugin", "pull", &tag, "--ca", &ca], &[]);
    done.assert_code(70);
    done.assert_says(&format!("error: {} does not answer: invalid peer certificate", registry.address));
}

#[test]
fn a_registry_that_wants_a_token_gets_it() {
    let site = Site::new();
    let registry = StandIn::with_tokens();
    let tag = format!("oci://{}/team/nginx:1.0", registry.address);
    let plugin = wasm("nginx");
    let account = [("WEIR_REGISTRY_USERNAME", USERNAME), ("WEIR_REGISTRY_PASSWORD", PASSWORD)];
    weir(&site, &["plugin", "push", &tag, &plugin], &account).assert_code(0);
    // One token for all of it.
    assert_eq!(registry.kept().asked.iter().filter(|asked| *asked == "GET /token").count(), 1);
    weir(&site, &["plugin", "pull", &tag, "-o", "a.wasm"], &account).assert_code(0);
    assert_eq!(fs::read(site.path("a.wasm")).unwrap(), fs::read(&plugin).unwrap());
    let wrong = [("WEIR_REGISTRY_USERNAME", USERNAME), ("WEIR_REGISTRY_PASSWORD", "not-the-password")];
    let done = weir(&site, &["plugin", "pull", &tag], &wrong);
    done.assert_code(70);
    let host = &registry.address;
    assert_eq!(done.stderr, format!("error: {host} refuses the name and the password, or does not let them do this\n"));
}

#[test]
fn a_registry_that_takes_little_at_once_gets_it_in_parts() {
    let site = Site::new();
    let registry = StandIn::with_small_requests(4 << 20);
    let tag = format!("oci://{}/team/nginx:1.0", registry.address);
    // A component with 10 MB of nothing at its end.
    let mut bytes = fs::read(wasm("nginx")).unwrap();
    let content = 10 << 20;
    bytes.push(0);
    let mut size = content + 2;
    while size >= 0x80 {
        bytes.push((size as u8 & 0x7f) | 0x80);
        size >>= 7;
    }
    bytes.extend([size as u8, 1, b'x']);
    bytes.resize(bytes.len() + content, 0);
    site.write("large.wasm", &bytes);
    told(&site, &["plugin", "push", &tag, "large.wasm"]);
    assert_eq!(registry.kept().asked.iter().filter(|asked| asked.starts_with("PATCH ")).count(), 3);
    told(&site, &["plugin", "pull", &tag, "-o", "pulled.wasm"]);
    assert!(fs::read(site.path("pulled.wasm")).unwrap() == bytes);
}

#[test]
fn what_no_agent_takes_is_not_pushed() {
    let site = Site::new();
    site.write("core.wasm", b"\0asm\x01\0\0\0");
    let push = |to: &str, more: &[&str]| weir(&site, &[&["plugin", "push", to, "core.wasm"], more].concat(), &[]);
    let done = push("oci://127.0.0.1:1/a:1", &[]);
    done.assert_code(70);
    assert_eq!(
        done.stderr,
        "error: no agent would take core.wasm: it is a core module, not a component: build it with `weir plugin build`\n"
    );
    for (to, more, why) in [
        ("oci://127.0.0.1:1/a", &[][..], "give a tag to push to: oci://127.0.0.1:1/a:1.0"),
        (
            "oci://127.0.0.1:1/a:1",
            &["--dry-run"],
            "--settings, --dry-run and --canary are for a running agent, not for a registry",
        ),
        ("shop/app", &["--sign-key", "x"], "--sign-key is for a registry: sign with `weir plugin sign`"),
    ] {
        let done = push(to, more);
        done.assert_code(64);
        assert_eq!(done.stderr, format!("error: {why}\n"));
    }
    let done = push("oci://127.0.0.1:1/A:1", &[]);
    done.assert_code(64);
    done.assert_says(
        "must be like oci://registry.example/team/nginx:1.0: a repository's name is of lower-case letters",
    );
}
