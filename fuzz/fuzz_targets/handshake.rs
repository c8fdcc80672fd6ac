//! Claims about `fanfare::ws::handshake` and `fanfare::ws::deflate`, for any headers:
//! - nothing panics, and the answer to a request that passes is the one to its key;
//! - the chosen subprotocol is the first of the server's that was offered, by a naive reading of the headers;
//! - an origin passes only if it is the host's own, or a listed one;
//! - compression is agreed only as it was offered.
//!
//! Run it with `cargo +nightly fuzz run handshake -- -max_total_time=45`.
#![no_main]

use std::sync::LazyLock;

use arbitrary::Arbitrary;
use fanfare::ws::deflate::negotiate;
use fanfare::ws::handshake::{Origins, accept_key, check_upgrade, choose_protocol};
use http::{HeaderMap, HeaderValue, Method, Request, Version, request::Parts};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 8] = [
    "host",
    "origin",
    "upgrade",
    "connection",
    "sec-websocket-version",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
];

/// The words of header values, so that the fuzzer gets past the first checks.
const WORDS: [&str; 32] = [
    ",",
    ";",
    "=",
    " ",
    "\"",
    "\\",
    ":",
    "://",
    "/",
    ".",
    "@",
    "websocket",
    "upgrade",
    "13",
    "dGhlIHNhbXBsZSBub25jZQ==",
    "chat",
    "chat.v1",
    "chat.v2",
    "permessage-deflate",
    "server_no_context_takeover",
    "client_no_context_takeover",
    "server_max_window_bits",
    "client_max_window_bits",
    "15",
    "8",
    "https",
    "http",
    "app.com",
    "evil-",
    "443",
    "80",
    "null",
];

const SUPPORTED: [&str; 3] = ["chat.v2", "chat.v1", "chat"];

/// Each form in which a client may send a listed origin.
const LISTED: [&str; 6] = [
    "https://app.com",
    "https://app.com:",
    "https://app.com:443",
    "http://chat.app.com",
    "http://chat.app.com:",
    "http://chat.app.com:80",
];

static ORIGINS: LazyLock<Origins> =
    LazyLock::new(|| Origins::listed(["https://app.com", "HTTP://Chat.App.com:80"]).expect("origins"));

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    is_post: bool,
    is_http2: bool,
    headers: Vec<(u8, Value<'a>)>,
    origins: Vec<&'a str>,
}

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Bytes(&'a [u8]),
    Words(Vec<u8>),
}

impl Value<'_> {
    fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::Bytes(bytes) => HeaderValue::from_bytes(bytes).ok(),
            Self::Words(words) => {
                let words: String = words.iter().map(|word| WORDS[usize::from(*word) % WORDS.len()]).collect();
                words.parse().ok()
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let request = request(&input);
    let headers = &request.headers;
    assert_upgrade(&request);
    assert_eq!(choose_protocol(headers, &SUPPORTED), first_offered(headers));
    assert_origins(headers);
    assert_deflate(headers);
    // Returns an error or a rule; the checks above cover what a rule accepts.
    let _ = Origins::listed(input.origins);
});

fn request(input: &Input) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = if input.is_post { Method::POST } else { Method::GET };
    parts.version = if input.is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    for (name, value) in &input.headers {
        if let Some(value) = value.header() {
            parts.headers.append(NAMES[usize::from(*name) % NAMES.len()], value);
        }
    }
    parts
}

fn assert_upgrade(request: &Parts) {
    if let Ok(accept) = check_upgrade(request) {
        let key = request.headers["sec-websocket-key"].to_str().expect("a key is ascii");
        assert_eq!(accept, accept_key(key.trim()));
        assert!(request.method == Method::GET && request.version == Version::HTTP_11);
    }
}

/// Returns the first of [`SUPPORTED`] that is in a list, byte for byte, unless it comes right behind `bearer`.
fn first_offered(headers: &HeaderMap) -> Option<&'static str> {
    let lists = headers.get_all("sec-websocket-protocol").iter().filter(|list| list.to_str().is_ok());
    let offered: Vec<&[u8]> =
        lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).collect();
    let offered: Vec<&[u8]> = offered.into_iter().filter(|name| !name.is_empty()).collect();
    let is_secret = |at: usize| at > 0 && offered[at - 1].eq_ignore_ascii_case(b"bearer");
    let may_choose: Vec<&[u8]> = (0..offered.len()).filter(|at| !is_secret(*at)).map(|at| offered[at]).collect();
    SUPPORTED.into_iter().find(|name| may_choose.contains(&name.as_bytes()))
}

fn assert_origins(headers: &HeaderMap) {
    assert_eq!(Origins::any().check(headers), Ok(()));
    let sent: Vec<String> = headers
        .get_all("origin")
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_lowercase())
        .collect();
    if ORIGINS.check(headers).is_ok() {
        assert!(sent.len() == 1 && LISTED.iter().any(|listed| is_same_origin(&sent[0], listed)), "{sent:?}");
    }
    if !sent.is_empty() && Origins::same_host().check(headers).is_ok() {
        let host = headers["host"].to_str().expect("compared").trim().to_lowercase();
        let name = host.split_once(':').filter(|_| !host.starts_with('[')).map_or(&*host, |(name, _)| name);
        let name = if host.starts_with('[') { &host[..=host.find(']').expect("an address")] } else { name };
        let bare = ["http://", "https://"].iter().find_map(|scheme| sent[0].strip_prefix(scheme)).expect("a scheme");
        let port = bare.strip_prefix(name).expect("the same name");
        assert!(port.is_empty() || port.starts_with(':'), "{sent:?} at {host}");
    }
}

/// Compares two origins, apart from leading zeros of the port.
fn is_same_origin(sent: &str, listed: &str) -> bool {
    match (sent.rsplit_once(':'), listed.rsplit_once(':')) {
        (Some((sent, port)), Some((listed, listed_port))) if !listed_port.starts_with('/') => {
            sent == listed && port.trim_start_matches('0') == listed_port
        }
        _ => sent == listed,
    }
}

fn assert_deflate(headers: &HeaderMap) {
    let Some(agreed) = negotiate(headers) else {
        return;
    };
    let sent: Vec<u8> =
        headers.get_all("sec-websocket-extensions").iter().flat_map(|v| v.as_bytes().to_vec()).collect();
    let is_sent = |word: &str| sent.windows(word.len()).any(|window| window == word.as_bytes());
    let answer = agreed.answer();
    let answer = answer.to_str().expect("ascii");
    assert_eq!(agreed.compresses(), !answer.contains("bits") || answer.ends_with("bits=15"));
    for parameter in answer.split(';').map(str::trim) {
        match parameter {
            "server_no_context_takeover" | "client_no_context_takeover" => {}
            "permessage-deflate" => assert!(is_sent("permessage-deflate")),
            window if window.starts_with("server_max_window_bits=") => assert!(is_sent("server_max_window_bits")),
            other => panic!("{other} in the answer"),
        }
    }
}
