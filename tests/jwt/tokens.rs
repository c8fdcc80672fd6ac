//! Who is let in by a token, where it may be, what is never told of it, and when its connection ends.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use fanfare::channel::{Channel, ChannelOptions, CloseCode, FarMessage, UserId};
use fanfare::group::ChannelBox;
use fanfare::ws::jwt::{JwtError, JwtKey, JwtKeyError, JwtRejection, JwtSigner, RefreshError};
use fanfare::ws::{Jwt, JwtVerifier, Upgrade};
use futures_executor::block_on;
use futures_util::SinkExt;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::sockets::{Client, Raw, close_code, next, serve_router, soon, tells, told};

const SECRET: &[u8] = b"thirty-two bytes that are secret";
const OTHER_SECRET: &[u8] = b"thirty-two bytes, another secret";
const RSA: &[u8] = include_bytes!("keys/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("keys/rsa.pub.pem");
const RSA_SMALL: &[u8] = include_bytes!("keys/rsa1024.pub.pem");
const EC: &[u8] = include_bytes!("keys/ec.pem");
const EC_PUBLIC: &[u8] = include_bytes!("keys/ec.pub.pem");
const EC_384: &[u8] = include_bytes!("keys/ec384.pub.pem");
const ED: &[u8] = include_bytes!("keys/ed.pem");
const ED_PUBLIC: &[u8] = include_bytes!("keys/ed.pub.pem");

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970");
    since.as_secs().try_into().expect("it is")
}

/// Good claims.
fn claims() -> Value {
    json!({ "sub": "ada", "aud": "chat", "exp": now() + 600 })
}

/// Good claims, but for one.
fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().expect("it is one").remove(name);
    claims
}

/// Signs by the crate that our verifier does not ask about claims.
fn sign(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET)).expect("they are claims")
}

fn sign_as(algorithm: Algorithm, id: Option<&str>, key: &EncodingKey) -> String {
    let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &claims(), key).expect("the key is of the algorithm")
}

fn part(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token of any header, signed rightly with the secret.
fn by_hand(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &EncodingKey::from_secret(SECRET), Algorithm::HS256);
    format!("{message}.{}", signature.expect("it is a secret"))
}

fn verifier() -> JwtVerifier {
    JwtVerifier::hs256(SECRET, "chat").expect("it is long enough")
}

fn ada() -> UserId {
    UserId::new("ada").expect("it is one")
}

fn verdict(verifier: &JwtVerifier, token: &str) -> Result<UserId, JwtError> {
    verifier.verify::<Value>(token).map(|jwt| jwt.user().clone())
}

// What a token has to be.

#[test]
fn only_the_algorithm_of_the_key_is_taken() {
    let hs256 = verifier();
    let rs256 = JwtVerifier::new([JwtKey::rs256(RSA_PUBLIC).unwrap()], "chat").unwrap();
    let claims = claims().to_string();
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = part(format!(r#"{{"alg":"{none}","typ":"JWT"}}"#));
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{}.{signature}", part(&claims));
            assert_eq!(verdict(&hs256, &token), Err(JwtError::Algorithm));
            assert_eq!(verdict(&rs256, &token), Err(JwtError::Algorithm));
        }
    }
    // The confusion: the public key is no secret, and would do as one.
    let by_public_key = sign_as(Algorithm::HS256, None, &EncodingKey::from_secret(RSA_PUBLIC));
    assert_eq!(verdict(&rs256, &by_public_key), Err(JwtError::Algorithm));
    let secret = EncodingKey::from_secret(SECRET);
    for longer in [Algorithm::HS384, Algorithm::HS512] {
        assert_eq!(verdict(&hs256, &sign_as(longer, None, &secret)), Err(JwtError::Algorithm));
    }
    for header in [r#"{"typ":"JWT"}"#, r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":"hs256"}"#] {
        assert_eq!(verdict(&hs256, &by_hand(header, &claims)), Err(JwtError::Algorithm), "{header}");
    }
    assert_eq!(verdict(&hs256, &by_hand(r#"{"alg":"HS256","crit":["exp"]}"#, &claims)), Err(JwtError::Critical));
    assert_eq!(verdict(&hs256, &by_hand(r#"{"alg":"HS256"}"#, &claims)), Ok(ada()));
}

#[test]
fn each_kind_of_key_takes_its_own_tokens_as_pem_and_as_der() {
    let der = |pem: &[u8]| {
        let lines = std::str::from_utf8(pem).unwrap().lines().filter(|line| !line.starts_with('-'));
        STANDARD.decode(lines.collect::<String>()).unwrap()
    };
    type Make = fn(&[u8]) -> Result<JwtKey, JwtKeyError>;
    let kinds: [(Algorithm, EncodingKey, &[u8], Make); 3] = [
        (Algorithm::RS256, EncodingKey::from_rsa_pem(RSA).unwrap(), RSA_PUBLIC, JwtKey::rs256),
        (Algorithm::ES256, EncodingKey::from_ec_pem(EC).unwrap(), EC_PUBLIC, JwtKey::es256),
        (Algorithm::EdDSA, EncodingKey::from_ed_pem(ED).unwrap(), ED_PUBLIC, JwtKey::eddsa),
    ];
    for (algorithm, private, public, key) in kinds {
        let token = sign_as(algorithm, None, &private);
        for public in [public.to_vec(), der(public)] {
            let verifier = JwtVerifier::new([key(&public).unwrap()], "chat").unwrap();
            assert_eq!(verdict(&verifier, &token), Ok(ada()), "{algorithm:?}");
            assert_eq!(verdict(&verifier, &sign(&claims())), Err(JwtError::Algorithm));
        }
    }
}

#[test]
fn a_key_that_is_weak_or_none_is_refused_at_the_start() {
    assert_eq!(JwtKey::hs256(&SECRET[1..]).err(), Some(JwtKeyError::ShortSecret));
    assert_eq!(JwtSigner::hs256(b"secret", "chat").err(), Some(JwtKeyError::ShortSecret));
    assert_eq!(JwtKey::rs256(RSA_SMALL).err(), Some(JwtKeyError::TooShort));
    for (key, wrong) in [
        (JwtKey::rs256 as fn(&[u8]) -> _, [EC_PUBLIC, ED_PUBLIC, RSA, b"", b"-----BEGIN PUBLIC KEY-----"]),
        (JwtKey::es256, [RSA_PUBLIC, ED_PUBLIC, EC_384, b"no key", EC]),
        (JwtKey::eddsa, [RSA_PUBLIC, EC_PUBLIC, EC_384, b"\0", ED]),
    ] {
        for pem in wrong {
            assert_eq!(key(pem).err(), Some(JwtKeyError::NotAKey), "{}", String::from_utf8_lossy(pem));
        }
    }
    assert_eq!(JwtVerifier::new([], "chat").err(), Some(JwtKeyError::NoKey));
    let key = || JwtKey::hs256(SECRET).unwrap();
    assert_eq!(JwtVerifier::new([key(), key()], "chat").err(), Some(JwtKeyError::SameId));
    assert_eq!(JwtVerifier::new([key().id("a"), key().id("a")], "chat").err(), Some(JwtKeyError::SameId));
}

#[test]
fn a_token_is_checked_with_the_key_that_it_names_and_no_other() {
    let keys = [JwtKey::hs256(SECRET).unwrap().id("new"), JwtKey::rs256(RSA_PUBLIC).unwrap().id("old")];
    let verifier = JwtVerifier::new(keys, "chat").unwrap();
    let (secret, rsa) = (EncodingKey::from_secret(SECRET), EncodingKey::from_rsa_pem(RSA).unwrap());
    let signed = |algorithm, id, key| verdict(&verifier, &sign_as(algorithm, id, key));
    assert_eq!(signed(Algorithm::HS256, Some("new"), &secret), Ok(ada()));
    assert_eq!(signed(Algorithm::RS256, Some("old"), &rsa), Ok(ada()));
    assert_eq!(signed(Algorithm::HS256, Some("newer"), &secret), Err(JwtError::UnknownKey));
    assert_eq!(signed(Algorithm::HS256, Some(""), &secret), Err(JwtError::UnknownKey));
    assert_eq!(signed(Algorithm::HS256, None, &secret), Err(JwtError::UnknownKey));
    assert_eq!(signed(Algorithm::HS256, Some("old"), &secret), Err(JwtError::Algorithm));
    assert_eq!(signed(Algorithm::RS256, Some("new"), &rsa), Err(JwtError::Algorithm));
    let other = EncodingKey::from_secret(OTHER_SECRET);
    assert_eq!(signed(Algorithm::HS256, Some("new"), &other), Err(JwtError::Signature));
    let odd = by_hand(r#"{"alg":"HS256","kid":["new"]}"#, &claims().to_string());
    assert_eq!(verdict(&verifier, &odd), Err(JwtError::UnknownKey));

    // One without an id is for tokens that name none; alone, it is asked in any case.
    let keys = [JwtKey::hs256(SECRET).unwrap(), JwtKey::hs256(OTHER_SECRET).unwrap().id("old")];
    let verifier = JwtVerifier::new(keys, "chat").unwrap();
    assert_eq!(verdict(&verifier, &sign(&claims())), Ok(ada()));
    assert_eq!(verdict(&verifier, &sign_as(Algorithm::HS256, Some("old"), &secret)), Err(JwtError::Signature));
    assert_eq!(verdict(&self::verifier(), &sign_as(Algorithm::HS256, Some("any"), &secret)), Ok(ada()));
}

#[test]
fn claims_that_are_wrong_or_missing_are_refused_each_for_its_reason() {
    let cases = [
        (without("exp"), JwtError::NoExpiry),
        (with("exp", Value::Null), JwtError::NoExpiry),
        (with("exp", (now() + 600).to_string()), JwtError::NoExpiry),
        (with("exp", -1), JwtError::NoExpiry),
        (with("exp", 1e300), JwtError::NoExpiry),
        (with("exp", 0), JwtError::Expired),
        (with("exp", now() - 31), JwtError::Expired),
        (with("nbf", now() + 60), JwtError::NotYetValid),
        (with("nbf", "now"), JwtError::NotYetValid),
        (with("nbf", Value::Null), JwtError::NotYetValid),
        (without("aud"), JwtError::Audience),
        (with("aud", "chat2"), JwtError::Audience),
        (with("aud", "Chat"), JwtError::Audience),
        (with("aud", ""), JwtError::Audience),
        (with("aud", json!(["shop", ["chat"]])), JwtError::Audience),
        (with("aud", json!({ "chat": 1 })), JwtError::Audience),
        (without("sub"), JwtError::User),
        (with("sub", ""), JwtError::User),
        (with("sub", 7), JwtError::User),
        (with("sub", "a\nb"), JwtError::User),
        (with("sub", "x".repeat(256)), JwtError::User),
    ];
    for (claims, error) in cases {
        assert_eq!(verdict(&verifier(), &sign(&claims)), Err(error), "{claims}");
    }
    for good in [
        with("exp", now() - 25),
        with("exp", now() as f64 + 0.5),
        with("exp", u64::MAX / 4),
        with("nbf", now() + 25),
        with("nbf", 0),
        with("aud", json!(["shop", "chat"])),
        with("iss", "anybody"),
    ] {
        assert_eq!(verdict(&verifier(), &sign(&good)), Ok(ada()), "{good}");
    }
    let strict = verifier().issuer("id").leeway(Duration::ZERO);
    for (claims, error) in [
        (claims(), JwtError::Issuer),
        (with("iss", "other"), JwtError::Issuer),
        (with("iss", json!(["id"])), JwtError::Issuer),
        (with("exp", now() - 1), JwtError::Expired),
    ] {
        assert_eq!(verdict(&strict, &sign(&claims)), Err(error), "{claims}");
    }
    assert_eq!(verdict(&strict, &sign(&with("iss", "id"))), Ok(ada()));
}

#[test]
fn a_token_that_is_none_is_refused() {
    let token = sign(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("it has three parts") };
    for text in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        header.into(),
        format!("{header}.{claims}"),
        format!("{token}."),
        format!("{token}.{signature}"),
        format!(".{token}"),
        format!("{token}="),
        format!(" {token}"),
        token.replace(['-', '_'], "+"),
        format!("{}.{claims}.{signature}", part("[]")),
        format!("{}.{claims}.{signature}", part("{")),
        format!("{}.{claims}.{signature}", part([0xff, 0xfe])),
        "ä.ö.ü".into(),
    ] {
        let refused = verdict(&verifier(), &text);
        // A signature without `-` and `_` is changed by no replacement.
        if text != token {
            assert!(matches!(refused, Err(JwtError::Malformed | JwtError::Signature)), "{text}: {refused:?}");
        }
    }
    assert_eq!(verdict(&verifier(), &by_hand(r#"{"alg":"HS256"}"#, "[1]")), Err(JwtError::Malformed));
    assert_eq!(verdict(&verifier(), &by_hand(r#"{"alg":"HS256"}"#, &"[".repeat(3000))), Err(JwtError::Malformed));
    let twice = format!(r#"{{"sub":"ada","aud":"chat","exp":{},"sub":"bob"}}"#, now() + 600);
    let jwt: Jwt = verifier().verify(&by_hand(r#"{"alg":"HS256"}"#, &twice)).expect("its issuer signed it");
    assert_eq!(jwt.user().as_str(), jwt.claims()["sub"], "a claim given twice is read in one way");
}

#[test]
fn a_token_that_was_changed_anywhere_is_refused() {
    let token = sign(&claims());
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let changed = String::from_utf8(bytes).expect("it stays ascii");
            assert!(verdict(&verifier(), &changed).is_err(), "byte {at}, bit {bit}");
        }
        assert!(verdict(&verifier(), &token[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_long_token_is_refused_unread_and_costs_linear_time() {
    let token = sign(&with("more", "x".repeat(8 << 10)));
    assert_eq!(verdict(&verifier(), &token), Err(JwtError::TooLong));
    assert_eq!(verdict(&verifier().max_token_size(16 << 10), &token), Ok(ada()));
    // Quadratic time would be hours.
    let started = Instant::now();
    for piece in [".", "a", "a.", "e30.", "=", " ", "\u{e4}"] {
        let long = piece.repeat((4 << 20) / piece.len());
        assert_eq!(verdict(&verifier(), &long), Err(JwtError::TooLong));
        assert_eq!(verdict(&verifier().max_token_size(usize::MAX), &long), Err(JwtError::Malformed));
    }
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn the_user_the_check_and_the_claims_are_up_to_the_application() {
    let by_mail = verifier().user(|claims| Some(claims.get("mail")?.as_str()?.to_owned()));
    assert_eq!(verdict(&by_mail, &sign(&with("mail", "ada@example.com"))).unwrap().as_str(), "ada@example.com");
    assert_eq!(verdict(&by_mail, &sign(&claims())), Err(JwtError::User));

    let checked = verifier().check(|claims| claims.id() == Some("1") && claims.subject() == Some("ada"));
    assert_eq!(verdict(&checked, &sign(&with("jti", "1"))), Ok(ada()));
    assert_eq!(verdict(&checked, &sign(&with("jti", "2"))), Err(JwtError::Refused));
    // It is asked of no token that is wrong otherwise.
    let picky = verifier().check(|_| unreachable!("nothing is asked of a wrong token"));
    assert_eq!(verdict(&picky, &sign(&without("aud"))), Err(JwtError::Audience));

    #[derive(serde::Deserialize)]
    struct Claims {
        seats: u32,
    }
    assert_eq!(verifier().verify::<Claims>(&sign(&with("seats", 3))).unwrap().claims().seats, 3);
    assert_eq!(verifier().verify::<Claims>(&sign(&with("seats", "x"))).err(), Some(JwtError::Claims));
}

#[test]
fn what_the_signer_makes_is_taken_here_and_by_others() {
    let signer = JwtSigner::hs256(SECRET, "chat").unwrap().issuer("id").key_id("1");
    let token = signer.sign_with(&ada(), Duration::from_millis(900_500), &json!({ "sub": "bob", "x": 1 })).unwrap();
    let jwt: Jwt = verifier().issuer("id").leeway(Duration::ZERO).verify(&token).unwrap();
    assert_eq!((jwt.user(), &jwt.claims()["x"]), (&ada(), &json!(1)));
    let left = jwt.expires().duration_since(SystemTime::now()).unwrap();
    assert!((Duration::from_secs(899)..=Duration::from_millis(901_500)).contains(&left), "{left:?}");
    assert!(second_opinion(&token));
    assert!(signer.sign_with(&ada(), Duration::ZERO, "no object").is_err());
}

/// What the crate that makes the tokens thinks of one.
fn second_opinion(token: &str) -> bool {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = 30;
    validation.validate_nbf = true;
    validation.set_audience(&["chat"]);
    validation.set_required_spec_claims(&["exp", "aud", "sub"]);
    decode::<Value>(token, &DecodingKey::from_secret(SECRET), &validation).is_ok()
}

proptest! {
    #[test]
    fn no_claims_are_taken_that_another_verifier_refuses(
        sub in prop_oneof![Just(json!("ada")), any::<String>().prop_map(Value::from), any::<i64>().prop_map(Value::from)],
        aud in prop_oneof![Just(json!("chat")), Just(json!(["chat", "shop"])), any::<String>().prop_map(Value::from)],
        exp in prop_oneof![
            (-60..60i64).prop_filter("on the edge", |by| (by + 30).abs() > 3).prop_map(|by| json!(now() + by)),
            any::<f64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
        ],
        nbf in prop::option::of((-60..60i64).prop_filter("on the edge", |by| (by - 30).abs() > 3)),
    ) {
        let mut claims = json!({ "sub": sub, "aud": aud, "exp": exp });
        if let Some(by) = nbf {
            claims["nbf"] = json!(now() + by);
        }
        let token = sign(&claims);
        let taken = verdict(&verifier(), &token).is_ok();
        prop_assert!(!taken || second_opinion(&token), "{}", claims);
    }

    #[test]
    fn no_bytes_make_a_verifier_panic(token in "[A-Za-z0-9._=-]{0,200}|\\PC{0,100}", changes in prop::collection::vec((any::<prop::sample::Index>(), 32..127u8), 0..4)) {
        prop_assert!(verdict(&verifier(), &token).is_err());
        let mut bytes = sign(&claims()).into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let token = String::from_utf8(bytes).expect("it is ascii");
        prop_assert!(verdict(&verifier(), &token).is_err() || second_opinion(&token));
    }

    #[test]
    fn no_headers_make_the_extractor_panic_or_tell_a_token(
        authorization in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "[Bb]earer *[a-z.]{0,20}".prop_map(String::into_bytes),
        ], 0..3),
        protocols in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "(bearer|Bearer|chat|[a-z.]{0,9}|,| ){0,6}".prop_map(String::into_bytes),
        ], 0..3),
        query in "[a-z=&.%]{0,30}",
    ) {
        let mut request = http::Request::get(format!("/?{query}"));
        for value in authorization.iter().filter_map(|value| http::HeaderValue::from_bytes(value).ok()) {
            request = request.header("authorization", value);
        }
        for value in protocols.iter().filter_map(|value| http::HeaderValue::from_bytes(value).ok()) {
            request = request.header("sec-websocket-protocol", value);
        }
        let rejection = extract(&verifier().allow_query_parameter("t"), request).expect_err("nobody signed it");
        prop_assert_ne!(rejection, JwtRejection::NoVerifier);
    }
}

// Where a token is looked for.

fn extract(verifier: &JwtVerifier, request: http::request::Builder) -> Result<Jwt, JwtRejection> {
    let (mut parts, ()) = request.extension(verifier.clone()).body(()).expect("it is a request").into_parts();
    block_on(<Jwt as FromRequestParts<()>>::from_request_parts(&mut parts, &()))
}

fn asked(headers: &[(&str, &str)]) -> Result<UserId, JwtRejection> {
    let request = headers.iter().fold(http::Request::get("/"), |request, (name, value)| request.header(*name, *value));
    extract(&verifier(), request).map(|jwt| jwt.user().clone())
}

#[test]
fn a_token_is_taken_from_one_place_and_only_one() {
    let token = &sign(&claims());
    let (authorization, protocol) = ("authorization", "sec-websocket-protocol");
    for scheme in ["Bearer ", "bearer ", "BEARER ", "bEaReR    "] {
        assert_eq!(asked(&[(authorization, &format!("{scheme}{token}"))]), Ok(ada()), "{scheme}");
    }
    let bearer = &format!("Bearer {token}");
    assert_eq!(asked(&[(authorization, bearer), (authorization, bearer)]), Err(JwtRejection::Ambiguous));
    assert_eq!(asked(&[(authorization, bearer), (authorization, "Basic YTpi")]), Err(JwtRejection::Ambiguous));
    assert_eq!(asked(&[(authorization, "Basic YTpi")]), Err(JwtRejection::Missing));
    assert_eq!(asked(&[]), Err(JwtRejection::Missing));
    for odd in ["Bearer", "Bearer ", &format!("Bearer {token} {token}"), &format!("Bearer {token},"), "Bearer a,b"] {
        assert_eq!(asked(&[(authorization, odd)]), Err(JwtError::Malformed.into()), "{odd}");
    }
    for odd in [&format!("Bearer\t{token}"), &format!("Bearer{token}"), token, &format!("Token {token}")] {
        assert_eq!(asked(&[(authorization, odd)]), Err(JwtRejection::Missing), "{odd}");
    }

    for offered in [
        vec![format!("bearer, {token}")],
        vec![format!("bearer,{token},chat.v2")],
        vec![format!("chat.v2 , bearer ,, {token} ")],
        vec!["chat.v2, bearer".into(), token.clone()],
    ] {
        let headers: Vec<_> = offered.iter().map(|list| (protocol, &list[..])).collect();
        assert_eq!(asked(&headers), Ok(ada()), "{offered:?}");
        let mut both = headers.clone();
        both.push((authorization, bearer));
        assert_eq!(asked(&both), Err(JwtRejection::Ambiguous), "{offered:?}");
        both.pop();
        both.push((authorization, "Basic YTpi"));
        assert_eq!(asked(&both), Ok(ada()), "of another scheme, it is for somebody else");
    }
    assert_eq!(asked(&[(protocol, "bearer")]), Err(JwtError::Malformed.into()));
    assert_eq!(asked(&[(protocol, &format!("bearer, {token}, bearer, {token}"))]), Err(JwtRejection::Ambiguous));
    assert_eq!(asked(&[(protocol, &format!("bearer, bearer, {token}"))]), Err(JwtRejection::Ambiguous));
    assert_eq!(asked(&[(protocol, &format!("{token}, bearer2, {token}"))]), Err(JwtRejection::Missing));
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let mut bytes = format!("Bearer {}", sign(&claims())).into_bytes();
    bytes[20] = 0xff;
    let header = http::HeaderValue::from_bytes(&bytes).expect("a header may have any bytes");
    let refused = extract(&verifier(), http::Request::get("/").header("authorization", header));
    assert_eq!(refused.err(), Some(JwtError::Malformed.into()));
}

#[test]
fn the_address_is_not_looked_at_unless_that_is_allowed() {
    let token = sign(&claims());
    let get = |query: &str| http::Request::get(format!("/?{query}"));
    assert_eq!(extract(&verifier(), get(&format!("token={token}"))).err(), Some(JwtRejection::Missing));
    let lax = verifier().allow_query_parameter("token");
    assert!(extract(&lax, get(&format!("a=b&token={token}"))).is_ok());
    assert_eq!(extract(&lax, get(&format!("access_token={token}"))).err(), Some(JwtRejection::Missing));
    let twice = get(&format!("token={token}&token={token}"));
    assert_eq!(extract(&lax, twice).err(), Some(JwtRejection::Ambiguous));
    let in_header = get("token=x").header("authorization", format!("Bearer {token}"));
    assert!(extract(&lax, in_header).is_ok(), "a header goes first");
}

#[test]
fn a_guest_is_one_who_brings_no_token_at_all() {
    let ask = |request: http::request::Builder| {
        let (mut parts, ()) = request.extension(verifier()).body(()).expect("it is a request").into_parts();
        block_on(<Jwt as OptionalFromRequestParts<()>>::from_request_parts(&mut parts, &()))
    };
    assert!(ask(http::Request::get("/")).expect("guests may").is_none());
    let bad = http::Request::get("/").header("authorization", "Bearer x");
    assert_eq!(ask(bad).err(), Some(JwtError::Malformed.into()));
}

// What is told of a token: nothing.

#[test]
fn no_error_and_nothing_shown_holds_any_of_a_token_a_secret_or_a_claim() {
    let token = sign(&with("mail", "ada@example.com"));
    let parts: Vec<&str> = token.split('.').collect();
    let jwt: Jwt = verifier().verify(&token).unwrap();
    let signer = JwtSigner::hs256(SECRET, "chat").unwrap();
    let shown = format!("{jwt:?} {jwt:#?} {:?} {signer:?} {:?}", verifier(), JwtKey::hs256(SECRET).unwrap().id("1"));
    let secret = std::str::from_utf8(SECRET).unwrap();
    for hidden in [&token, parts[0], parts[1], parts[2], "ada@example.com", secret] {
        assert!(!shown.contains(hidden), "{shown}");
    }

    let mut wrong = token.clone();
    wrong.replace_range(
        token.len() - 10..token.len() - 9,
        if &token[token.len() - 10..][..1] == "A" { "B" } else { "A" },
    );
    let request = http::Request::get("/").header("authorization", format!("Bearer {wrong}"));
    let error = extract(&verifier(), request).expect_err("it was changed");
    assert_eq!(error, JwtError::Signature.into());
    let told = format!("{error} {error:?} {:?}", error.into_response());
    assert!(parts[..2].iter().all(|part| !told.contains(part)), "{told}");
}

#[test]
fn whoever_prints_the_headers_behind_the_extractor_sees_no_token() {
    let token = sign(&claims());
    for (name, value) in
        [("authorization", format!("Bearer {token}")), ("sec-websocket-protocol", format!("bearer, {token}"))]
    {
        let request = http::Request::get("/").header(name, value).extension(verifier());
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        block_on(<Jwt as FromRequestParts<()>>::from_request_parts(&mut parts, &())).expect("it is good");
        let shown = format!("{:?}", parts.headers);
        assert!(!shown.contains(&token[..10]) && shown.contains("Sensitive"), "{shown}");
    }
}

#[test]
fn a_refusal_is_a_plain_line_with_a_challenge() {
    let challenge = |rejection: JwtRejection| {
        let response = rejection.into_response();
        let challenge = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), challenge)
    };
    assert_eq!(challenge(JwtRejection::Missing), (401, Some("Bearer".into())));
    assert_eq!(challenge(JwtError::Expired.into()), (401, Some("Bearer error=\"invalid_token\"".into())));
    assert_eq!(challenge(JwtRejection::Ambiguous).0, 401);
    let request = http::Request::get("/").header("authorization", "Bearer x").body(()).unwrap();
    let (mut parts, ()) = request.into_parts();
    let error = block_on(<Jwt as FromRequestParts<()>>::from_request_parts(&mut parts, &())).expect_err("no verifier");
    assert_eq!(error, JwtRejection::NoVerifier);
    assert_eq!(challenge(error), (500, None));
}

// Over real sockets.

/// A route that welcomes its user, takes refreshes, and answers anything else with "heard".
async fn chat(token: Jwt, upgrade: Upgrade) -> Response {
    upgrade.protocols(&["chat.v2"]).signed_in(&token).run(async move |channel| talk(channel).await)
}

async fn talk(mut channel: Channel) -> Result<(), fanfare::Error> {
    let (sender, channels) = (channel.sender(), ChannelBox::new());
    sender.send(&format!("welcome, {}", channel.user().expect("it is signed in")))?;
    while let Some(text) = channel.recv_text().await {
        if !channels.answer(&sender, &text?).await? {
            sender.send_text("heard")?;
        }
    }
    Ok(())
}

/// The same by a box, which knows what `signed_in` has said.
async fn chat_by_box(token: Jwt, upgrade: Upgrade) -> Response {
    upgrade.signed_in(&token).run(async move |mut channel| {
        let (sender, channels) = (channel.sender(), ChannelBox::new());
        sender.send(&format!("welcome, {}", channel.user().expect("it is signed in")))?;
        while channels.recv::<Value>(&mut channel).await.transpose()?.is_some() {
            sender.send_text("heard")?;
        }
        Ok(())
    })
}

async fn serve_chat() -> SocketAddr {
    let verifier = verifier().leeway(Duration::ZERO);
    let plain = get(async |token: Jwt| token.user().to_string());
    serve_router(Router::new().route("/", get(chat)).route("/plain", plain).layer(Extension(verifier))).await
}

async fn connect_with(address: SocketAddr, header: &'static str, value: &str) -> Result<(Client, Response), String> {
    let mut request = format!("ws://{address}/").into_client_request().expect("it is an address");
    request.headers_mut().insert(header, value.parse().expect("it is a value"));
    match soon(connect_async(request)).await {
        Ok((client, response)) => Ok((client, response.map(|_| axum::body::Body::empty()))),
        Err(tungstenite::Error::Http(response)) => {
            let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            Err(format!("{} {body}", response.status()))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn chosen(response: &Response) -> Option<&str> {
    response.headers().get("sec-websocket-protocol").map(|value| value.to_str().expect("it is text"))
}

fn short(seconds: u64) -> String {
    JwtSigner::hs256(SECRET, "chat").unwrap().sign(&ada(), Duration::from_secs(seconds)).unwrap()
}

#[tokio::test]
async fn a_client_signs_in_by_header_or_as_browsers_do() {
    let address = serve_chat().await;
    let token = sign(&claims());
    let (mut client, response) = connect_with(address, "authorization", &format!("Bearer {token}")).await.unwrap();
    assert_eq!(chosen(&response), None);
    assert_eq!(next(&mut client).await, Message::text("\"welcome, ada\""));

    // The client refuses an answer that it did not offer, as browsers do.
    for (offered, answer) in [
        (format!("bearer, {token}"), "bearer"),
        (format!("bearer, {token}, chat.v2"), "chat.v2"),
        (format!("chat.v2, chat.v1, bearer, {token}"), "chat.v2"),
        (format!("bearer, {token}, chat.v1"), "bearer"),
    ] {
        let (mut client, response) = connect_with(address, "sec-websocket-protocol", &offered).await.unwrap();
        assert_eq!(chosen(&response), Some(answer), "{offered}");
        assert_eq!(next(&mut client).await, Message::text("\"welcome, ada\""));
    }

    let expired = sign(&with("exp", now() - 60));
    let refused = connect_with(address, "sec-websocket-protocol", &format!("bearer, {expired}")).await.err();
    assert_eq!(refused.as_deref(), Some("401 Unauthorized token has expired\n"));
    let refused = connect_with(address, "authorization", "Basic YTpi").await.expect_err("it has no token");
    assert!(refused.starts_with("401 Unauthorized a token is needed"), "{refused}");
}

#[tokio::test]
async fn a_plain_route_takes_a_token_too() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = serve_chat().await;
    let ask = async |header: String| {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("the port is open");
        let head = format!("GET /plain HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{header}\r\n");
        stream.write_all(head.as_bytes()).await.expect("it is sent");
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.expect("it is text");
        answer
    };
    let good = ask(format!("Authorization: Bearer {}\r\n", sign(&claims()))).await;
    assert!(good.starts_with("HTTP/1.1 200") && good.ends_with("\r\n\r\nada"), "{good}");
    let bad = ask(String::new()).await;
    assert!(bad.starts_with("HTTP/1.1 401") && bad.contains("www-authenticate: Bearer\r\n"), "{bad}");
}

#[tokio::test]
async fn no_answer_holds_the_token_whatever_protocols_a_route_supports() {
    // A route that takes whatever is offered, before and after it looks at the token, or does not look at all.
    async fn lax(headers: http::HeaderMap, token: Option<Jwt>, upgrade: Upgrade) -> Response {
        let lists = headers.get_all("sec-websocket-protocol").iter().map(|list| list.to_str().unwrap().to_owned());
        let offered: Vec<String> =
            lists.flat_map(|list| list.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>()).collect();
        let mut backwards: Vec<&str> = offered.iter().map(|name| &name[..]).collect();
        backwards.reverse();
        let upgrade = match token {
            Some(token) => upgrade.protocols(&backwards).signed_in(&token).protocols(&backwards),
            None => upgrade.protocols(&backwards),
        };
        upgrade.run(async |mut channel| {
            channel.discard().await;
            Ok(())
        })
    }
    let token = sign(&claims());
    let signed = serve_router(Router::new().route("/", get(lax)).layer(Extension(verifier()))).await;
    let ignorant = async |headers, upgrade| lax(headers, None, upgrade).await;
    let unsigned = serve_router(Router::new().route("/", get(ignorant))).await;
    for address in [signed, unsigned] {
        for (offered, answer) in [
            (format!("bearer, {token}"), "bearer"),
            (format!("bearer, {token}, chat"), "chat"),
            (format!("bearer,\t,{token} ,"), "bearer"),
            (format!("chat, bearer\r\nSec-WebSocket-Protocol: {token}"), "bearer"),
        ] {
            let (_client, head) = Raw::ask(address, &format!("Sec-WebSocket-Protocol: {offered}\r\n")).await;
            assert!(head.starts_with("HTTP/1.1 101"), "{head}");
            assert!(head.contains(&format!("sec-websocket-protocol: {answer}\r\n")), "{head}");
            assert!(token.split('.').all(|part| !head.contains(part)), "{head}");
        }
    }
    // Nor does a refusal.
    let strict = serve_chat().await;
    let wrong = format!("{token}x");
    for header in [format!("Authorization: Bearer {wrong}"), format!("Sec-WebSocket-Protocol: bearer, {wrong}")] {
        let (_client, head) = Raw::ask(strict, &format!("{header}\r\n")).await;
        assert!(head.starts_with("HTTP/1.1 401"), "{head}");
        assert!(token.split('.').all(|part| !head.contains(part)), "{head}");
    }
}

#[tokio::test]
async fn the_tokens_user_counts_whatever_the_options_say() {
    async fn route(token: Jwt, upgrade: Upgrade) -> Response {
        let bob = UserId::new("bob").expect("it is one");
        let upgrade = upgrade.user(bob.clone()).signed_in(&token).channel(ChannelOptions::default()).user(bob);
        upgrade.run(async |channel| Ok(channel.send(channel.user().expect("it is signed in"))?))
    }
    let address = serve_router(Router::new().route("/", get(route)).layer(Extension(verifier()))).await;
    let bearer = format!("Bearer {}", sign(&claims()));
    let (mut client, _) = connect_with(address, "authorization", &bearer).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("\"ada\""));
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let address = serve_chat().await;
    let started = Instant::now();
    let (mut client, _) = connect_with(address, "authorization", &format!("Bearer {}", short(2))).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("\"welcome, ada\""));
    assert_eq!(close_code(&mut client).await, 4401);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_refresh_extends_the_connection_and_no_other_users_token_does() {
    let address = serve_chat().await;
    let (mut client, _) = connect_with(address, "authorization", &format!("Bearer {}", short(3))).await.unwrap();
    let (mut other, _) = connect_with(address, "authorization", &format!("Bearer {}", short(3))).await.unwrap();
    for client in [&mut client, &mut other] {
        assert_eq!(next(client).await, Message::text("\"welcome, ada\""));
    }
    let answer = async |client: &mut Client, message: Value| -> Value {
        client.send(Message::text(message.to_string())).await.expect("it is sent");
        serde_json::from_str(next(client).await.to_text().expect("it is text")).expect("it is json")
    };
    let refresh = |token: &str| json!({ "type": "refresh", "token": token });
    let refused = |error: &str| json!({ "type": "error", "error": error });

    let bob = JwtSigner::hs256(SECRET, "chat").unwrap().sign(&UserId::new("bob").unwrap(), Duration::from_secs(600));
    assert_eq!(answer(&mut other, refresh(&bob.unwrap())).await, refused("token is of another user"));
    assert_eq!(
        answer(&mut other, refresh(&sign(&without("exp")))).await,
        refused("token does not say when it expires")
    );
    for (wrong, says) in [
        (json!({ "type": "refresh" }), "missing field `token`"),
        (json!({ "type": "refresh", "token": 7 }), "invalid type: integer"),
        (refresh("x"), "token is not a json web token"),
        (refresh(&"x".repeat(10 << 10)), "token is too long"),
    ] {
        let answer = answer(&mut other, wrong).await;
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(says)), "{answer}");
    }
    other.send(Message::text(r#"{"type":"refreshing","token":"x"}"#)).await.expect("it is sent");
    assert_eq!(next(&mut other).await, Message::text("heard"), "it is the application's");

    let exp = now() + 600;
    let answered = answer(&mut client, refresh(&sign(&with("exp", exp)))).await;
    assert_eq!(answered, json!({ "type": "refreshed", "expires": exp * 1000 }));

    // What was refused has extended nothing; when the other one ends, the first one lives.
    assert_eq!(close_code(&mut other).await, 4401);
    client.send(Message::text("still here")).await.expect("it is sent");
    assert_eq!(next(&mut client).await, Message::text("heard"));

    // And a new end is an end.
    let answered = answer(&mut client, refresh(&short(1))).await;
    assert_eq!(answered["type"], "refreshed");
    assert_eq!(close_code(&mut client).await, 4401);
}

#[tokio::test]
async fn a_box_takes_the_refresh_of_a_channel_that_is_signed_in() {
    let verifier = verifier().leeway(Duration::ZERO);
    let address = serve_router(Router::new().route("/", get(chat_by_box)).layer(Extension(verifier))).await;
    let (mut client, _) = connect_with(address, "authorization", &format!("Bearer {}", short(600))).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("\"welcome, ada\""));
    let answer = async |client: &mut Client, message: Value| -> Value {
        client.send(Message::text(message.to_string())).await.expect("it is sent");
        serde_json::from_str(next(client).await.to_text().expect("it is text")).expect("it is json")
    };
    let bob = JwtSigner::hs256(SECRET, "chat").unwrap().sign(&UserId::new("bob").unwrap(), Duration::from_secs(600));
    let refused = answer(&mut client, json!({ "type": "refresh", "token": bob.unwrap() })).await;
    assert_eq!(refused, json!({ "type": "error", "error": "token is of another user" }));
    let refused = answer(&mut client, json!({ "type": "refresh", "token": 7 })).await;
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("invalid type: integer")), "{refused}");
    client.send(Message::text("{")).await.expect("it is sent");
    let refused: Value = serde_json::from_str(next(&mut client).await.to_text().unwrap()).unwrap();
    assert_eq!(refused["type"], "error", "and it lives on");
    client.send(Message::text("{}")).await.expect("it is sent");
    assert_eq!(next(&mut client).await, Message::text("heard"));

    // What it was refreshed with is what counts.
    let answered = answer(&mut client, json!({ "type": "refresh", "token": short(1) })).await;
    assert_eq!(answered["type"], "refreshed");
    assert_eq!(close_code(&mut client).await, 4401);
}

#[tokio::test]
async fn on_a_channel_that_is_not_signed_in_a_refresh_is_the_applications() {
    let (channels, options) = (ChannelBox::new(), ChannelOptions::default().user(ada()));
    let (mut channel, mut far) = Channel::in_memory_with(options);
    let messages = [
        json!({ "type": "refresh", "page": 2 }),
        json!({ "type": "refresh", "token": "ack" }),
        json!({ "type": "refresh", "token": 7, "of": "presence" }),
    ];
    for message in messages {
        far.send_text(message.to_string());
        let heard: Value = channels.recv(&mut channel).await.expect("it is there").expect("it is json");
        assert_eq!(heard, message);
    }
    assert_eq!(far.try_recv(), None, "nothing was answered");
}

#[tokio::test]
async fn a_channel_that_is_closed_is_not_refreshed() {
    let options = || ChannelOptions::default().user(ada());
    let (channel, mut far_end) = Channel::in_memory_with(options());
    let sender = channel.sender();
    assert!(verifier().refresh(&sender, &short(600)).is_ok());
    assert!(channel.sender().close(CloseCode::NORMAL, ""));
    assert_eq!(verifier().refresh(&sender, &short(600)), Err(RefreshError::Closed));
    assert!(matches!(far_end.try_recv(), Some(FarMessage::Close { code: CloseCode::NORMAL, .. })));

    let (channel, _far_end) = Channel::in_memory();
    assert_eq!(verifier().refresh(&channel.sender(), &short(600)), Err(RefreshError::OtherUser), "it has no user");
}

#[tokio::test]
async fn a_token_whose_end_no_timer_reaches_opens_a_connection() {
    let address = serve_chat().await;
    for exp in [u64::from(u32::MAX), 1 << 40, i64::MAX as u64 - 1000] {
        let bearer = format!("Bearer {}", sign(&with("exp", exp)));
        let (mut client, _) = connect_with(address, "authorization", &bearer).await.unwrap();
        assert_eq!(next(&mut client).await, Message::text("\"welcome, ada\""), "{exp}");
        client.send(Message::text("x")).await.expect("it is sent");
        assert_eq!(next(&mut client).await, Message::text("heard"));
    }
}

#[tokio::test]
async fn a_handler_learns_of_the_end() {
    let (tell, mut tells) = tells();
    let route = async move |token: Jwt, upgrade: Upgrade| {
        upgrade.signed_in(&token).run(async move |mut channel| {
            channel.discard().await;
            Ok(tell.send(channel.is_active())?)
        })
    };
    let verifier = verifier().leeway(Duration::ZERO);
    let address = serve_router(Router::new().route("/", get(route)).layer(Extension(verifier))).await;
    let (mut client, _) = connect_with(address, "authorization", &format!("Bearer {}", short(2))).await.unwrap();
    assert_eq!(close_code(&mut client).await, 4401);
    assert!(!told(&mut tells).await);
}
