//! [`Jwt`] as an extractor.

use std::sync::Once;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::error::JwtRejection;
use super::request;
use super::token::Jwt;
use super::verifier::JwtVerifier;
use crate::observe::stderr::write_line;

impl<C: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Jwt<C> {
    type Rejection = JwtRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, JwtRejection> {
        extract(parts)
    }
}

/// `None` for a request without a token; a request with a refused token is still refused.
impl<C: DeserializeOwned, S: Send + Sync> OptionalFromRequestParts<S> for Jwt<C> {
    type Rejection = JwtRejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, JwtRejection> {
        match extract(parts) {
            Err(JwtRejection::Missing) => Ok(None),
            jwt => jwt.map(Some),
        }
    }
}

fn extract<C: DeserializeOwned>(parts: &mut Parts) -> Result<Jwt<C>, JwtRejection> {
    request::hide(&mut parts.headers);
    let Some(verifier) = parts.extensions.get::<JwtVerifier>() else {
        warn_of_no_verifier();
        return Err(JwtRejection::NoVerifier);
    };
    let (token, source) = request::find(parts, verifier.query_parameter())?;
    Ok(verifier.verify_from(token, source)?)
}

/// Writes a line to stderr, once: it would be the same for every request.
#[cold]
fn warn_of_no_verifier() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        write_line("a route takes a Jwt, but its router has no JwtVerifier: add .layer(Extension(verifier))");
    });
}
