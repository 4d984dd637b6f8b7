//! What can be asked: health, metrics, status, taps, and to read the configuration again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoParams, Modify, OpenApi as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Role;
use super::error::{Answer, Error, Problem};
use super::guard::{App, Asked, Known, Named, Operator, guard};
use super::{exposition, plugins};
use crate::control::{LogstoreStatus, Reloaded, Status, Tap};
use crate::sandbox::log::Line;

/// Events of a tap, if it doesn't say how many; and the most.
const TAPPED: u64 = 100;
const MOST_TAPPED: u64 = 1_000_000;

/// A tap ends after so long.
const TAP: Duration = Duration::from_secs(3600);

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "weir", description = "The admin API of a weir agent."),
    modifiers(&Bearer),
    security(("token" = [])),
    tags(
        (name = "health", description = "Probes"),
        (name = "seeing", description = "Status, metrics, events"),
        (name = "plugins", description = "Versions of the plugin of a logstore"),
        (name = "config", description = "The configuration"),
    )
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        let scheme = scheme.description(Some("The operator's token, or a project's, which sees that project alone."));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme.build()));
    }
}

fn described() -> (Router<Arc<App>>, OpenApi) {
    let (router, mut openapi) = OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .routes(routes!(description))
        .routes(routes!(status))
        .routes(routes!(logstores))
        .routes(routes!(logstore))
        .routes(routes!(tap))
        .routes(routes!(log))
        .routes(routes!(plugins::list, plugins::push))
        .routes(routes!(plugins::download, plugins::remove))
        .routes(routes!(plugins::activate))
        .routes(routes!(plugins::rollback))
        .routes(routes!(reload))
        .split_for_parts();
    openapi.paths.paths.values_mut().for_each(describe_failures);
    (router, openapi)
}

/// What may happen to any request.
fn describe_failures(path: &mut PathItem) {
    for operation in [&mut path.get, &mut path.post, &mut path.delete].into_iter().flatten() {
        let responses = &mut operation.responses.responses;
        for (status, why) in [("500", "Something is wrong with the agent"), ("504", "It took too long")] {
            let content = Content::new(Some(Ref::from_schema_name("Problem")));
            let response = ResponseBuilder::new().description(why).content("application/json", content);
            responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(response.build()));
        }
    }
}

/// The description of all requests and answers.
pub fn openapi() -> OpenApi {
    described().1
}

/// All requests, guarded.
pub fn router(app: &Arc<App>) -> Router {
    let (router, _) = described();
    let wrong_method = || async { Error::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method") };
    router
        .fallback(|| async { Error::not_found() })
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app.clone(), guard))
        .with_state(app.clone())
}

/// Whether the agent works.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct HealthAnswer {
    /// Whether it does.
    pub ok: bool,
    /// What is wrong, for the operator alone.
    pub details: Vec<String>,
}

fn health(is_wrong: Vec<String>, more: Vec<String>, role: &Role) -> Response {
    let ok = is_wrong.is_empty();
    let details = if *role == Role::Operator { [is_wrong, more].concat() } else { Vec::new() };
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(HealthAnswer { ok, details })).into_response()
}

/// Whether the agent is alive: its workers turn, its checkpoint is written
///
/// If it is not, only a restart helps.
#[utoipa::path(get, path = "/healthz", tag = "health", security((), ("token" = [])), responses(
    (status = 200, description = "It is", body = HealthAnswer),
    (status = 401, description = "The token is nobody's", body = Problem),
    (status = 429, description = "Too many requests", body = Problem),
    (status = 503, description = "It is not", body = HealthAnswer),
))]
async fn healthz(State(app): State<Arc<App>>, Extension(role): Extension<Role>) -> Response {
    let found = app.control.health();
    health(found.dead, found.details, &role)
}

/// Whether the agent does its work
#[utoipa::path(get, path = "/readyz", tag = "health", security((), ("token" = [])), responses(
    (status = 200, description = "It does", body = HealthAnswer),
    (status = 401, description = "The token is nobody's", body = Problem),
    (status = 429, description = "Too many requests", body = Problem),
    (status = 503, description = "It does not", body = HealthAnswer),
))]
async fn readyz(State(app): State<Arc<App>>, Extension(role): Extension<Role>) -> Response {
    let found = app.control.health();
    health([found.dead, found.unready].concat(), found.details, &role)
}

/// All metrics, as Prometheus reads them
///
/// With a project's token those of that project.
#[utoipa::path(get, path = "/metrics", tag = "seeing", responses(
    (status = 200, description = "Metrics", body = String, content_type = "text/plain"),
    (status = 401, description = "Without a token", body = Problem),
    (status = 429, description = "Too many requests", body = Problem),
))]
async fn metrics(State(app): State<Arc<App>>, Known(role): Known) -> Answer<Response> {
    let asked = role.clone();
    let text = app.ask(&asked, move |app| {
        let status = app.control.status(project_of(&role));
        exposition::text(&status, &app.control.books(), &role)
    });
    let text = text.await?;
    Ok(([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response())
}

/// This description
#[utoipa::path(get, path = "/v1/openapi.json", tag = "seeing", security((), ("token" = [])), responses(
    (status = 200, description = "OpenAPI", body = Object, content_type = "application/json"),
    (status = 401, description = "The token is nobody's", body = Problem),
    (status = 429, description = "Too many requests", body = Problem),
))]
async fn description() -> Json<OpenApi> {
    Json(openapi())
}

/// All that is to be seen of the agent
///
/// With a project's token, of that project.
#[utoipa::path(get, path = "/v1/status", tag = "seeing", responses(
    (status = 200, description = "Status", body = Status),
    (status = 401, description = "Without a token", body = Problem),
    (status = 429, description = "Too many requests", body = Problem),
))]
async fn status(State(app): State<Arc<App>>, Known(role): Known) -> Answer<Json<Status>> {
    seen(&app, role).await.map(Json)
}

async fn seen(app: &Arc<App>, role: Role) -> Answer<Status> {
    let asked = role.clone();
    app.ask(&asked, move |app| match project_of(&role) {
        Some(project) => app.control.status(Some(project)).of_project(project),
        None => app.control.status(None),
    })
    .await
}

/// The one project that a role sees, if it does not see all.
fn project_of(role: &Role) -> Option<&str> {
    match role {
        Role::Project(project) => Some(project),
        _ => None,
    }
}

/// Logstores by their names
#[utoipa::path(get, path = "/v1/logstores", tag = "seeing", responses(
    (status = 200, description = "Logstores", body = BTreeMap<String, LogstoreStatus>),
    (status = 401, description = "Without a token", body = Problem),
    (status = 429, description = "Too many requests", body = Problem),
))]
async fn logstores(State(app): State<Arc<App>>, Known(role): Known) -> Answer<Json<BTreeMap<String, LogstoreStatus>>> {
    Ok(Json(seen(&app, role).await?.logstores))
}

/// A logstore, with its files
#[utoipa::path(get, path = "/v1/logstores/{project}/{logstore}", tag = "seeing",
    params(("project" = String, Path), ("logstore" = String, Path)),
    responses(
        (status = 200, description = "The logstore", body = LogstoreStatus),
        (status = 401, description = "Without a token", body = Problem),
        (status = 404, description = "There is none of that name, or it is another project's", body = Problem),
        (status = 429, description = "Too many requests", body = Problem),
    ))]
async fn logstore(State(app): State<Arc<App>>, named: Named) -> Answer<Json<LogstoreStatus>> {
    let Named { name, role } = named;
    let found = app.ask(&role, move |app| app.control.logstore(&name)).await?;
    found.map(Json).ok_or_else(Error::not_found)
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TapQuery {
    /// As they were read, not as they go to the sinks.
    #[serde(default)]
    #[param(default = false)]
    before: bool,
    /// The tap ends after so many.
    #[serde(default = "tapped")]
    #[param(minimum = 1, maximum = 1_000_000, default = 100)]
    limit: u64,
}

fn tapped() -> u64 {
    TAPPED
}

/// Events from now on, as they come
///
/// A line of JSON each. If they come too fast, some are left out.
#[utoipa::path(get, path = "/v1/logstores/{project}/{logstore}/tap", tag = "seeing",
    params(("project" = String, Path), ("logstore" = String, Path), TapQuery),
    responses(
        (status = 200, description = "Events", body = String, content_type = "application/x-ndjson"),
        (status = 400, description = "The query makes no sense", body = Problem),
        (status = 401, description = "Without a token", body = Problem),
        (status = 404, description = "There is none of that name, or it is another project's", body = Problem),
        (status = 409, description = "The logstore does not run", body = Problem),
        (status = 429, description = "Too many requests, or taps", body = Problem),
    ))]
async fn tap(State(app): State<Arc<App>>, named: Named, Asked(asked): Asked<TapQuery>) -> Answer<Response> {
    let limit = limit_of(asked.limit)?;
    let Named { name, role } = named;
    let slot = app.taps.take(&role)?;
    let tap = Tap { before: asked.before, limit };
    let receiver = app.ask(&role, move |app| app.control.tap(&name, tap)).await?;
    let receiver = receiver.map_err(|error| Error::conflict(format!("{error:#}")))?;
    let deadline = Instant::now() + TAP;
    let events = stream::unfold((receiver, limit, slot), move |(mut receiver, left, slot)| async move {
        let left = left.checked_sub(1)?;
        let event = timeout_at(deadline, receiver.recv()).await.ok()??;
        Some((Ok::<Bytes, Infallible>(event), (receiver, left, slot)))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(events)).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LogQuery {
    /// Also those that come from now on.
    #[serde(default)]
    #[param(default = false)]
    follow: bool,
    /// It ends after so many.
    #[serde(default = "tapped")]
    #[param(minimum = 1, maximum = 1_000_000, default = 100)]
    limit: u64,
}

/// What the plugins of a logstore log, and why they fail
///
/// The last lines, as JSON each: `at`, in Unix seconds; `level`, which is `debug`, `info`, `warn`, `error`, or `failure`
/// for what a plugin did not say itself; `plugin`; `text`; and how many before it are `missed`, as there were too many.
#[utoipa::path(get, path = "/v1/logstores/{project}/{logstore}/log", tag = "seeing",
    params(("project" = String, Path), ("logstore" = String, Path), LogQuery),
    responses(
        (status = 200, description = "Lines", body = String, content_type = "application/x-ndjson"),
        (status = 400, description = "The query makes no sense", body = Problem),
        (status = 401, description = "Without a token", body = Problem),
        (status = 404, description = "There is none of that name, or it is another project's", body = Problem),
        (status = 429, description = "Too many requests, or taps", body = Problem),
    ))]
async fn log(State(app): State<Arc<App>>, named: Named, Asked(asked): Asked<LogQuery>) -> Answer<Response> {
    let limit = limit_of(asked.limit)?;
    let Named { name, role } = named;
    let slot = app.taps.take(&role)?;
    let log = app.ask(&role, move |app| app.control.log(&name)).await?;
    let body = if asked.follow {
        let deadline = Instant::now() + TAP;
        // The log itself is let go, so that it ends with its logstore.
        let listener = log.listen();
        drop(log);
        Body::from_stream(stream::unfold((listener, limit, slot), move |(mut listener, left, slot)| async move {
            let left = left.checked_sub(1)?;
            let line = timeout_at(deadline, listener.next()).await.ok()??;
            Some((Ok::<_, Infallible>(json_line(&line)), (listener, left, slot)))
        }))
    } else {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        Body::from(log.last().iter().take(most).flat_map(json_line).collect::<Vec<u8>>())
    };
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn json_line(line: &Line) -> Bytes {
    // Of words and numbers JSON can always be made.
    let mut json = serde_json::to_vec(line).unwrap_or_default();
    json.push(b'\n');
    json.into()
}

fn limit_of(asked: u64) -> Answer<u64> {
    match (1..=MOST_TAPPED).contains(&asked) {
        true => Ok(asked),
        false => Err(Error::bad(format!("limit must be from 1 to {MOST_TAPPED}"))),
    }
}

/// Reads the configuration again, and applies what has changed
///
/// Logstores that have not changed run on. If the configuration is wrong, all does.
#[utoipa::path(post, path = "/v1/reload", tag = "config", responses(
    (status = 200, description = "What has changed", body = Reloaded),
    (status = 401, description = "Without a token", body = Problem),
    (status = 403, description = "Not with a project's token", body = Problem),
    (status = 422, description = "The configuration is wrong", body = Problem),
    (status = 429, description = "Too many requests", body = Problem),
))]
async fn reload(State(app): State<Arc<App>>, _: Operator) -> Answer<Json<Reloaded>> {
    let reloaded = app.ask(&Role::Operator, |app| app.control.reload()).await?;
    let refused = |error: crate::control::NotReloaded| Error::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string());
    reloaded.map(Json).map_err(refused)
}
