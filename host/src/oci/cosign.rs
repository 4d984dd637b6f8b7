//! Signatures of manifests, where and how `cosign sign --key` attaches them and `cosign verify --key` finds them: beside
//! the manifest, under a tag made of its digest, a layer a signature. The layer is a small JSON that names the manifest by
//! its digest, and an annotation has the signature of the layer.

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::artifact::{Descriptor, MANIFEST, Manifest};
use super::http::{Repository, none};
use super::reference::Digest;
use crate::signing::{self, PublicKey, SigningKey};

/// The annotation that has the signature of a layer.
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const TYPE: &str = "cosign container image signature";

/// Bytes of what is signed, and signatures of a manifest that are looked at.
const PAYLOAD_BYTES: u64 = 64 << 10;
const MOST: usize = 64;

/// What is signed.
#[derive(Serialize, Deserialize)]
struct Payload {
    critical: Critical,
    #[serde(default)]
    optional: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: Digest,
}

/// Signs a manifest that is there. Signatures by others stay.
pub(super) async fn attach(repository: &mut Repository, digest: &Digest, key: &SigningKey) -> Result<()> {
    let identity = Identity { docker_reference: repository.full_name() };
    let image = Image { docker_manifest_digest: digest.clone() };
    let critical = Critical { identity, image, kind: TYPE.to_owned() };
    let payload = Bytes::from(serde_json::to_vec(&Payload { critical, optional: None })?);
    let layer = Descriptor::of(PAYLOAD, &payload).annotated(SIGNATURE, key.sign(&payload)?.to_string());
    let mut layers = signatures(repository, digest).await?;
    let is_same = |known: &Descriptor| known.digest == layer.digest && known.annotations == layer.annotations;
    if layers.iter().any(is_same) {
        return Ok(());
    }
    layers.push(layer);
    ensure!(layers.len() <= MOST, "it has {MOST} signatures already");
    let config = Bytes::from(serde_json::to_vec(&json!({
        "architecture": "", "os": "", "created": "0001-01-01T00:00:00Z", "config": {},
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| &layer.digest).collect::<Vec<_>>() },
    }))?);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        config: Descriptor::of(CONFIG, &config),
        layers,
        annotations: Default::default(),
    };
    repository.put_blob(&config, &none()).await?;
    repository.put_blob(&payload, &none()).await?;
    repository.put_manifest(&tag(digest), MANIFEST, &serde_json::to_vec(&manifest)?.into()).await
}

/// Makes sure that the key has signed the manifest of that digest.
pub(super) async fn verify(repository: &mut Repository, digest: &Digest, key: &PublicKey) -> Result<()> {
    let layers = signatures(repository, digest).await?;
    let count = layers.len();
    ensure!(count > 0, "{digest} in {} is not signed, and a signature is wanted", repository.full_name());
    for layer in layers {
        let signature = layer.annotations.get(SIGNATURE).and_then(|text| text.parse::<signing::Signature>().ok());
        let Some(signature) = signature.filter(|_| layer.size <= PAYLOAD_BYTES) else { continue };
        let payload = repository.blob(&layer.digest, layer.size, &none()).await?;
        if key.has_signed(&payload, &signature) && names(&payload, digest) {
            return Ok(());
        }
    }
    let name = repository.full_name();
    Err(anyhow!(
        "{digest} in {name} is not signed by the key: of its {count} signatures none is by it, and of this plugin"
    ))
}

fn names(payload: &[u8], digest: &Digest) -> bool {
    let payload = serde_json::from_slice::<Payload>(payload);
    payload
        .is_ok_and(|Payload { critical, .. }| critical.kind == TYPE && critical.image.docker_manifest_digest == *digest)
}

/// The signatures that there are of a manifest.
async fn signatures(repository: &mut Repository, digest: &Digest) -> Result<Vec<Descriptor>> {
    let Some(manifest) = repository.manifest(&tag(digest), MANIFEST).await? else { return Ok(Vec::new()) };
    let manifest: Option<Manifest> = serde_json::from_slice(&manifest).ok();
    let manifest = manifest.with_context(|| format!("the signatures of {digest} cannot be read"))?;
    let layers: Vec<_> = manifest.layers.into_iter().filter(|layer| layer.media_type == PAYLOAD).collect();
    ensure!(layers.len() <= MOST, "{digest} has more than {MOST} signatures");
    Ok(layers)
}

fn tag(digest: &Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_names_the_manifest() {
        let digest = Digest::of(b"x");
        let payload = |digest: &Digest, kind: &str| {
            let image = Image { docker_manifest_digest: digest.clone() };
            let identity = Identity { docker_reference: "r/a".to_owned() };
            let critical = Critical { identity, image, kind: kind.to_owned() };
            serde_json::to_string(&Payload { critical, optional: None }).unwrap()
        };
        let text = payload(&digest, TYPE);
        let expected = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"r/a"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        assert_eq!(text, expected);
        assert!(names(text.as_bytes(), &digest));
        assert!(!names(payload(&Digest::of(b"y"), TYPE).as_bytes(), &digest));
        assert!(!names(payload(&digest, "atomic container signature").as_bytes(), &digest));
        assert!(!names(b"{}", &digest));
    }
}
