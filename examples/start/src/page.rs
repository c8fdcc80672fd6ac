//! The page: embedded files, under a policy that allows only these scripts.

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::routing::get;
use fanfare::ws::CLIENT_JS;

/// Scripts injected through users' text do not run, and no script can turn text into markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A page of three files. The server also offers it `fanfare.js`, and the shared files `start.js` and `start.css`.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// At `/`.
    pub html: &'static str,
    /// At `/page.js`: a module.
    pub script: &'static str,
    /// At `/page.css`.
    pub style: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

impl Page {
    /// Returns the routes of the page.
    pub fn router<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        const STYLE: &str = "text/css; charset=utf-8";
        let files = [
            ("/", "text/html; charset=utf-8", self.html),
            ("/page.js", SCRIPT, self.script),
            ("/page.css", STYLE, self.style),
            ("/start.js", SCRIPT, include_str!("start.js")),
            ("/start.css", STYLE, include_str!("start.css")),
            ("/fanfare.js", SCRIPT, CLIENT_JS),
        ];
        files.into_iter().fold(Router::new(), |router, (path, kind, text)| {
            router.route(path, get(async move || (headers(kind), text)))
        })
    }
}

/// Returns the route of another module of a page, such as `/text.js`.
pub fn script<S: Clone + Send + Sync + 'static>(path: &str, text: &'static str) -> Router<S> {
    Router::new().route(path, get(async move || (headers(SCRIPT), text)))
}

fn headers(kind: &'static str) -> [(HeaderName, HeaderValue); 5] {
    [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
}
