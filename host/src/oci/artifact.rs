//! A plugin as an artifact of OCI, in the layout that registries and runtimes agree on for WebAssembly: a manifest, a
//! config that names what the component imports and exports, and one layer, the `.wasm` itself.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::cosign;
use super::http::{Repository, Told, none, shown};
use super::reference::{Digest, Reference};
use crate::sandbox::Metadata;
use crate::sandbox::admission::{Admitted, admit_upload};
use crate::sandbox::limits::COMPONENT_BYTES;
use crate::signing::{PublicKey, Signature, SigningKey};

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";

/// What else may be found where a plugin is looked for, so that it can be said what it is.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                        application/vnd.docker.distribution.manifest.v2+json";

/// What is pulled if nothing is said.
const LATEST: &str = "latest";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        let (media_type, annotations) = (media_type.to_owned(), BTreeMap::new());
        Descriptor { media_type, digest: Digest::of(bytes), size: bytes.len() as u64, annotations }
    }

    pub fn annotated(mut self, key: &str, value: impl Into<String>) -> Self {
        self.annotations.insert(key.to_owned(), value.into());
        self
    }
}

/// What a runtime wants to know before it loads the layer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: String,
    architecture: &'a str,
    os: &'a str,
    layer_digests: [Digest; 1],
    component: Component<'a>,
}

#[derive(Serialize)]
struct Component<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

/// What was found in a registry.
pub struct Pulled {
    /// The `.wasm`.
    pub bytes: Bytes,
    /// Where it is, by its digest.
    pub reference: Reference,
    /// What it says of itself.
    pub metadata: Metadata,
    /// The signature of the `.wasm` that was pushed with it.
    pub signature: Option<Signature>,
}

/// Puts a plugin under a tag, with the signature of its `.wasm` if there is one, and signed itself if there is a key. The
/// tag comes last: whoever pulls it finds all of that.
pub async fn push(
    repository: &mut Repository,
    reference: &Reference,
    plugin: &Admitted,
    signature: Option<&Signature>,
    key: Option<&SigningKey>,
    told: &Told,
) -> Result<Reference> {
    let tag = reference.tag.as_deref().context("there is no tag to push to")?;
    let created = created()?;
    let mut layer = Descriptor::of(LAYER, &plugin.bytes);
    let config = Bytes::from(serde_json::to_vec(&Config {
        created: created.clone(),
        architecture: "wasm",
        // So the layout has it for every component, whatever it imports.
        os: "wasip2",
        layer_digests: [layer.digest.clone()],
        component: Component { exports: &plugin.exports, imports: &plugin.imports },
    })?);
    let Metadata { name, version, description, .. } = &plugin.metadata;
    layer = layer.annotated("org.opencontainers.image.title", format!("{name}.wasm"));
    if let Some(signature) = signature {
        layer = layer.annotated(cosign::SIGNATURE, signature.to_string());
    }
    let told_of = [("created", &created), ("title", name), ("version", version), ("description", description)];
    let annotations = told_of.into_iter().filter(|(_, value)| !value.is_empty());
    let manifest = Bytes::from(serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        config: Descriptor::of(CONFIG, &config),
        layers: vec![layer],
        annotations: annotations
            .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.clone()))
            .collect(),
    })?);
    let digest = Digest::of(&manifest);
    repository.put_blob(&config, &none()).await?;
    repository.put_blob(&plugin.bytes, told).await?;
    if let Some(key) = key {
        repository.put_manifest(&digest.to_string(), MANIFEST, &manifest).await?;
        cosign::attach(repository, &digest, key).await?;
    }
    repository.put_manifest(tag, MANIFEST, &manifest).await?;
    Ok(reference.by_digest(&digest))
}

/// The plugin of that tag or digest, which must be signed by the key, if one is given.
pub async fn pull(
    repository: &mut Repository,
    reference: &Reference,
    key: Option<&PublicKey>,
    told: &Told,
) -> Result<Pulled> {
    let wanted = match (&reference.digest, &reference.tag) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.as_deref().unwrap_or(LATEST).to_owned(),
    };
    let manifest = repository.manifest(&wanted, ACCEPTED).await?;
    let manifest = manifest.with_context(|| format!("there is no {wanted} in {}", repository.full_name()))?;
    let digest = Digest::of(&manifest);
    if let Some(wanted) = &reference.digest {
        ensure!(digest == *wanted, "{} sends another manifest than {wanted}: it is {digest}", reference.host);
    }
    let layer = layer(&manifest).with_context(|| format!("{wanted} in {} is not a plugin", repository.full_name()))?;
    if let Some(key) = key {
        cosign::verify(repository, &digest, key).await?;
    }
    let bytes = Bytes::from(repository.blob(&layer.digest, layer.size, told).await?);
    let reference = reference.by_digest(&digest);
    let admitted = admit_upload(bytes, reference.name(), COMPONENT_BYTES);
    let admitted = admitted.with_context(|| format!("no agent would take {reference}"))?;
    let signature = layer.annotations.get(cosign::SIGNATURE).and_then(|signature| signature.parse().ok());
    Ok(Pulled { bytes: admitted.bytes, reference, metadata: admitted.metadata, signature })
}

/// The only layer of a plugin's manifest.
fn layer(manifest: &[u8]) -> Result<Descriptor> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let head: Head = serde_json::from_slice(manifest).ok().context("its manifest cannot be read")?;
    ensure!(head.manifests.is_none(), "it is an index of several images: pull one of them by its digest");
    if let Some(other) = head.media_type.filter(|media_type| media_type != MANIFEST) {
        bail!("its manifest is of the type {}, and {MANIFEST} is expected", shown(&other));
    }
    let manifest: Manifest = serde_json::from_slice(manifest).ok().context("its manifest cannot be read")?;
    ensure!(manifest.schema_version == 2, "its manifest is not of version 2");
    let config = &manifest.config.media_type;
    ensure!(config == CONFIG, "its config is of the type {}, and {CONFIG} is expected", shown(config));
    let count = manifest.layers.len();
    let layer = manifest.layers.into_iter().next().filter(|_| count == 1);
    let layer = layer.with_context(|| format!("it has {count} layers, and a plugin has one"))?;
    ensure!(
        layer.media_type == LAYER,
        "its layer is of the type {}, and {LAYER} is expected",
        shown(&layer.media_type)
    );
    let size = layer.size;
    ensure!(size <= COMPONENT_BYTES, "it has {size} bytes, and the most allowed is {COMPONENT_BYTES}");
    Ok(layer)
}

/// Now; or when the builds of this run are said to be made, so that the same plugin has the same digest each time.
fn created() -> Result<String> {
    let epoch = crate::environment::process("SOURCE_DATE_EPOCH").filter(|epoch| !epoch.is_empty());
    let second = match epoch {
        None => Timestamp::now().as_second(),
        Some(epoch) => epoch.parse().ok().context("SOURCE_DATE_EPOCH must be seconds since 1970")?,
    };
    Ok(Timestamp::from_second(second).context("SOURCE_DATE_EPOCH must be seconds since 1970")?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_plugin_is_refused_in_words() {
        let digest = Digest::of(b"x");
        let of = |media_type: &str, config: &str, layers: &str| {
            format!(
                r#"{{"schemaVersion": 2, "mediaType": "{media_type}",
                    "config": {{"mediaType": "{config}", "digest": "{digest}", "size": 2}}, "layers": [{layers}]}}"#
            )
        };
        let one = |media_type: &str, size: u64| {
            format!(r#"{{"mediaType": "{media_type}", "digest": "{digest}", "size": {size}}}"#)
        };
        let wasm = one(LAYER, COMPONENT_BYTES);
        assert_eq!(layer(of(MANIFEST, CONFIG, &wasm).as_bytes()).unwrap().digest, digest);
        let bare = of(MANIFEST, CONFIG, &wasm).replace(&format!("\"mediaType\": \"{MANIFEST}\","), "");
        assert_eq!(layer(bare.as_bytes()).unwrap().size, COMPONENT_BYTES);
        let image = "application/vnd.oci.image.config.v1+json";
        for (manifest, why) in [
            ("hello".to_owned(), "its manifest cannot be read".to_owned()),
            ("{}".to_owned(), "its manifest cannot be read".to_owned()),
            (
                r#"{"manifests": []}"#.to_owned(),
                "it is an index of several images: pull one of them by its digest".to_owned(),
            ),
            (of("a\u{7f}b", CONFIG, &wasm), format!("its manifest is of the type a b, and {MANIFEST} is expected")),
            (of(MANIFEST, image, &wasm), format!("its config is of the type {image}, and {CONFIG} is expected")),
            (of(MANIFEST, CONFIG, ""), "it has 0 layers, and a plugin has one".to_owned()),
            (of(MANIFEST, CONFIG, &format!("{wasm}, {wasm}")), "it has 2 layers, and a plugin has one".to_owned()),
            (
                of(MANIFEST, CONFIG, &one("text/plain", 1)),
                format!("its layer is of the type text/plain, and {LAYER} is expected"),
            ),
            (
                of(MANIFEST, CONFIG, &one(LAYER, COMPONENT_BYTES + 1)),
                format!("it has {} bytes, and the most allowed is {COMPONENT_BYTES}", COMPONENT_BYTES + 1),
            ),
            (
                of(MANIFEST, CONFIG, &wasm).replace("\"schemaVersion\": 2", "\"schemaVersion\": 1"),
                "its manifest is not of version 2".to_owned(),
            ),
            (of(MANIFEST, CONFIG, &wasm).replace("sha256:", "md5:"), "its manifest cannot be read".to_owned()),
        ] {
            assert_eq!(layer(manifest.as_bytes()).unwrap_err().to_string(), why);
        }
    }
}
