//! The signatures of requests to the Log Service: version 1, by HMAC-SHA1, and version 4, by SLS4-HMAC-SHA256.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A request without a query, as it is signed.
pub struct Request<'a> {
    pub method: &'a str,
    /// Without anything that would have to be encoded.
    pub path: &'a str,
    /// Those that are signed, by their lower-case names, in the order of these.
    pub headers: &'a [(&'a str, &'a str)],
}

impl Request<'_> {
    /// The value of `Authorization` by version 1. `md5` is the value of `Content-MD5`, or nothing.
    pub fn v1(&self, id: &str, secret: &str, md5: &str, content_type: &str, date: &str) -> String {
        let mut text = format!("{}\n{md5}\n{content_type}\n{date}\n", self.method);
        for (name, value) in self.headers {
            let _ = writeln!(text, "{name}:{value}");
        }
        text.push_str(self.path);
        let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("a key may have any length");
        mac.update(text.as_bytes());
        format!("LOG {id}:{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    /// The value of `Authorization` by version 4. `time` is `20220808T032330Z`, `digest` the SHA-256 of the body in
    /// hex; both are among the headers.
    pub fn v4(&self, id: &str, secret: &str, region: &str, time: &str, digest: &str) -> String {
        let mut canonical = format!("{}\n{}\n\n", self.method, self.path);
        for (name, value) in self.headers {
            let _ = writeln!(canonical, "{name}:{value}");
        }
        let names: Vec<_> = self.headers.iter().map(|(name, _)| *name).collect();
        let _ = write!(canonical, "\n{}\n{digest}", names.join(";"));

        let day = time.split('T').next().unwrap_or_default();
        let scope = format!("{day}/{region}/sls/aliyun_v4_request");
        let text = format!("SLS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let first = format!("aliyun_v4{secret}").into_bytes();
        let key = scope.split('/').fold(first, |key, part| hmac_sha256(&key, part.as_bytes()));
        let signature = hex(&hmac_sha256(&key, text.as_bytes()));
        format!("SLS4-HMAC-SHA256 Credential={id}/{scope},Signature={signature}")
    }
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key may have any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use md5::Md5;

    use super::*;

    /// The vendor's tests have this as a body: a list of one LogGroup.
    const BODY: &[u8] =
        b"\x0a\x32\x0a\x1e\x08\xf8\xb2\x93\x9e\x05\x12\x16\x0a\x07TestKey\x12\x0bTestContent\x1a\0\x22\x0e10.230.201.117";

    #[test]
    fn the_published_signatures_of_version_1() {
        let date = "Mon, 3 Jan 2010 08:33:47 GMT";
        let sign = |path, size, md5: &str, content_type| {
            let headers =
                [("x-log-apiversion", "0.6.0"), ("x-log-bodyrawsize", size), ("x-log-signaturemethod", "hmac-sha1")];
            let request = Request { method: "GET", path, headers: &headers };
            request.v1("id", "mockAccessKeySecret", md5, content_type, date)
        };
        assert_eq!(sign("/logstores", "0", "", ""), "LOG id:Rwm6cTKzoti4HWoe+GKcb6Kv07E=");
        let md5 = hex(&Md5::digest(BODY)).to_uppercase();
        assert_eq!(md5, "8D6881250FF5559F59BBDF04100F6E59");
        let signed = sign("/logstores/app_log", "50", &md5, "application/x-protobuf");
        assert_eq!(signed, "LOG id:87xQWqFaOSewqRIma8kPjGYlXHc=");
    }

    #[test]
    fn the_published_signature_of_version_4() {
        let digest = hex(&Sha256::digest("adasd= -asd zcas"));
        let headers = [("x-log-content-sha256", &*digest), ("x-log-date", "20220808T032330Z")];
        let request = Request { method: "POST", path: "/logstores", headers: &headers };
        assert_eq!(
            request.v4("acsddda21dsd", "zxasdasdasw2", "cn-shanghai", "20220808T032330Z", &digest),
            "SLS4-HMAC-SHA256 Credential=acsddda21dsd/20220808/cn-shanghai/sls/aliyun_v4_request,\
             Signature=8a10a5e723cb2e75964816de660b2c16a58af8bc0261f7f0722d832468c76ce8"
        );
    }
}
