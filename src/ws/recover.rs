//! [`Recover`] as an extractor: the query parameter of that name.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, request};
use percent_encoding::percent_decode_str;

use crate::group::{Recover, RecoverError};

/// Reads the client's positions from the query parameter `recover`; empty without one.
///
/// ```
/// use axum::{Router, extract::Path, response::Response, routing::get};
/// use fanfare::group::Recover;
/// use fanfare::ws::Upgrade;
///
/// async fn chat(upgrade: Upgrade, Path(room): Path<String>, recover: Recover) -> Response {
///     let seen = recover.position(&room);
///     upgrade.run(async move |channel| Ok(channel.send(&seen)?))
/// }
/// # let _: Router = Router::new().route("/chat/{room}", get(chat));
/// ```
impl<S: Send + Sync> FromRequestParts<S> for Recover {
    type Rejection = RecoverError;

    async fn from_request_parts(parts: &mut request::Parts, _state: &S) -> Result<Self, RecoverError> {
        match parameter(parts.uri.query().unwrap_or_default())? {
            Some(json) => json.parse(),
            None => Ok(Self::default()),
        }
    }
}

/// A response 400 that says what is wrong.
impl IntoResponse for RecoverError {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, format!("{self}\n")).into_response()
    }
}

/// Returns the value of `recover`, decoded.
fn parameter(query: &str) -> Result<Option<String>, RecoverError> {
    let mut found = query.split('&').filter_map(|pair| match pair.split_once('=') {
        Some(("recover", value)) => Some(value),
        None if pair == "recover" => Some(""),
        _ => None,
    });
    let Some(value) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(RecoverError::Parameter("it is there twice"));
    }
    // In a query a plus sign is a space.
    let value = value.replace('+', " ");
    let decoded = percent_decode_str(&value).decode_utf8().map_err(|_| RecoverError::Parameter("it is not UTF-8"))?;
    Ok(Some(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Position;

    fn extract(query: &str) -> Result<Recover, String> {
        let (mut parts, ()) = http::Request::get(format!("/?{query}")).body(()).expect("it is a URI").into_parts();
        let extracted = futures_executor::block_on(Recover::from_request_parts(&mut parts, &()));
        extracted.map_err(|error| {
            assert_eq!(error.to_string().lines().count(), 1);
            let text = error.to_string();
            assert_eq!(error.into_response().status(), StatusCode::BAD_REQUEST);
            text
        })
    }

    #[test]
    fn it_is_decoded_as_a_browser_encodes_it() {
        for query in [
            "recover=%7B%22a+room%22%3A%5B5%2C12%5D%7D",         // URLSearchParams
            "x=1&recover=%7B%22a%20room%22%3A%5B5%2C12%5D%7D&y", // encodeURIComponent
        ] {
            let recover = extract(query).expect("it is good");
            assert_eq!(recover.position("a room"), Some(Position { epoch: 5, offset: 12 }));
        }
        for query in ["", "x=recover", "recovered=1", "&&="] {
            assert!(extract(query).expect("it is absent").is_empty(), "{query}");
        }
    }

    #[test]
    fn what_is_malformed_is_a_400_that_says_why() {
        for (query, says) in [
            ("recover", "EOF"),
            ("recover=", "EOF"),
            ("recover=room", "expected value"),
            ("recover=%ff", "not UTF-8"),
            ("recover=%", "expected value"),
            ("recover=%7B%7D&recover=%7B%7D", "twice"),
        ] {
            let error = extract(query).expect_err("it is malformed");
            assert!(error.contains(says), "{query}: {error}");
        }
    }
}
