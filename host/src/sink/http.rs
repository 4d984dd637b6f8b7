//! Any HTTP server that takes JSON.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};

use super::client::{self, Client, Headers, Rendered};
use super::delivery::{Outcome, Transport};
use super::ndjson::Ndjson;
use super::records::{Encode, Layout};
use crate::config::LogstoreName;
use crate::config::sinks::{Encoding, Http};

/// The encoder of such a sink.
pub fn encoder(http: &Http) -> Box<dyn Encode> {
    Box::new(match http.encoding {
        Encoding::Ndjson => Ndjson::default(),
        Encoding::Json => Ndjson::array(),
    })
}

/// Sends each payload as the body of a request.
pub struct HttpTransport {
    client: Client,
    url: Rendered<String>,
    method: reqwest::Method,
    headers: Headers,
    encoding: Encoding,
}

impl HttpTransport {
    /// As configured.
    pub fn new(http: &Http) -> Self {
        let url = http.url.clone();
        HttpTransport {
            client: Client::new(&http.network, &http.auth, http.url.fixed()),
            url: Rendered::new(move |target| url.render(target)),
            method: if http.method == "PUT" { reqwest::Method::PUT } else { reqwest::Method::POST },
            headers: Headers::new(&http.headers),
            encoding: http.encoding,
        }
    }

    fn request(&self, target: &LogstoreName, bytes: Bytes, layout: &Layout) -> Result<reqwest::RequestBuilder, String> {
        let content_type = match self.encoding {
            Encoding::Ndjson => "application/x-ndjson",
            Encoding::Json => "application/json",
        };
        let request = self.client.get()?.request(self.method.clone(), &*self.url.of(target));
        let request = self.headers.add(self.client.authorize(request)?)?.header(CONTENT_TYPE, content_type);
        Ok(match layout.compression.content_encoding() {
            Some(encoding) => request.header(CONTENT_ENCODING, encoding),
            None => request,
        }
        .body(bytes))
    }
}

impl Transport for HttpTransport {
    fn format(&self) -> &'static str {
        match self.encoding {
            Encoding::Ndjson => "http, ndjson",
            Encoding::Json => "http, json",
        }
    }

    fn send<'a>(&'a self, target: &'a LogstoreName, bytes: Bytes, layout: &'a Layout) -> BoxFuture<'a, Outcome> {
        async move {
            match self.request(target, bytes, layout) {
                Err(why) => Outcome::mistake(why),
                Ok(request) => match client::answer(request).await {
                    Ok(response) => client::judge(response).await,
                    Err(outcome) => outcome,
                },
            }
        }
        .boxed()
    }
}
