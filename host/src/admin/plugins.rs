//! Versions of the plugin of a logstore.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, Multipart, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::Limited;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use super::access::Role;
use super::error::{Answer, Error, Problem};
use super::guard::{App, Asked, Named, Number};
use super::upload::{self, Chosen, NotDone, Push, Pushed, Then};
use crate::config::LogstoreName;
use crate::registry::{By, Choice, SETTINGS, Version};
use crate::sandbox::check::{Check, Failed};
use crate::signing::SIGNATURE;

/// An upload is received in this time.
const RECEIVING: Duration = Duration::from_secs(120);

/// Bytes of an upload that is too large that are taken all the same and thrown away: who sends them hears the answer only
/// after that.
const THROWN_AWAY: usize = 256 << 20;

/// Bytes that are sent at once.
const PIECE: usize = 64 << 10;

/// Another upload, or change, may be done after that.
const SOON: Duration = Duration::from_secs(2);

/// Versions, and what runs.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Versions {
    /// What runs.
    pub choice: Choice,
    /// By number.
    pub versions: Vec<Version>,
    /// Why nothing can be uploaded, if nothing can.
    pub refusal: Option<String>,
}

/// The versions that were uploaded
#[utoipa::path(get, path = "/v1/logstores/{project}/{logstore}/plugins", tag = "plugins",
    params(("project" = String, Path), ("logstore" = String, Path)),
    responses(
        (status = 200, description = "Versions", body = Versions),
        (status = 401, description = "Without a token", body = Problem),
        (status = 404, description = "There is none of that name, or it is another project's", body = Problem),
        (status = 429, description = "Too many requests", body = Problem),
        (status = 500, description = "The disk has failed", body = Problem),
    ))]
pub async fn list(State(app): State<Arc<App>>, named: Named) -> Answer<Json<Versions>> {
    let Named { name, role } = named;
    let (choice, versions, refusal) = app
        .ask(&role, move |app| {
            let (choice, versions) = app.control.registry().list(&name)?;
            Ok::<_, Error>((choice, versions, upload::refusal(&app.control.config(), &name)))
        })
        .await??;
    Ok(Json(Versions { choice, versions, refusal }))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PushQuery {
    /// Checks it, and changes nothing.
    #[serde(default)]
    #[param(default = false)]
    dry_run: bool,
    /// Runs it on so many percent of the files first.
    #[param(minimum = 1, maximum = 99)]
    canary: Option<u8>,
}

impl PushQuery {
    fn then(&self) -> Answer<Then> {
        match (self.dry_run, self.canary) {
            (true, _) => Ok(Then::Nothing),
            (false, None) => Ok(Then::Activate),
            (false, Some(percent)) => percent_of(percent).map(Then::Canary),
        }
    }
}

fn percent_of(percent: u8) -> Answer<u8> {
    if (1..=99).contains(&percent) { Ok(percent) } else { Err(Error::bad("canary must be from 1 to 99 percent")) }
}

/// What is uploaded.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Upload {
    /// The `.wasm`.
    #[schema(value_type = String, format = Binary, content_media_type = "application/wasm")]
    plugin: Vec<u8>,
    /// Its settings, as JSON; if not given, those of the plugin whose place it takes.
    settings: Option<String>,
    /// Its signature, where the project asks for one: base64 of ASN.1 DER, ECDSA on P-256 over SHA-256 of the `.wasm`.
    signature: Option<String>,
}

/// Uploads a plugin
///
/// Its size, its signature, its API version, its imports, its limits, that it compiles and that it takes its settings are checked; then
/// the logstore's last lines are sent through it. Only then it is kept, and runs.
#[utoipa::path(post, path = "/v1/logstores/{project}/{logstore}/plugins", tag = "plugins",
    params(("project" = String, Path), ("logstore" = String, Path), PushQuery),
    request_body(content = Upload, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "It passes, and nothing has changed", body = Pushed),
        (status = 201, description = "It runs", body = Pushed),
        (status = 400, description = "The request makes no sense", body = Problem),
        (status = 401, description = "Without a token", body = Problem),
        (status = 403, description = "Nothing may be uploaded", body = Problem),
        (status = 404, description = "There is none of that name, or it is another project's", body = Problem),
        (status = 408, description = "It took too long to come", body = Problem),
        (status = 409, description = "Another change is under way, or too many versions are kept", body = Problem),
        (status = 413, description = "It is too large", body = Problem),
        (status = 415, description = "It is not multipart/form-data", body = Problem),
        (status = 422, description = "A check failed", body = Problem),
        (status = 429, description = "Too many requests, or uploads", body = Problem),
        (status = 500, description = "The disk has failed", body = Problem),
    ))]
pub async fn push(
    State(app): State<Arc<App>>,
    named: Named,
    Asked(asked): Asked<PushQuery>,
    request: Request,
) -> Answer<Response> {
    let then = asked.then()?;
    let most = {
        let config = app.control.config();
        let (_, project) = upload::find(&config, &named.name).ok_or_else(Error::not_found)?;
        project.uploads.max_size
    };
    let slot = app.uploads.take(&named.role)?;
    let received = timeout(RECEIVING, receive(request, most)).await;
    let Received { plugin, settings, signature } =
        received.map_err(|_| Error::new(StatusCode::REQUEST_TIMEOUT, "it took too long to come"))??;
    let by = if named.role == Role::Operator { By::Operator } else { By::Project };
    let push = Push { bytes: plugin.into(), settings, signature, by, then };
    let pushed = change(&app, named, move |app, name| {
        // As long as its bytes are in memory, whether anybody waits for the answer or not.
        let _slot = slot;
        upload::push(&*app.control, name, push)
    });
    let pushed = pushed.await?;
    let status = if pushed.version.is_some() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(pushed)).into_response())
}

/// What of an upload has come.
struct Received {
    plugin: Vec<u8>,
    /// As it came; of what has too many bytes one more than it may have, to be refused when it is its turn.
    settings: Option<Vec<u8>>,
    /// The same.
    signature: Option<Vec<u8>>,
}

async fn receive(request: Request, most: u64) -> Answer<Received> {
    let request = request.map(|body| Body::new(Limited::new(body, THROWN_AWAY)));
    let mut parts = Multipart::from_request(request, &()).await.map_err(|rejection| {
        Error::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, rejection.body_text()).hint("send multipart/form-data")
    })?;
    let (mut plugin, mut settings, mut signature, mut is_too_large) = (None, None, None, false);
    while let Some(mut part) = parts.next_field().await.map_err(|error| broken(&error, most))? {
        let is_plugin = part.name() == Some("plugin");
        let (place, limit) = match part.name() {
            Some("plugin") => (&mut plugin, most),
            Some("settings") => (&mut settings, SETTINGS as u64 + 1),
            Some("signature") => (&mut signature, SIGNATURE as u64 + 1),
            _ => return Err(Error::bad("the parts of an upload are `plugin`, `settings` and `signature`")),
        };
        if place.is_some() {
            return Err(Error::bad("a part of the upload is there twice"));
        }
        let (mut bytes, mut size) = (Vec::new(), 0);
        while let Some(chunk) = part.chunk().await.map_err(|error| broken(&error, most))? {
            let left = usize::try_from(limit.saturating_sub(size)).unwrap_or(usize::MAX);
            bytes.extend_from_slice(&chunk[..chunk.len().min(left)]);
            size += chunk.len() as u64;
        }
        is_too_large |= is_plugin && size > limit;
        *place = Some(bytes);
    }
    if is_too_large {
        return Err(too_large(most));
    }
    let plugin = plugin.ok_or_else(|| Error::bad("the upload has no part `plugin`"))?;
    Ok(Received { plugin, settings, signature })
}

fn broken(error: &axum::extract::multipart::MultipartError, most: u64) -> Error {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(most),
        _ => Error::bad(format!("the upload is damaged: {}", error.body_text())),
    }
}

fn too_large(most: u64) -> Error {
    Error::new(StatusCode::PAYLOAD_TOO_LARGE, format!("it has more than {most} bytes"))
        .check(Check::Size)
        .hint("the project's `uploads.max_size` in the agent's configuration is the limit")
}

/// The `.wasm` of a version
#[utoipa::path(get, path = "/v1/logstores/{project}/{logstore}/plugins/{version}", tag = "plugins",
    params(("project" = String, Path), ("logstore" = String, Path), ("version" = u64, Path)),
    responses(
        (status = 200, description = "The plugin", content_type = "application/wasm", body = Vec<u8>),
        (status = 400, description = "The version is no number", body = Problem),
        (status = 401, description = "Without a token", body = Problem),
        (status = 404, description = "There is none of that name, or it is another project's", body = Problem),
        (status = 429, description = "Too many requests", body = Problem),
        (status = 500, description = "The disk has failed", body = Problem),
    ))]
pub async fn download(State(app): State<Arc<App>>, named: Named, Number(number): Number) -> Answer<Response> {
    let Named { name, role } = named;
    let slot = app.downloads.take(&role)?;
    let (digest, bytes, slot) = app
        .ask(&role, move |app| {
            let digest = app.control.registry().version(&name, number)?.digest;
            let bytes = app.control.registry().blob(&digest).map_err(|error| Error::internal(&error))?;
            Ok::<_, Error>((digest, bytes, slot))
        })
        .await??;
    let headers = [(header::CONTENT_TYPE, "application/wasm".to_owned()), (header::ETAG, format!("\"{digest}\""))];
    // It is in memory until all of it is sent.
    let pieces = stream::unfold((Bytes::from(bytes), slot), |(mut rest, slot)| async move {
        let piece = rest.split_to(PIECE.min(rest.len()));
        (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (rest, slot)))
    });
    Ok((headers, Body::from_stream(pieces)).into_response())
}

/// Removes a version that does not run
#[utoipa::path(delete, path = "/v1/logstores/{project}/{logstore}/plugins/{version}", tag = "plugins",
    params(("project" = String, Path), ("logstore" = String, Path), ("version" = u64, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 400, description = "The version is no number", body = Problem),
        (status = 401, description = "Without a token", body = Problem),
        (status = 404, description = "There is none of that name, or it is another project's", body = Problem),
        (status = 409, description = "It runs, or another change is under way", body = Problem),
        (status = 429, description = "Too many requests", body = Problem),
        (status = 500, description = "The disk has failed", body = Problem),
    ))]
pub async fn remove(State(app): State<Arc<App>>, named: Named, Number(number): Number) -> Answer<StatusCode> {
    change(&app, named, move |app, name| Ok(app.control.registry().remove(name, number)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ActivateQuery {
    /// Runs it on so many percent of the files first.
    #[param(minimum = 1, maximum = 99)]
    canary: Option<u8>,
}

/// Runs a version; 0 is what the configuration says
#[utoipa::path(post, path = "/v1/logstores/{project}/{logstore}/plugins/{version}/activate", tag = "plugins",
    params(("project" = String, Path), ("logstore" = String, Path), ("version" = u64, Path), ActivateQuery),
    responses(
        (status = 200, description = "It runs", body = Chosen),
        (status = 400, description = "The version is no number, or the query makes no sense", body = Problem),
        (status = 401, description = "Without a token", body = Problem),
        (status = 403, description = "Uploads may not run", body = Problem),
        (status = 404, description = "There is none of that name, or it is another project's", body = Problem),
        (status = 409, description = "It cannot run now, or another change is under way", body = Problem),
        (status = 429, description = "Too many requests", body = Problem),
        (status = 500, description = "The disk has failed", body = Problem),
    ))]
pub async fn activate(
    State(app): State<Arc<App>>,
    named: Named,
    Number(number): Number,
    Asked(asked): Asked<ActivateQuery>,
) -> Answer<Json<Chosen>> {
    let canary = asked.canary.map(percent_of).transpose()?;
    change(&app, named, move |app, name| upload::activate(&*app.control, name, number, canary)).await.map(Json)
}

/// Ends a canary; or runs again what ran before
#[utoipa::path(post, path = "/v1/logstores/{project}/{logstore}/plugins/rollback", tag = "plugins",
    params(("project" = String, Path), ("logstore" = String, Path)),
    responses(
        (status = 200, description = "What runs now", body = Chosen),
        (status = 401, description = "Without a token", body = Problem),
        (status = 404, description = "There is none of that name, or it is another project's", body = Problem),
        (status = 409, description = "Nothing ran before, or another change is under way", body = Problem),
        (status = 429, description = "Too many requests", body = Problem),
        (status = 500, description = "The disk has failed", body = Problem),
    ))]
pub async fn rollback(State(app): State<Arc<App>>, named: Named) -> Answer<Json<Chosen>> {
    change(&app, named, |app, name| upload::rollback(&*app.control, name)).await.map(Json)
}

/// Changes the plugins of a logstore, while nobody else does.
async fn change<T: Send + 'static>(
    app: &Arc<App>,
    named: Named,
    change: impl FnOnce(&App, &LogstoreName) -> Result<T, NotDone> + Send + 'static,
) -> Answer<T> {
    let Named { name, role } = named;
    let changed = app.ask(&role, move |app| {
        let busy =
            || Error::later(StatusCode::CONFLICT, "another change of this logstore's plugins is under way", SOON);
        let _change = app.changes.begin(&name).ok_or_else(busy)?;
        change(app, &name).map_err(Error::from)
    });
    changed.await?
}

impl From<NotDone> for Error {
    fn from(not: NotDone) -> Self {
        let said = not.to_string();
        match not {
            NotDone::NotAllowed | NotDone::NoPlace(_) => Error::forbidden(said),
            NotDone::Check(Failed { check, .. }, report) => {
                let status = match check {
                    Check::Size => StatusCode::PAYLOAD_TOO_LARGE,
                    _ => StatusCode::UNPROCESSABLE_ENTITY,
                };
                let error = Error::new(status, said).check(check);
                report.into_iter().fold(error, |error, report| error.report(*report))
            }
            NotDone::Refused(refused) => refused.into(),
            NotDone::NotApplied(_) => Error::conflict(said),
            NotDone::Broken(error) => Error::internal(&error),
        }
    }
}
