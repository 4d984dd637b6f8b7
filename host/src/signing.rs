//! Signatures of plugins: ECDSA on the curve P-256 over SHA-256, as `cosign` and `openssl` make and check them.
//!
//! Keys are PEM. A signature is text: base64 of ASN.1 DER, as `cosign sign-blob` writes it.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use p256::ecdsa::{self, VerifyingKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use sha2::{Digest, Sha256};

/// Bytes of a file with a key.
const KEY_FILE: u64 = 64 << 10;

/// Bytes of a signature as text, with what may stand around it.
pub const SIGNATURE: usize = 1 << 10;

/// Who signs.
pub struct SigningKey(ecdsa::SigningKey);

impl SigningKey {
    /// A new one.
    pub fn generate() -> Self {
        SigningKey(ecdsa::SigningKey::generate())
    }

    /// That of a PEM file, as `weir plugin keygen`, `openssl genpkey` and `openssl ecparam` make it.
    pub fn read(path: &Path) -> Result<Self> {
        let describe = || format!("the key {}", path.display());
        Self::from_pem(&read_text(path).with_context(describe)?).with_context(describe)
    }

    fn from_pem(text: &str) -> Result<Self> {
        if text.contains("-----BEGIN ENCRYPTED ") {
            bail!(
                "it is encrypted, which weir does not read: make a key with `weir plugin keygen`, or decrypt it with \
                 `openssl pkcs8`"
            );
        }
        let key =
            PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| anyhow!("there is no private key in it"))?;
        let secret = match &key {
            PrivateKeyDer::Pkcs8(der) => p256::SecretKey::from_pkcs8_der(der.secret_pkcs8_der()).ok(),
            PrivateKeyDer::Sec1(der) => p256::SecretKey::from_sec1_der(der.secret_sec1_der()).ok(),
            _ => None,
        };
        let secret =
            secret.context("its private key is not one for ECDSA on P-256: make one with `weir plugin keygen`")?;
        Ok(SigningKey(secret.into()))
    }

    /// As PEM, PKCS#8.
    pub fn to_pem(&self) -> Result<impl AsRef<str> + use<>> {
        self.0.to_pkcs8_pem(LineEnding::LF).map(|pem| (*pem).clone()).map_err(|error| anyhow!("writing a key: {error}"))
    }

    /// The key that checks what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey(*self.0.verifying_key())
    }

    /// Of the same bytes always the same signature.
    pub fn sign(&self, bytes: &[u8]) -> Result<Signature> {
        let signed = self.0.sign_prehash(&Sha256::digest(bytes));
        signed.map(Signature).map_err(|error| anyhow!("signing: {error}"))
    }
}

/// Who is known to have signed.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// That of a PEM file, `cosign.pub`.
    pub fn read(path: &Path) -> Result<Self> {
        let describe = || format!("the key {}", path.display());
        Self::from_pem(&read_text(path).with_context(describe)?).with_context(describe)
    }

    /// That of a PEM text.
    pub fn from_pem(text: &str) -> Result<Self> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes()).map_err(|_| {
            match text.contains("PRIVATE KEY-----") {
                true => anyhow!("it is a private key, where the public one belongs: cosign.pub"),
                false => anyhow!("there is no public key in it"),
            }
        })?;
        let key = VerifyingKey::from_public_key_der(&der);
        Ok(PublicKey(key.map_err(|_| anyhow!("its public key is not one for ECDSA on P-256"))?))
    }

    /// As PEM.
    pub fn to_pem(&self) -> Result<String> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(|error| anyhow!("writing a key: {error}"))
    }

    /// SHA-256 of the key's DER, in hex: how people compare keys.
    pub fn fingerprint(&self) -> String {
        let der = self.0.to_public_key_der();
        der.map(|der| hex(&Sha256::digest(der.as_bytes()))).unwrap_or_default()
    }

    /// Whether the signature is this key's, of these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &Signature) -> bool {
        self.has_signed_digest(&Sha256::digest(bytes), signature)
    }

    fn has_signed_digest(&self, digest: &[u8], signature: &Signature) -> bool {
        self.0.verify_prehash(digest, &signature.0).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "sha256:{}", self.fingerprint())
    }
}

/// What shows that somebody has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature(ecdsa::Signature);

impl Signature {
    /// That of a file, `nginx.wasm.sig`.
    pub fn read(path: &Path) -> Result<Self> {
        let describe = || format!("the signature {}", path.display());
        read_text(path).with_context(describe)?.parse::<Signature>().with_context(describe)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.to_der().as_bytes()))
    }
}

impl FromStr for Signature {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let der = (text.len() <= SIGNATURE).then(|| STANDARD.decode(text).ok()).flatten();
        let signature = der.and_then(|der| ecdsa::Signature::from_der(&der).ok());
        signature.map(Signature).context("it is no signature: base64 of an ECDSA signature on P-256 is expected")
    }
}

/// Keys of which one must have signed; none: nobody has to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Arc<[PublicKey]>);

impl Keys {
    /// These.
    pub fn new(keys: Vec<PublicKey>) -> Self {
        Keys(keys.into())
    }

    /// Whether one of them has signed what has that SHA-256, in hex, as far as there are any. Says what is missing.
    pub fn check(&self, digest: &str, signature: Option<&str>) -> Result<()> {
        let signature = signature.map(str::parse::<Signature>).transpose()?;
        if self.0.is_empty() {
            return Ok(());
        }
        let signature = signature.context("it is not signed, and the project's `plugin_keys` ask for that")?;
        let digest = bytes_of(digest).context("its digest is none")?;
        ensure!(
            self.0.iter().any(|key| key.has_signed_digest(&digest, &signature)),
            "its signature is by none of the project's `plugin_keys`, or of another file"
        );
        Ok(())
    }
}

fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file = File::open(path)?;
    ensure!(file.metadata()?.is_file(), "it is no file");
    file.take(KEY_FILE + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= KEY_FILE, "it has more than {KEY_FILE} bytes");
    Ok(text)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<_>> = hex.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    digits.filter(|digits| digits.len() == 64).map(|digits| digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::hex_digest;

    #[test]
    fn what_is_signed_is_known_by_its_key_alone() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let signature = key.sign(b"plugin").unwrap();
        assert_eq!(signature, key.sign(b"plugin").unwrap());
        assert!(key.public().has_signed(b"plugin", &signature));
        assert!(!key.public().has_signed(b"plugin.", &signature));
        assert!(!other.public().has_signed(b"plugin", &signature));
        let text = format!(" {signature}\n");
        assert_eq!(text.parse::<Signature>().unwrap(), signature);
        for wrong in ["", "A", "AAAA", "MEUCIQD", &"A".repeat(2000)] {
            let said = wrong.parse::<Signature>().unwrap_err().to_string();
            assert_eq!(said, "it is no signature: base64 of an ECDSA signature on P-256 is expected");
        }
    }

    #[test]
    fn keys_go_through_pem() {
        let key = SigningKey::generate();
        let pem = key.to_pem().unwrap();
        assert!(pem.as_ref().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert_eq!(SigningKey::from_pem(pem.as_ref()).unwrap().public(), key.public());
        let public = key.public().to_pem().unwrap();
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----\n"));
        assert_eq!(PublicKey::from_pem(&public).unwrap(), key.public());
        let said = |text: &str| PublicKey::from_pem(text).unwrap_err().to_string();
        assert_eq!(said(pem.as_ref()), "it is a private key, where the public one belongs: cosign.pub");
        assert_eq!(said("hello"), "there is no public key in it");
        let said = |text: &str| SigningKey::from_pem(text).err().unwrap().to_string();
        assert_eq!(said(&public), "there is no private key in it");
        assert!(said("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n").starts_with("it is encrypted"));
    }

    #[test]
    fn one_of_the_keys_must_have_signed() {
        let keys: Vec<_> = (0..3).map(|_| SigningKey::generate()).collect();
        let known = Keys::new(keys[..2].iter().map(SigningKey::public).collect());
        let digest = hex_digest(b"plugin");
        let signed = |key: &SigningKey, bytes: &[u8]| key.sign(bytes).unwrap().to_string();
        for key in &keys[..2] {
            known.check(&digest, Some(&signed(key, b"plugin"))).unwrap();
        }
        let said = |signature: Option<&str>| known.check(&digest, signature).unwrap_err().to_string();
        let wrong = "its signature is by none of the project's `plugin_keys`, or of another file";
        assert_eq!(said(Some(&signed(&keys[2], b"plugin"))), wrong);
        assert_eq!(said(Some(&signed(&keys[0], b"other"))), wrong);
        assert_eq!(said(None), "it is not signed, and the project's `plugin_keys` ask for that");
        let none = Keys::default();
        none.check(&digest, None).unwrap();
        assert!(none.check(&digest, Some("x")).is_err());
    }
}
