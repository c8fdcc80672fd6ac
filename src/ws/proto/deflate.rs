//! Agrees on permessage-deflate (RFC 7692, section 7.1) from the head of a request alone.
//!
//! The agreement is always the same, except for windows: each side compresses each message on its own. So one
//! compressed [`Frame`](crate::frame::Frame::deflated) serves every client, and a silent client costs no memory; a
//! window per connection would cost 300 KB. [`Decoder::with_deflate`](super::decoder::Decoder::with_deflate) reads what
//! the client then sends.
//!
//! Pure, and linear in the length of the headers.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, header::SEC_WEBSOCKET_EXTENSIONS};

use super::headers::is_token;

const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The window that shared frames are compressed with, as the base-2 logarithm of its size.
const WINDOW_BITS: u8 = 15;

/// The agreed parameters: the answer to send, and which frames may follow it.
///
/// ```
/// use fanfare::ws::deflate::negotiate;
/// use http::{HeaderMap, HeaderValue};
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(negotiate(&headers), None);
///
/// // As a browser offers it.
/// let offer = HeaderValue::from_static("permessage-deflate; client_max_window_bits");
/// headers.insert("sec-websocket-extensions", offer);
/// let agreed = negotiate(&headers).expect("an offer to accept");
/// assert_eq!(agreed.answer(), "permessage-deflate; server_no_context_takeover; client_no_context_takeover");
/// assert!(agreed.compresses());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The window that the client asks the server to stay in.
    server_window: Option<u8>,
}

impl Agreement {
    /// Returns the value of `Sec-WebSocket-Extensions` to answer with.
    #[must_use]
    pub fn answer(&self) -> HeaderValue {
        // To accept an offer with this parameter is to repeat it (section 7.1.2.1).
        self.server_window.map_or(HeaderValue::from_static(ANSWER), |bits| {
            let answer = format!("{ANSWER}; server_max_window_bits={bits}");
            HeaderValue::try_from(answer).expect("it is visible ascii")
        })
    }

    /// Returns whether this client accepts compressed frames: not if it asks for a smaller window than they use.
    /// Such a client gets uncompressed frames, which are always allowed (section 6).
    #[must_use]
    pub fn compresses(&self) -> bool {
        self.server_window.is_none_or(|bits| bits >= WINDOW_BITS)
    }
}

/// Agrees on the client's first offer of permessage-deflate that is valid; `None` when there is none.
///
/// An offer is declined, and the next one looked at, when it has a parameter that RFC 7692 does not know, one twice,
/// or one with a value that it may not have. What follows something that is not even well-formed is not looked at.
/// None of this is an error: the connection opens without compression.
#[must_use]
pub fn negotiate(headers: &HeaderMap) -> Option<Agreement> {
    // Several headers are one list (RFC 6455, section 9.1).
    for value in headers.get_all(SEC_WEBSOCKET_EXTENSIONS) {
        let mut offers = Scanner { rest: value.as_bytes() };
        while !offers.rest.is_empty() {
            match offers.offer() {
                Ok(Some(agreed)) => return Some(agreed),
                Ok(None) => {}
                Err(Malformed) => return None,
            }
        }
    }
    None
}

/// Not a list of extensions as RFC 6455, section 9.1 writes it.
struct Malformed;

/// What an offer asks for, as far as it has been read.
#[derive(Default)]
struct Offer {
    declined: bool,
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: bool,
    client_max_window_bits: bool,
    server_window: Option<u8>,
}

impl Offer {
    /// Reads on; every parameter may come once.
    fn parameter(&mut self, name: &[u8], value: Option<&[u8]>) {
        let (seen, is_valid) = match name {
            b"server_no_context_takeover" => (&mut self.server_no_context_takeover, value.is_none()),
            b"client_no_context_takeover" => (&mut self.client_no_context_takeover, value.is_none()),
            b"server_max_window_bits" => {
                self.server_window = value.and_then(window_bits);
                (&mut self.server_max_window_bits, self.server_window.is_some())
            }
            b"client_max_window_bits" => {
                (&mut self.client_max_window_bits, value.is_none_or(|value| window_bits(value).is_some()))
            }
            _ => {
                self.declined = true;
                return;
            }
        };
        self.declined |= *seen || !is_valid;
        *seen = true;
    }

    fn agreement(&self) -> Option<Agreement> {
        (!self.declined).then_some(Agreement { server_window: self.server_window })
    }
}

/// Reads a number from 8 to 15, without leading zeros.
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ (b'8' | b'9')] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// A header's value, from the left to the right.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    /// Reads one element of the list, and the comma after it; an empty one is `None` as well.
    fn offer(&mut self) -> Result<Option<Agreement>, Malformed> {
        self.skip_space();
        if self.eat(b',') || self.rest.is_empty() {
            return Ok(None);
        }
        let is_deflate = self.token()? == b"permessage-deflate";
        let mut offer = Offer { declined: !is_deflate, ..Offer::default() };
        while self.eat(b';') {
            self.skip_space();
            let name = self.token()?;
            let value = if self.eat(b'=') { Some(self.value()?) } else { None };
            offer.parameter(name, value.as_deref());
        }
        if !self.eat(b',') && !self.rest.is_empty() {
            return Err(Malformed);
        }
        Ok(offer.agreement())
    }

    fn token(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.rest.iter().position(|byte| !is_token(&[*byte])).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        self.skip_space();
        if token.is_empty() { Err(Malformed) } else { Ok(token) }
    }

    /// Reads a token, or a quoted one, whose quotes and backslashes do not belong to it.
    fn value(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        self.skip_space();
        let Some(quoted) = self.rest.strip_prefix(b"\"") else {
            return self.token().map(Cow::Borrowed);
        };
        let mut value = Vec::new();
        let mut bytes = quoted.iter();
        loop {
            match bytes.next().ok_or(Malformed)? {
                b'"' => break,
                b'\\' => value.push(*bytes.next().ok_or(Malformed)?),
                byte => value.push(*byte),
            }
        }
        self.rest = bytes.as_slice();
        self.skip_space();
        if is_token(&value) { Ok(Cow::Owned(value)) } else { Err(Malformed) }
    }

    /// Takes `byte` if it is next.
    fn eat(&mut self, byte: u8) -> bool {
        let Some(rest) = self.rest.strip_prefix(&[byte]) else {
            return false;
        };
        self.rest = rest;
        true
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(offers: &[&str]) -> Option<HeaderValue> {
        let mut headers = HeaderMap::new();
        for offer in offers {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_bytes(offer.as_bytes()).expect("a header"));
        }
        negotiate(&headers).map(|agreed| agreed.answer())
    }

    #[track_caller]
    fn assert_answer(offer: &str, expected: Option<&'static str>) {
        assert_eq!(answer(&[offer]), expected.map(HeaderValue::from_static), "{offer}");
    }

    #[test]
    fn offers_that_can_be_honoured_are_accepted() {
        let cases = [
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=8",
            "permessage-deflate; client_max_window_bits=15",
            "permessage-deflate; client_max_window_bits=\"15\"",
            "permessage-deflate; client_max_window_bits=\"1\\0\"",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate;client_no_context_takeover;server_no_context_takeover;client_max_window_bits=9",
            " ,,\tpermessage-deflate \t;\tclient_max_window_bits = 12 ,",
            "permessage-bzip2; level=\"9\"; fast, permessage-deflate",
        ];
        for offer in cases {
            assert_answer(offer, Some(ANSWER));
        }
    }

    #[test]
    fn a_window_of_the_server_is_repeated_and_nothing_compressed_for_a_smaller_one() {
        for bits in 8..=15 {
            for offer in [format!("{bits}"), format!("\"{bits}\"")] {
                let mut headers = HeaderMap::new();
                let offer = format!("permessage-deflate; server_max_window_bits={offer}");
                headers.insert(SEC_WEBSOCKET_EXTENSIONS, offer.parse().expect("a header"));
                let agreed = negotiate(&headers).expect("a valid offer");
                assert_eq!(agreed.answer(), format!("{ANSWER}; server_max_window_bits={bits}"));
                assert_eq!(agreed.compresses(), bits == 15);
            }
        }
    }

    #[test]
    fn offers_that_cannot_be_honoured_are_declined() {
        let cases = [
            "",
            ",",
            "deflate",
            "x-webkit-deflate-frame",
            "permessage-deflate2",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=16",
            "permessage-deflate; client_max_window_bits=08",
            "permessage-deflate; client_max_window_bits=+9",
            "permessage-deflate; client_max_window_bits=1000000000000000000000",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=15; server_max_window_bits=15",
            "permessage-deflate; fast",
        ];
        for offer in cases {
            assert_answer(offer, None);
            // The next one counts, in the same header and in another.
            assert_answer(&format!("{offer}, permessage-deflate"), Some(ANSWER));
            assert_eq!(answer(&[offer, "permessage-deflate"]), Some(HeaderValue::from_static(ANSWER)), "{offer}");
        }
    }

    #[test]
    fn the_first_offer_that_can_be_honoured_wins() {
        let offers = "permessage-deflate; server_max_window_bits=7, permessage-deflate; server_max_window_bits=15, \
                      permessage-deflate";
        let expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                        server_max_window_bits=15";
        assert_answer(offers, Some(expected));
    }

    #[test]
    fn nothing_after_something_malformed_is_accepted() {
        let cases = [
            ";",
            "=",
            "permessage-deflate;",
            "permessage-deflate; ;",
            "permessage-deflate client_max_window_bits",
            "permessage-deflate; client_max_window_bits=",
            "permessage-deflate; client_max_window_bits=\"15",
            "permessage-deflate; client_max_window_bits=\"15\\",
            "permessage-deflate; client_max_window_bits=\"\"",
            "permessage-deflate; client_max_window_bits=\"1 5\"",
            "permessage-deflate; client_max_window_bits=(15)",
            "permessage-deflate/2",
            "permessage-defläte",
            "\"permessage-deflate\"",
            "other; a=\"b,c\"",
        ];
        for offer in cases {
            assert_answer(offer, None);
            assert_answer(&format!("{offer}, permessage-deflate"), None);
        }
    }

    #[test]
    fn a_header_of_a_megabyte_takes_linear_time() {
        // In quadratic time this would take hours.
        let started = std::time::Instant::now();
        for piece in
            ["x,", ",", " ", "permessage-deflate; x=\"\\1\", ", "x; x; ", "permessage-deflate;client_max_window_bits;"]
        {
            assert_answer(&piece.repeat((1 << 20) / piece.len()), None);
        }
        let quoted = format!("x; x=\"{}", "\\1".repeat(1 << 19));
        assert_answer(&quoted, None);
        assert!(started.elapsed() < std::time::Duration::from_secs(30));
    }

    proptest! {
        #[test]
        fn any_header_is_answered_by_what_was_offered(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "permessage-deflate", "server_no_context_takeover", "client_no_context_takeover",
                    "server_max_window_bits", "client_max_window_bits", "15", "8", "\"15\"", "x",
                    ",", ";", "=", " ", "\"",
                ]),
                0..40,
            ),
        ) {
            let sent = pieces.concat();
            if let Some(answer) = answer(&[&sent]) {
                prop_assert!(sent.contains("permessage-deflate"));
                let answer = answer.to_str().expect("ascii");
                let repeated = answer.strip_prefix(ANSWER).expect("it is always the same");
                prop_assert!(repeated.is_empty() || repeated.starts_with("; server_max_window_bits="));
                prop_assert!(repeated.is_empty() || sent.contains("server_max_window_bits"));
            }
        }
    }
}
