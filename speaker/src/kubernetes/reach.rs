//! Whether the API server answers.
//!
//! A quiet watch does not show whether it has failed or works again. Its requests do: each ends
//! within half a minute, and is followed by another.

use std::{
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::http::Response;
use kube::client::DynBody;
use tower::BoxError;

type Result = std::result::Result<Response<Box<DynBody>>, BoxError>;

/// The outcome of the latest requests to the API server.
#[derive(Clone, Debug, Default)]
pub struct Reach(Arc<Mutex<Option<Away>>>);

/// The API server does not answer.
#[derive(Clone, Debug)]
pub struct Away {
    /// When the first request since the last success failed.
    pub since: Instant,
    /// Why the last one failed.
    pub why: String,
}

impl Reach {
    /// Why the last request was not answered, if it was not.
    pub fn away(&self) -> Option<Away> {
        let away = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        away.clone()
    }

    /// Notes the outcome of a request.
    pub(super) fn note(&self, result: Result) -> Result {
        let why = match &result {
            Ok(response) if response.status().is_server_error() => {
                Some(format!("it answers {}", response.status()))
            }
            Ok(_) => None,
            Err(error) => Some(innermost(error.as_ref()).to_string()),
        };
        let mut away = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *away = why.map(|why| Away {
            since: away.as_ref().map_or_else(Instant::now, |away| away.since),
            why,
        });
        drop(away);
        result
    }
}

/// The root cause, which people can act on.
fn innermost<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Empty};

    use super::*;

    fn answer(status: u16) -> Result {
        let body: Box<DynBody> = Box::new(Empty::new().map_err(|never| match never {}));
        let response = Response::builder().status(status).body(body);
        Ok(response.expect("it is a status"))
    }

    #[test]
    fn the_api_server_is_away_from_the_first_failure_to_the_next_answer() {
        let reach = Reach::default();
        let note = |result| drop(reach.note(result));
        note(answer(200));
        assert!(reach.away().is_none());
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        note(Err(refused.into()));
        let first = reach.away().expect("a request failed");
        assert_eq!(first.why, "connection refused");
        note(answer(503));
        let last = reach.away().expect("it still fails");
        assert_eq!(last.why, "it answers 503 Service Unavailable");
        assert_eq!(last.since, first.since);
        // A missing permission is another matter, and logged.
        note(answer(403));
        assert!(reach.away().is_none());
    }
}
