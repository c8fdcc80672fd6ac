//! The place of a request's token: exactly one.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, request::Parts};

use super::error::{JwtError, JwtRejection};
use crate::ws::proto::handshake::{BEARER, offered_protocols};

/// Where the token was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Header,
    /// Behind the subprotocol `bearer`.
    Subprotocol,
    Query,
    Elsewhere,
}

/// Finds the token of a request: in `Authorization`, after the subprotocol `bearer`, or else in the query if a
/// parameter is configured. Reads each header once.
pub(super) fn find<'r>(parts: &'r Parts, parameter: Option<&str>) -> Result<(&'r [u8], Source), JwtRejection> {
    match (from_header(&parts.headers)?, from_protocols(&parts.headers)?) {
        (Some(_), Some(_)) => Err(JwtRejection::Ambiguous),
        (Some(token), None) => Ok((token, Source::Header)),
        (None, Some(token)) => Ok((token, Source::Subprotocol)),
        (None, None) => {
            let query = parts.uri.query().unwrap_or_default();
            let token = parameter.map(|name| from_query(query, name)).transpose()?.flatten();
            token.map(|token| (token, Source::Query)).ok_or(JwtRejection::Missing)
        }
    }
}

/// Marks the headers that carry a token as sensitive: code that prints headers later does not show it.
pub(super) fn hide(headers: &mut HeaderMap) {
    for (name, value) in headers.iter_mut() {
        if name == AUTHORIZATION || name == SEC_WEBSOCKET_PROTOCOL {
            value.set_sensitive(true);
        }
    }
}

/// A header of another scheme, as `Basic`, is not a token: it may be for a proxy, and the token elsewhere.
fn from_header(headers: &HeaderMap) -> Result<Option<&[u8]>, JwtRejection> {
    let mut values = headers.get_all(AUTHORIZATION).into_iter().map(|value| value.as_bytes().trim_ascii());
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(JwtRejection::Ambiguous);
    }
    let (scheme, token) = match value.iter().position(|byte| *byte == b' ') {
        Some(at) => (&value[..at], value[at..].trim_ascii_start()),
        None => (value, &value[value.len()..]),
    };
    Ok(scheme.eq_ignore_ascii_case(b"bearer").then_some(token))
}

fn from_protocols(headers: &HeaderMap) -> Result<Option<&[u8]>, JwtRejection> {
    let mut offered = offered_protocols(headers);
    if !offered.any(|name| name == BEARER) {
        return Ok(None);
    }
    let token = offered.next().ok_or(JwtError::Malformed)?;
    if token == BEARER || offered.any(|name| name == BEARER) {
        return Err(JwtRejection::Ambiguous);
    }
    Ok(Some(token.as_bytes()))
}

/// No character of a token needs escaping in a query.
fn from_query<'r>(query: &'r str, name: &str) -> Result<Option<&'r [u8]>, JwtRejection> {
    let mut values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(key, _)| *key == name);
    let token = values.next().map(|(_, token)| token.as_bytes());
    if values.next().is_some() { Err(JwtRejection::Ambiguous) } else { Ok(token) }
}
