//! What callers are told when something cannot be done.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::registry::Refused;
use crate::sandbox::check::Check;
use crate::sandbox::dry_run::Report;

/// Why a request was not answered as it was meant.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// In words.
    pub error: String,
    /// Of an upload: the check that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Of an upload whose dry run failed: what came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<Report>>,
}

/// A problem with its status.
#[derive(Debug)]
pub struct Error {
    pub status: StatusCode,
    problem: Problem,
    retry_after: Option<Duration>,
}

/// What a handler gives.
pub type Answer<T> = Result<T, Error>;

impl Error {
    pub fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let problem = Problem { error: error.into(), check: None, hint: None, report: None };
        Error { status, problem, retry_after: None }
    }

    /// The request makes no sense.
    pub fn bad(error: impl Into<String>) -> Self {
        Error::new(StatusCode::BAD_REQUEST, error)
    }

    /// There is nothing, as far as the caller may know.
    pub fn not_found() -> Self {
        Error::new(StatusCode::NOT_FOUND, "there is nothing of that name")
            .hint("names are those of `weir status`; a token of a project sees that project alone")
    }

    /// The caller has to say who it is.
    pub fn unauthorized(error: &str) -> Self {
        Error::new(StatusCode::UNAUTHORIZED, error).hint("send a token: `Authorization: Bearer TOKEN`")
    }

    /// The caller may not.
    pub fn forbidden(error: impl Into<String>) -> Self {
        Error::new(StatusCode::FORBIDDEN, error)
    }

    /// Not as things are now.
    pub fn conflict(error: impl Into<String>) -> Self {
        Error::new(StatusCode::CONFLICT, error)
    }

    /// Not now: later.
    pub fn later(status: StatusCode, error: &str, after: Duration) -> Self {
        Error { retry_after: Some(after), ..Error::new(status, error) }
    }

    /// Something is wrong with the agent, which its log says and callers need not know.
    pub fn internal(error: &anyhow::Error) -> Self {
        tracing::error!("a request could not be answered: {error:#}");
        Error::new(StatusCode::INTERNAL_SERVER_ERROR, "something is wrong with the agent; its log says what")
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = Some(hint.into());
        self
    }

    pub fn check(mut self, check: Check) -> Self {
        self.problem.check = Some(check);
        self
    }

    pub fn report(mut self, report: Report) -> Self {
        self.problem.report = Some(Box::new(report));
        self
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let status = match &refused {
            Refused::Unknown(_) => StatusCode::NOT_FOUND,
            Refused::InUse(_) | Refused::Active(_) | Refused::Full(_) | Refused::NothingBefore => StatusCode::CONFLICT,
            Refused::NotAPart(_) | Refused::Settings(_) => StatusCode::BAD_REQUEST,
            Refused::Broken(error) => return Error::internal(error),
        };
        Error::new(status, refused.to_string())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.problem)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, (after.as_secs() + 1).into());
        }
        response
    }
}
