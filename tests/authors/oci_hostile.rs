//! Registries that lie: each lie is named, nothing is written, and memory stays small.

use std::fs;
use std::sync::{Arc, Mutex};

use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use weir::registry::hex_digest;

use crate::harness::{Site, plugins};
use crate::registries::{StandIn, endless, error, manifest, weir};

const CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// Bytes of memory that a command may use beside what it does.
const MEMORY: u64 = 96 << 20;

fn nginx() -> Vec<u8> {
    fs::read(plugins().join("nginx.wasm")).unwrap()
}

/// The manifest of a plugin of that digest and size.
fn manifest_of(digest: &str, size: usize) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": CONFIG, "digest": format!("sha256:{}", hex_digest(b"{}")), "size": 2 },
        "layers": [{ "mediaType": "application/wasm", "digest": digest, "size": size }],
    })
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex_digest(bytes))
}

/// Pulls by that tag or digest, over a file that is there. It fails; the file stays.
#[track_caller]
fn assert_refused(registry: &StandIn, reference: &str, why: &str) {
    let site = Site::new();
    site.write("out.wasm", "before");
    site.write("out.wasm.sig", "before");
    let from = format!("oci://{}/team/nginx{reference}", registry.address);
    let done = site.output(["plugin", "pull", &from, "-o", "out.wasm"]);
    done.assert_code(70);
    assert_eq!(done.stderr, format!("error: {}\n", why.replace("HOST", &registry.address)));
    for file in ["out.wasm", "out.wasm.sig"] {
        assert_eq!(fs::read_to_string(site.path(file)).unwrap(), "before");
    }
    let others = fs::read_dir(site.path(""))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp"));
    assert_eq!(others.count(), 0);
    assert!(done.peak < MEMORY, "{} MiB", done.peak >> 20);
}

/// A registry with that manifest under every name, and those bytes as every blob.
fn with(text: impl Into<String>, blob: impl Fn() -> Response + Send + Sync + 'static) -> StandIn {
    let text = text.into();
    StandIn::lying(move |_, path, _| match path.contains("/manifests/") {
        true => Some(manifest(text.clone())),
        false => Some(blob()),
    })
}

#[test]
fn what_has_no_end_is_not_read_to_it() {
    let bytes = nginx();
    let registry = StandIn::lying(|_, _, _| Some(endless()));
    assert_refused(&registry, ":1.0", "HOST sends more than the 4194304 bytes that the manifest may have");
    let registry = with(manifest_of(&digest_of(&bytes), bytes.len()).to_string(), endless);
    let why = format!("HOST sends more than the {} bytes that the blob may have", bytes.len());
    assert_refused(&registry, ":1.0", &why);
    // As it says itself.
    let registry = StandIn::lying(|_, _, _| Some(manifest(vec![b' '; 5 << 20])));
    assert_refused(&registry, ":1.0", "HOST sends more than the 4194304 bytes that the manifest may have");
}

fn challenge(value: &str) -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, value.to_owned())]).into_response()
}

#[test]
fn tokens_are_not_asked_for_everywhere() {
    let registry = StandIn::lying(|_, _, _| Some(challenge("Bearer realm=\"file:///etc/passwd\"")));
    assert_refused(&registry, ":1.0", "HOST wants a token from a place without TLS, which is not asked");
    let registry = StandIn::lying(|_, _, _| Some(challenge("Negotiate")));
    assert_refused(&registry, ":1.0", "HOST wants to know who asks, in a way that weir does not have");
    let registry = StandIn::lying(|_, _, _| Some(challenge("\"\"\"=,,,")));
    assert_refused(&registry, ":1.0", "HOST wants to know who asks, in a way that weir does not have");
    // An endless token, and one that is none.
    let other = StandIn::lying(|_, _, _| Some(endless()));
    let realm = format!("Bearer realm=\"http://{}/token\"", other.address);
    let registry = StandIn::lying(move |_, _, _| Some(challenge(&realm)));
    assert_refused(&registry, ":1.0", "HOST sends more than the 262144 bytes that the token may have");
    let other = StandIn::lying(|_, _, _| Some("{}".into_response()));
    let realm = format!("Bearer realm=\"http://{}/token\"", other.address);
    let registry = StandIn::lying(move |_, _, _| Some(challenge(&realm)));
    assert_refused(&registry, ":1.0", "HOST gives no token");
    let other = StandIn::lying(|_, _, _| Some("{\"token\": \"a\\nb\"}".into_response()));
    let realm = format!("Bearer realm=\"http://{}/token\"", other.address);
    let registry = StandIn::lying(move |_, _, _| Some(challenge(&realm)));
    assert_refused(&registry, ":1.0", "the credentials fit in no header");
}

#[test]
fn another_blob_or_manifest_is_not_taken() {
    let bytes = nginx();
    let (digest, size) = (digest_of(&bytes), bytes.len());
    let honest = manifest_of(&digest, size).to_string();
    let mut damaged = bytes.clone();
    damaged[size / 2] ^= 1;
    let registry = with(&*honest, move || damaged.clone().into_response());
    assert_refused(
        &registry,
        ":1.0",
        &format!("HOST sends another blob than {digest}: it is damaged, or not what was asked for"),
    );
    let short = bytes[..size - 1].to_vec();
    let registry = with(&*honest, move || short.clone().into_response());
    assert_refused(
        &registry,
        ":1.0",
        &format!("HOST ends the blob {digest} after {} bytes, and its manifest says {size}", size - 1),
    );
    let sent = bytes.clone();
    let registry = with(&*honest, move || sent.clone().into_response());
    let (wanted, own) = (digest_of(b"other"), digest_of(honest.as_bytes()));
    assert_refused(
        &registry,
        &format!("@{wanted}"),
        &format!("HOST sends another manifest than {wanted}: it is {own}"),
    );
    let registry = StandIn::lying(move |_, _, _| {
        let mut response = manifest(honest.clone());
        response.headers_mut().insert("docker-content-digest", digest_of(b"other").parse().unwrap());
        Some(response)
    });
    assert_refused(&registry, ":1.0", "HOST says of the manifest a digest that is not its own");
}

#[test]
fn what_is_no_plugin_is_not_taken() {
    let no = "1.0 in HOST/team/nginx is not a plugin";
    let refused = |text: String, why: &str| {
        assert_refused(&with(text, || StatusCode::NOT_FOUND.into_response()), ":1.0", &format!("{no}: {why}"));
    };
    let digest = digest_of(b"x");
    let most = 64 << 20;
    refused(
        manifest_of(&digest, most + 1).to_string(),
        &format!("it has {} bytes, and the most allowed is {most}", most + 1),
    );
    let image = manifest_of(&digest, 1).to_string().replace(CONFIG, "application/vnd.oci.image.config.v1+json");
    refused(
        image,
        &format!("its config is of the type application/vnd.oci.image.config.v1+json, and {CONFIG} is expected"),
    );
    let index = json!({ "schemaVersion": 2, "manifests": [] }).to_string();
    refused(index, "it is an index of several images: pull one of them by its digest");
    refused("[".repeat(1 << 20), "its manifest cannot be read");
    let text = b"hello".to_vec();
    let registry = with(manifest_of(&digest_of(&text), 5).to_string(), move || text.clone().into_response());
    let own = digest_of(manifest_of(&digest_of(b"hello"), 5).to_string().as_bytes());
    let why = format!("no agent would take oci://HOST/team/nginx@{own}: it is not WebAssembly, or it is damaged: ");
    let site = Site::new();
    let from = format!("oci://{}/team/nginx:1.0", registry.address);
    let done = weir(&site, &["plugin", "pull", &from], &[]);
    done.assert_code(70);
    done.assert_says(&why.replace("HOST", &registry.address));
    assert!(!site.path("nginx.wasm").exists());
}

#[test]
fn redirects_lead_to_where_a_blob_is_and_no_further() {
    let bytes = nginx();
    let honest = manifest_of(&digest_of(&bytes), bytes.len()).to_string();
    let redirect = |to: &str| (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to.to_owned())]).into_response();
    let registry = with(&*honest, move || redirect("/v2/again"));
    assert_refused(&registry, ":1.0", "HOST redirects more than 5 times");
    for to in ["file:///etc/passwd", "ftp://127.0.0.1/x"] {
        let registry = with(&*honest, move || redirect(to));
        assert_refused(&registry, ":1.0", "HOST leads to a place without TLS, which is not followed");
    }
    let registry = with(&*honest, || StatusCode::TEMPORARY_REDIRECT.into_response());
    assert_refused(&registry, ":1.0", "HOST does not say where to go on");

    // What is elsewhere is got from there, without the password.
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let (seen_there, sent) = (seen.clone(), bytes.clone());
    let store = StandIn::lying(move |_, _, headers| {
        seen_there.lock().unwrap().push(headers.contains_key(header::AUTHORIZATION));
        Some(sent.clone().into_response())
    });
    let elsewhere = format!("http://{}/blob?signature=secret", store.address);
    let (seen_here, known) = (seen.clone(), honest.clone());
    let registry = StandIn::lying(move |_, path, headers| {
        let is_known = headers.contains_key(header::AUTHORIZATION);
        seen_here.lock().unwrap().push(is_known);
        Some(match (is_known, path.contains("/manifests/")) {
            (false, _) => challenge("Basic realm=\"weir\""),
            (true, true) => manifest(known.clone()),
            (true, false) => redirect(&elsewhere),
        })
    });
    let site = Site::new();
    let from = format!("oci://{}/team/nginx:1.0", registry.address);
    let account = [("WEIR_REGISTRY_USERNAME", "shop"), ("WEIR_REGISTRY_PASSWORD", "secret-secret")];
    weir(&site, &["plugin", "pull", &from], &account).assert_code(0);
    assert_eq!(*seen.lock().unwrap(), [false, true, true, false]);
    assert_eq!(fs::read(site.path("nginx.wasm")).unwrap(), bytes);
}

#[test]
fn what_a_registry_says_is_harmless() {
    let said = format!("\u{1b}[31mno\nway{}", "!".repeat(1000));
    let registry = StandIn::lying(move |_, _, _| Some(error(StatusCode::FORBIDDEN, "DENIED", &said)));
    let shown: String = format!("DENIED  [31mno way{}", "!".repeat(1000)).chars().take(300).collect();
    assert_refused(&registry, ":1.0", &format!("HOST, asked for the manifest, answers 403 Forbidden: {shown}"));
    let registry =
        StandIn::lying(|method, _, _| (*method == Method::GET).then(|| StatusCode::BAD_GATEWAY.into_response()));
    assert_refused(&registry, ":1.0", "HOST, asked for the manifest, answers 502 Bad Gateway");
    let site = Site::new();
    let done = weir(&site, &["plugin", "pull", "oci://127.0.0.1:1/team/nginx"], &[]);
    done.assert_code(70);
    done.assert_says("error: 127.0.0.1:1 does not answer: Connection refused");
}
