//! Signatures of plugins: made, checked, attached in a registry, and asked for by an agent.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use weir::registry::hex_digest;

use crate::harness::{Agent, Done, Site, plugins};
use crate::registries::{Docker, StandIn, told, weir};

const TOKEN: &str = "shop-shop-shop-shop";

fn wasm(name: &str) -> String {
    plugins().join(format!("{name}.wasm")).display().to_string()
}

/// Runs `openssl`. Gives whether all went well.
fn openssl(site: &Site, args: &[&str]) -> bool {
    let output = Command::new("openssl").args(args).current_dir(site.path("")).output();
    output.expect("there is no openssl: apt-get install openssl, or `make servers`").status.success()
}

/// Writes a plugin into the site, and its signature by a key of it.
fn sign(site: &Site, name: &str, key: &str) {
    fs::copy(wasm(name), site.path(format!("{name}.wasm"))).unwrap();
    told(site, &["plugin", "sign", "--key", key, &format!("{name}.wasm")]);
}

#[test]
fn a_plugin_is_signed_and_checked() {
    let site = Site::new();
    let said = told(&site, &["plugin", "keygen"]);
    assert!(
        said.starts_with("cosign.key: the private key, to sign with\ncosign.pub: the public key, sha256:"),
        "{said}"
    );
    assert_eq!(fs::metadata(site.path("cosign.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let fingerprint = said.trim_end().rsplit("sha256:").next().unwrap();
    sign(&site, "nginx", "cosign.key");
    let verify = ["plugin", "verify", "--key", "cosign.pub", "nginx.wasm"];
    assert_eq!(told(&site, &verify), format!("nginx.wasm: signed by cosign.pub, sha256:{fingerprint}\n"));
    // Nothing is replaced.
    let done = weir(&site, &["plugin", "keygen"], &[]);
    done.assert_code(70);
    assert_eq!(done.stderr, "error: cosign.pub is there already, and is not replaced\n");
    told(&site, &["plugin", "keygen", "other"]);
    let refused = |args: &[&str], why: &str| {
        let done = weir(&site, args, &[]);
        done.assert_code(70);
        assert_eq!(done.stderr, format!("error: {why}\n"));
    };
    let why = "other.pub has not signed nginx.wasm: nginx.wasm.sig is by another key, or of another file";
    refused(&["plugin", "verify", "--key", "other.pub", "nginx.wasm"], why);
    fs::copy(wasm("json"), site.path("nginx.wasm")).unwrap();
    refused(&verify, "cosign.pub has not signed nginx.wasm: nginx.wasm.sig is by another key, or of another file");
    site.write("nginx.wasm.sig", "hello");
    refused(
        &verify,
        "the signature nginx.wasm.sig: it is no signature: base64 of an ECDSA signature on P-256 is expected",
    );
    let why = "the key cosign.key: it is a private key, where the public one belongs: cosign.pub";
    refused(&["plugin", "verify", "--key", "cosign.key", "nginx.wasm"], why);
    let why = "the key cosign.pub: there is no private key in it";
    refused(&["plugin", "sign", "--key", "cosign.pub", "nginx.wasm"], why);
}

#[test]
fn openssl_and_weir_understand_each_other() {
    let site = Site::new();
    told(&site, &["plugin", "keygen"]);
    sign(&site, "nginx", "cosign.key");
    // What weir signs.
    let signature = fs::read_to_string(site.path("nginx.wasm.sig")).unwrap();
    site.write("der", STANDARD.decode(signature.trim_end()).unwrap());
    assert!(openssl(&site, &["dgst", "-sha256", "-verify", "cosign.pub", "-signature", "der", "nginx.wasm"]));
    site.append("nginx.wasm", "x");
    assert!(!openssl(&site, &["dgst", "-sha256", "-verify", "cosign.pub", "-signature", "der", "nginx.wasm"]));
    // What openssl signs, with keys in each form that it writes.
    assert!(openssl(
        &site,
        &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "pkcs8.key"]
    ));
    assert!(openssl(&site, &["ecparam", "-name", "prime256v1", "-genkey", "-out", "sec1.key"]));
    assert!(openssl(&site, &["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "bare.key"]));
    for key in ["pkcs8.key", "sec1.key", "bare.key", "cosign.key"] {
        assert!(openssl(&site, &["ec", "-in", key, "-pubout", "-out", "key.pub"]), "{key}");
        assert!(openssl(&site, &["dgst", "-sha256", "-sign", key, "-out", "der", "nginx.wasm"]), "{key}");
        site.write("by-openssl.sig", STANDARD.encode(fs::read(site.path("der")).unwrap()));
        let verify = ["plugin", "verify", "--key", "key.pub", "nginx.wasm"];
        told(&site, &[&verify[..], &["--signature", "by-openssl.sig"]].concat());
        told(&site, &["plugin", "sign", "--key", key, "nginx.wasm"]);
        told(&site, &verify);
    }
    // What weir has no use for.
    assert!(openssl(&site, &["ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", "p384.key"]));
    assert!(openssl(&site, &["genpkey", "-algorithm", "ED25519", "-out", "ed25519.key"]));
    assert!(openssl(&site, &["pkcs8", "-topk8", "-in", "bare.key", "-passout", "pass:x", "-out", "encrypted.key"]));
    let not = "its private key is not one for ECDSA on P-256: make one with `weir plugin keygen`";
    let encrypted = "it is encrypted, which weir does not read: make a key with `weir plugin keygen`, or decrypt it with `openssl pkcs8`";
    for (key, why) in [("p384.key", not), ("ed25519.key", not), ("encrypted.key", encrypted)] {
        let done = weir(&site, &["plugin", "sign", "--key", key, "nginx.wasm"], &[]);
        done.assert_code(70);
        assert_eq!(done.stderr, format!("error: the key {key}: {why}\n"));
    }
}

#[test]
fn what_is_pulled_with_a_key_was_signed_by_it() {
    let site = Site::new();
    let registry = Docker::start(&site);
    let repository = format!("oci://{}/team/nginx", registry.address);
    let (signed, unsigned) = (format!("{repository}:1.0"), format!("{repository}:unsigned"));
    for key in ["cosign", "other", "third"] {
        told(&site, &["plugin", "keygen", key]);
    }
    let plugin = wasm("nginx");
    let push = |tag: &str, key: &str, more: &[&str]| {
        let args = [&["plugin", "push", tag, &plugin, "--sign-key", key], more].concat();
        weir(&site, &args, &[("SOURCE_DATE_EPOCH", "1767225600")]).text().trim_end().to_owned()
    };
    let by_digest = push(&signed, "cosign.key", &[]);
    told(&site, &["plugin", "push", &unsigned, &wasm("nginx")]);
    let pull = |from: &str, key: &str| weir(&site, &["plugin", "pull", from, "--key", key, "-o", "a.wasm"], &[]);
    for from in [&signed, &by_digest] {
        pull(from, "cosign.pub").assert_code(0);
        assert_eq!(fs::read(site.path("a.wasm")).unwrap(), fs::read(wasm("nginx")).unwrap());
        // The signature of the file came with it.
        told(&site, &["plugin", "verify", "--key", "cosign.pub", "a.wasm"]);
        fs::remove_file(site.path("a.wasm")).unwrap();
        fs::remove_file(site.path("a.wasm.sig")).unwrap();
    }
    let (_, digest) = by_digest.split_once('@').unwrap();
    let name = format!("{}/team/nginx", registry.address);
    let done = pull(&signed, "other.pub");
    done.assert_code(70);
    let why = "of its 1 signatures none is by it, and of this plugin";
    assert_eq!(done.stderr, format!("error: {digest} in {name} is not signed by the key: {why}\n"));
    let done = pull(&unsigned, "cosign.pub");
    done.assert_code(70);
    done.assert_says(&format!(" in {name} is not signed, and a signature is wanted\n"));
    assert!(!site.path("a.wasm").exists());

    // A second signature of the same manifest stands beside the first.
    told(&site, &["plugin", "sign", "--key", "cosign.key", &wasm("nginx"), "-o", "nginx.sig"]);
    assert_eq!(push(&signed, "other.key", &["--signature", "nginx.sig"]), by_digest);
    for key in ["cosign.pub", "other.pub"] {
        pull(&by_digest, key).assert_code(0);
    }
    let done = pull(&signed, "third.pub");
    done.assert_code(70);
    done.assert_says("of its 2 signatures none is by it, and of this plugin\n");
}

#[test]
fn a_signature_in_a_registry_is_as_cosign_makes_it() {
    let site = Site::new();
    let registry = StandIn::start();
    let tag = format!("oci://{}/team/nginx:1.0", registry.address);
    for key in ["cosign", "other"] {
        told(&site, &["plugin", "keygen", key]);
    }
    let push = || told(&site, &["plugin", "push", &tag, &wasm("nginx"), "--sign-key", "cosign.key"]);
    let pushed = push();
    let (_, digest) = pushed.trim_end().split_once('@').unwrap();
    let beside = digest.replace(':', "-") + ".sig";
    let manifest = registry.manifest(&beside);
    let layer = &manifest["layers"][0];
    let payload = registry.kept().blobs[layer["digest"].as_str().unwrap()].clone();
    let expected = json!({
        "critical": {
            "identity": { "docker-reference": format!("{}/team/nginx", registry.address) },
            "image": { "docker-manifest-digest": digest },
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    assert_eq!(serde_json::from_slice::<Value>(&payload).unwrap(), expected);
    assert_eq!(layer["mediaType"], "application/vnd.dev.cosign.simplesigning.v1+json");
    let signature = layer["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
    site.write("payload", &payload);
    site.write("der", STANDARD.decode(signature).unwrap());
    assert!(openssl(&site, &["dgst", "-sha256", "-verify", "cosign.pub", "-signature", "der", "payload"]));
    // The plugin's own signature is with its layer.
    let plugin = registry.manifest("1.0");
    let own = plugin["layers"][0]["annotations"]["dev.cosignproject.cosign/signature"].as_str().unwrap();
    site.write("der", STANDARD.decode(own).unwrap());
    assert!(openssl(&site, &["dgst", "-sha256", "-verify", "cosign.pub", "-signature", "der", &wasm("nginx")]));
    // The tag comes when all is there.
    let puts: Vec<_> = registry
        .kept()
        .asked
        .iter()
        .filter(|asked| asked.starts_with("PUT ") && asked.contains("/manifests/"))
        .cloned()
        .collect();
    let put = |reference: &str| format!("PUT /v2/team/nginx/manifests/{reference}");
    assert_eq!(puts, [put(digest), put(&beside), put("1.0")]);

    // A signature of another manifest is none of this one, whoever made it.
    let other =
        told(&site, &["plugin", "push", &tag.replace(":1.0", ":2.0"), &wasm("json"), "--sign-key", "cosign.key"]);
    let (_, other_digest) = other.trim_end().split_once('@').unwrap();
    let other_beside = other_digest.replace(':', "-") + ".sig";
    let stolen = registry.kept().manifests[&beside].clone();
    registry.kept().manifests.insert(other_beside, stolen);
    let done = weir(&site, &["plugin", "pull", other.trim_end(), "--key", "cosign.pub"], &[]);
    done.assert_code(70);
    done.assert_says("of its 1 signatures none is by it, and of this plugin\n");
    assert_eq!(hex_digest(&payload), layer["digest"].as_str().unwrap().trim_start_matches("sha256:"));
}

/// A running agent with an admin server, whose project `shop` has these keys.
struct Served<'a> {
    site: &'a Site,
    agent: Agent<'a>,
    address: String,
}

impl<'a> Served<'a> {
    fn start(site: &'a Site, project: &str) -> Self {
        configure(site, project);
        let mut agent = site.start();
        let address = format!("http://{}", agent.admin());
        Served { site, agent, address }
    }

    fn ask(&self, args: &[&str]) -> Done {
        let whom = ["-c", "weir.yaml", "--address", &self.address];
        weir(self.site, &[&["plugin"], args, &whom].concat(), &[])
    }

    /// What the logstore runs: the last line of the list.
    fn runs(&self) -> String {
        let done = self.ask(&["list", "shop/app"]);
        done.text().lines().find(|line| line.starts_with("shop/app runs ")).unwrap().to_owned()
    }
}

fn configure(site: &Site, project: &str) {
    site.config("- { name: shop/app, files: { root: logs }, sink: out }");
    let text = fs::read_to_string(site.path("weir.yaml")).unwrap();
    let head = "admin: { listen: '127.0.0.1:0' }";
    site.write("weir.yaml", format!("{head}\nprojects: {{ shop: {{ token: {TOKEN}{project} }} }}\n{text}"));
}

#[track_caller]
fn assert_unsigned(done: &Done, why: &str) {
    done.assert_code(70);
    assert_eq!(done.text(), "size        passed\nsignature   failed\n");
    assert_eq!(done.stderr, format!("error: signature: {why}\n"));
}

#[test]
fn an_agent_takes_what_a_key_of_the_project_has_signed() {
    let site = Site::new();
    for key in ["cosign", "second", "other"] {
        told(&site, &["plugin", "keygen", key]);
    }
    let served = Served::start(&site, ", plugin_keys: [cosign.pub, second.pub]");
    fs::copy(wasm("nginx"), site.path("nginx.wasm")).unwrap();
    let push = |more: &[&str]| served.ask(&[&["push", "shop/app", "nginx.wasm"], more].concat());
    assert_unsigned(&push(&[]), "it is not signed, and the project's `plugin_keys` ask for that");
    let wrong = "its signature is by none of the project's `plugin_keys`, or of another file";
    sign(&site, "nginx", "other.key");
    assert_unsigned(&push(&[]), wrong);
    told(&site, &["plugin", "sign", "--key", "cosign.key", &wasm("json"), "-o", "json.sig"]);
    assert_unsigned(&push(&["--signature", "json.sig"]), wrong);
    // The operator as well as the project's own.
    let own = ["plugin", "push", "shop/app", "nginx.wasm", "--address", &served.address, "--token", TOKEN];
    assert_unsigned(&weir(&site, &own, &[]), wrong);
    assert_eq!(served.runs(), "shop/app runs what the configuration says");

    for key in ["second.key", "cosign.key"] {
        sign(&site, "nginx", key);
        let done = push(&[]);
        done.assert_code(0);
        assert!(
            done.text().starts_with("size        passed\nsignature   passed\nplugin API  passed\n"),
            "{}",
            done.text()
        );
    }
    // The same bytes are the same version, with the signature of last.
    assert_eq!(served.runs(), "shop/app runs version 1");
    let list: Value = serde_json::from_slice(&served.ask(&["list", "shop/app", "--json"]).stdout).unwrap();
    let signature = fs::read_to_string(site.path("nginx.wasm.sig")).unwrap();
    assert_eq!(list["versions"][0]["signature"], signature.trim_end());
    assert_eq!(list["versions"].as_array().unwrap().len(), 1);

    // From a registry, with the signature that is there.
    let registry = Docker::start(&site);
    let repository = format!("oci://{}/json", registry.address);
    told(&site, &["plugin", "push", &format!("{repository}:1"), &wasm("json")]);
    told(&site, &["plugin", "push", &format!("{repository}:2"), &wasm("json"), "--sign-key", "cosign.key"]);
    let from = |tag: &str| served.ask(&["push", "shop/app", &format!("{repository}:{tag}"), "--settings", "{}"]);
    assert_unsigned(&from("1"), "it is not signed, and the project's `plugin_keys` ask for that");
    from("2").assert_code(0);
    assert_eq!(served.runs(), "shop/app runs version 2");
    served.agent.stop();
}

#[test]
fn other_keys_are_for_what_was_uploaded_before_too() {
    let site = Site::new();
    for key in ["cosign", "other"] {
        told(&site, &["plugin", "keygen", key]);
    }
    let served = Served::start(&site, "");
    // Nobody asks for a signature; what is none is refused all the same.
    sign(&site, "nginx", "cosign.key");
    site.write("bad.sig", "hello");
    let push = |more: &[&str]| served.ask(&[&["push", "shop/app"], more].concat());
    push(&[&wasm("json"), "--settings", "{}"]).assert_code(0);
    push(&["nginx.wasm", "--settings", "{}"]).assert_code(0);
    assert_eq!(served.runs(), "shop/app runs version 2");
    let reload = |project: &str| {
        configure(&site, project);
        weir(&site, &["reload", "-c", "weir.yaml", "--address", &served.address], &[])
    };
    // What runs is not signed by that one, and neither is what ran before.
    reload(", plugin_keys: [other.pub]").assert_code(0);
    assert_eq!(served.runs(), "shop/app runs what the configuration says");
    let list: Value = serde_json::from_slice(&served.ask(&["list", "shop/app", "--json"]).stdout).unwrap();
    let note = list["versions"][1]["note"].as_str().unwrap();
    assert!(note.contains("version 2, which was uploaded, cannot run: its signature is by none"), "{note}");
    reload(", plugin_keys: [cosign.pub]").assert_code(0);
    served.ask(&["activate", "shop/app", "2"]).assert_code(0);
    assert_eq!(served.runs(), "shop/app runs version 2");
    // The first is not signed at all.
    let done = served.ask(&["activate", "shop/app", "1"]);
    done.assert_code(70);
    done.assert_says(
        "it could not be put to work, and all is as it was: version 1, which was uploaded, cannot run: it is not signed, and \
         the project's `plugin_keys` ask for that",
    );
    assert_eq!(served.runs(), "shop/app runs version 2");
    served.agent.stop();

    // An agent that starts with other keys goes on with what is configured.
    let mut served = Served::start(&site, ", plugin_keys: [other.pub]");
    assert_eq!(served.runs(), "shop/app runs what the configuration says");
    let list: Value = serde_json::from_slice(&served.ask(&["list", "shop/app", "--json"]).stdout).unwrap();
    let note = list["versions"][1]["note"].as_str().unwrap();
    assert!(note.contains("version 2, which was uploaded, cannot run: its signature is by none"), "{note}");
    site.append("logs/a.log", "raw\n");
    served.agent.wait_for_lines("shop/app", 1);
    assert_eq!(site.contents("shop/app"), ["raw"]);
    served.agent.stop();
}
