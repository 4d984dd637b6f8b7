//! What every request passes: who calls, how often, and for how long.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::RequestPartsExt;
use axum::extract::{FromRequestParts, Query, RawPathParams, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::access::{Access, Role};
use super::error::{Answer, Error};
use super::listen::Peer;
use super::rate::{Caller, Rates};
use super::upload::{self, Changes};
use crate::config::LogstoreName;
use crate::control::Control;

/// Uploads that are received and checked at once, and downloads: each is in memory.
const UPLOADS: (usize, usize) = (3, 1);
const DOWNLOADS: (usize, usize) = (3, 1);

/// Taps that are open at once.
const TAPS: (usize, usize) = (16, 4);

/// Questions that wait for the agent at once, of the operator and of each project: more of them wait their turn, and take
/// no thread from others.
const ASKED: (usize, usize) = (16, 4);

/// An answer takes so long at most, until it begins; with compiling.
const SEEING: Duration = Duration::from_secs(30);
const CHANGING: Duration = Duration::from_secs(15 * 60);

/// What all requests have.
pub struct App {
    pub control: Arc<dyn Control>,
    access: Access,
    rates: Rates,
    pub changes: Changes,
    asked: Mutex<BTreeMap<Role, Arc<Semaphore>>>,
    pub uploads: Arc<Slots>,
    pub downloads: Arc<Slots>,
    pub taps: Arc<Slots>,
}

impl App {
    pub fn new(control: Arc<dyn Control>, data_dir: &Path) -> anyhow::Result<App> {
        Ok(App {
            control,
            access: Access::new(data_dir)?,
            rates: Rates::default(),
            changes: Changes::default(),
            asked: Mutex::default(),
            uploads: Slots::new("uploads", UPLOADS),
            downloads: Slots::new("downloads", DOWNLOADS),
            taps: Slots::new("taps", TAPS),
        })
    }

    /// Asks the agent something for whoever has that role, on a thread where that may wait. Whoever does not wait for the
    /// answer any more has it asked to its end all the same.
    pub async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        role: &Role,
        ask: impl FnOnce(&App) -> T + Send + 'static,
    ) -> Answer<T> {
        let turn = self.turns(role).acquire_owned().await.map_err(|error| Error::internal(&error.into()))?;
        let app = self.clone();
        let asked = spawn_blocking(move || {
            let _turn = turn;
            ask(&app)
        });
        asked.await.map_err(|error| Error::internal(&error.into()))
    }

    fn turns(&self, role: &Role) -> Arc<Semaphore> {
        let count = if *role == Role::Operator { ASKED.0 } else { ASKED.1 };
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.entry(role.clone()).or_insert_with(|| Arc::new(Semaphore::new(count))).clone()
    }

    fn admit(&self, headers: &HeaderMap, peer: Peer) -> Answer<Role> {
        let known = bearer(headers).map(|token| self.access.role(&self.control.config(), token));
        let role = known.as_ref().and_then(|role| role.clone());
        let caller = role.clone().map_or_else(|| Caller::peer(peer.0), Caller::Known);
        let too_often = |after| Error::later(StatusCode::TOO_MANY_REQUESTS, "too many requests", after);
        self.rates.take(caller, Instant::now()).map_err(too_often)?;
        match (known, role) {
            (Some(None), _) => Err(Error::unauthorized("this token is nobody's")),
            (_, role) => Ok(role.unwrap_or(Role::Nobody)),
        }
    }
}

/// What may be done so often at once: by all, and by each project.
pub struct Slots {
    what: &'static str,
    all: usize,
    each: usize,
    taken: Mutex<BTreeMap<Role, usize>>,
}

/// One of them, as long as it is there.
pub struct Slot {
    slots: Arc<Slots>,
    role: Role,
}

impl Slots {
    fn new(what: &'static str, (all, each): (usize, usize)) -> Arc<Slots> {
        Arc::new(Slots { what, all, each, taken: Mutex::default() })
    }

    /// Takes one.
    pub fn take(self: &Arc<Self>, role: &Role) -> Answer<Slot> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(role).copied().unwrap_or(0);
        let each = if *role == Role::Operator { self.all } else { self.each };
        if own >= each || taken.values().sum::<usize>() >= self.all {
            let error = format!("other {} are under way", self.what);
            return Err(Error::later(StatusCode::TOO_MANY_REQUESTS, &error, Duration::from_secs(2)));
        }
        taken.insert(role.clone(), own + 1);
        Ok(Slot { slots: self.clone(), role: role.clone() })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.role) {
            Some(own) if *own > 1 => *own -= 1,
            _ => _ = taken.remove(&self.role),
        }
    }
}

/// The token of a request, if it has one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len()).unwrap_or((b"", value));
    // Of what is something else, all is taken for a token, and nobody's.
    Some(if scheme.eq_ignore_ascii_case(b"Bearer ") { token.trim_ascii() } else { value })
}

/// Lets a request through, with the [`Role`] of whoever sent it.
pub async fn guard(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().copied() else {
        return Error::internal(&anyhow::anyhow!("a request without a connection")).into_response();
    };
    let mut response = match app.admit(request.headers(), peer) {
        Err(error) => error.into_response(),
        Ok(role) => {
            let is_change = request.method() == Method::POST || request.method() == Method::DELETE;
            request.extensions_mut().insert(role);
            let long = if is_change { CHANGING } else { SEEING };
            timeout(long, next.run(request))
                .await
                .unwrap_or_else(|_| Error::new(StatusCode::GATEWAY_TIMEOUT, "it took too long").into_response())
        }
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Whoever has a token.
pub struct Known(pub Role);

impl<S: Send + Sync> FromRequestParts<S> for Known {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        match parts.extensions.get::<Role>() {
            None | Some(Role::Nobody) => Err(Error::unauthorized("this needs a token")),
            Some(role) => Ok(Known(role.clone())),
        }
    }
}

/// The operator.
pub struct Operator;

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        match Known::from_request_parts(parts, state).await?.0 {
            Role::Operator => Ok(Operator),
            _ => Err(Error::forbidden("this needs the operator's token")),
        }
    }
}

/// The logstore of the path: one that there is, and that the caller may see and change. Whatever else is named there is
/// as good as none.
pub struct Named {
    pub name: LogstoreName,
    pub role: Role,
}

impl FromRequestParts<Arc<App>> for Named {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Answer<Self> {
        let Known(role) = Known::from_request_parts(parts, app).await?;
        let (project, logstore) = (param(parts, "project").await?, param(parts, "logstore").await?);
        let name: LogstoreName = format!("{project}/{logstore}").parse().map_err(|_| Error::not_found())?;
        let is_there = upload::find(&app.control.config(), &name).is_some();
        if is_there && role.has(&name) { Ok(Named { name, role }) } else { Err(Error::not_found()) }
    }
}

/// The version in the path.
pub struct Number(pub u64);

impl<S: Send + Sync> FromRequestParts<S> for Number {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        let number = param(parts, "version").await?.parse();
        number.map(Number).map_err(|_| Error::bad("a version is a number: see the list of versions"))
    }
}

async fn param(parts: &mut Parts, name: &str) -> Answer<String> {
    let params = parts.extract::<RawPathParams>().await.map_err(|_| Error::not_found())?;
    params.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).ok_or_else(Error::not_found)
}

/// What is asked for behind the `?`.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(asked)| Asked(asked)).map_err(|rejection| Error::bad(rejection.body_text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_project_leaves_something_for_others() {
        let slots = Slots::new("taps", (3, 2));
        let [a, b] = ["a", "b"].map(|name| Role::Project(name.to_owned()));
        let first = [slots.take(&a).unwrap(), slots.take(&a).unwrap()];
        assert_eq!(slots.take(&a).err().unwrap().status, StatusCode::TOO_MANY_REQUESTS);
        let third = slots.take(&b).unwrap();
        assert!(slots.take(&b).is_err() && slots.take(&Role::Operator).is_err());
        drop(first);
        let operators = [slots.take(&Role::Operator).unwrap(), slots.take(&Role::Operator).unwrap()];
        assert!(slots.take(&a).is_err());
        drop((third, operators));
        assert!(slots.taken.lock().unwrap().is_empty());
    }
}
