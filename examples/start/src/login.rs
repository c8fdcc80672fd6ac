//! The login: `POST /login {"user":..}` answers with a token.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Json};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use fanfare::channel::UserId;
use fanfare::ws::JwtVerifier;
use fanfare::ws::jwt::JwtSigner;
use serde::{Deserialize, Serialize};

use crate::{Problem, beside, variable};

/// How long a token is valid. A page that reconnects later fetches a new one.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// The rule for names, as text: see [`is_name`].
pub const NAME_RULE: &str =
    "1 to 32 characters, at least one letter or digit, no control characters, and no space at either end";

/// Signs users in by name alone. A real application checks a password here.
#[derive(Clone, Debug)]
pub struct Login {
    signer: JwtSigner,
    verifier: JwtVerifier,
}

#[derive(Deserialize)]
struct Asked {
    user: String,
}

#[derive(Serialize)]
struct Answer {
    token: String,
}

impl Login {
    /// Takes the key from `JWT_SECRET`, or else from a file beside `data`, created at the first start: tokens stay
    /// valid after a restart.
    ///
    /// # Errors
    ///
    /// When the key is too short, or its file cannot be read or created.
    pub fn open(name: &str, data: &Path) -> Result<Self, Problem> {
        let key = match variable("JWT_SECRET")? {
            Some(secret) if secret.len() >= 32 => secret.into_bytes(),
            Some(_) => return Err(Problem("JWT_SECRET is too short: use at least 32 random bytes".into())),
            None => key_of(&beside(data, "key"))?,
        };
        let signer = JwtSigner::hs256(&key, name).map_err(|error| Problem(error.to_string()))?;
        let verifier = JwtVerifier::hs256(&key, name).map_err(|error| Problem(error.to_string()))?;
        Ok(Self { signer, verifier })
    }

    /// Adds the route `POST /login`, and lets every route take a `Jwt`.
    pub fn protect<S: Clone + Send + Sync + 'static>(self, router: Router<S>) -> Router<S> {
        let Self { signer, verifier } = self;
        let login = post(async move |asked: Result<Json<Asked>, JsonRejection>| sign_in(&signer, asked));
        router.route("/login", login.layer(DefaultBodyLimit::max(4 << 10))).layer(Extension(verifier))
    }
}

fn sign_in(signer: &JwtSigner, asked: Result<Json<Asked>, JsonRejection>) -> Response {
    let refused = |why: String| (StatusCode::BAD_REQUEST, why).into_response();
    let user = match asked {
        Ok(Json(asked)) => asked.user,
        Err(error) => return refused(format!("a login is {{\"user\":\"ada\"}}: {}\n", error.body_text())),
    };
    let id = UserId::new(&user).ok().filter(|_| is_name(&user));
    let token = id
        .ok_or_else(|| format!("a name has {NAME_RULE}"))
        .and_then(|id| signer.sign(&id, LIFETIME).map_err(|e| e.to_string()));
    match token {
        Ok(token) => Json(Answer { token }).into_response(),
        Err(why) => refused(format!("{why}\n")),
    }
}

/// Returns whether `name` is valid: see [`NAME_RULE`].
#[must_use]
pub fn is_name(name: &str) -> bool {
    let fits = (1..=32).contains(&name.chars().count()) && name.trim() == name;
    fits && name.contains(char::is_alphanumeric) && !name.contains(char::is_control)
}

/// Reads the key, or creates one in a file that only this user can read.
fn key_of(file: &Path) -> Result<Vec<u8>, Problem> {
    let problem = |what: String| Problem(format!("{}: {what}", file.display()));
    match fs::read(file) {
        Ok(key) if key.len() == 32 => return Ok(key),
        Ok(_) => return Err(problem("is not a key of 32 bytes; delete it, and all users sign in again".into())),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(problem(error.to_string())),
    }
    let mut key = vec![0; 32];
    getrandom::fill(&mut key).map_err(|error| problem(error.to_string()))?;
    // Renamed once complete: a process that is killed here does not leave half a key under this name.
    let unfinished = beside(file, "unfinished");
    let written = private(&unfinished).and_then(|mut made| made.write_all(&key).and_then(|()| made.sync_all()));
    written.and_then(|()| fs::rename(&unfinished, file)).map_err(|error| problem(error.to_string()))?;
    Ok(key)
}

fn private(file: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file)
}
