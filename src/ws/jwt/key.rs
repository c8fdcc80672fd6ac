//! [`JwtKey`]: what a signature is checked with. Always: one key, one algorithm.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::{Algorithm, DecodingKey};

/// The shortest secret of an HMAC, in bytes: as long as its hash (RFC 7518, section 3.2).
pub const MIN_SECRET_LEN: usize = 32;
/// The smallest modulus of an RSA key, in bytes (RFC 7518, section 3.3).
const MIN_MODULUS_LEN: usize = 2048 / 8;

/// Checks the signatures of tokens: a secret that the issuer shares, or the issuer's public key.
///
/// It goes with one algorithm, and no token can ask for another one with it. A public key is given as PEM
/// (`-----BEGIN PUBLIC KEY-----`) or as the DER inside of that.
///
/// ```
/// use fanfare::ws::jwt::{JwtKey, JwtVerifier};
///
/// const PUBLIC_KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----
/// MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
/// -----END PUBLIC KEY-----";
///
/// // While keys are being changed there are two, and the header `kid` of a token says which is its own.
/// let keys = [JwtKey::eddsa(PUBLIC_KEY)?.id("2026"), JwtKey::hs256(&[7; 32])?.id("2025")];
/// let verifier = JwtVerifier::new(keys, "chat")?;
/// assert!(JwtKey::hs256(b"secret").is_err(), "it is guessed quickly");
/// # let _ = verifier;
/// # Ok::<(), fanfare::ws::jwt::JwtKeyError>(())
/// ```
#[derive(Clone)]
pub struct JwtKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtKey {
    /// Uses a shared secret, for tokens signed by HMAC with SHA-256.
    ///
    /// # Errors
    ///
    /// When it is shorter than 32 bytes: with one token, an attacker could find a short secret offline.
    pub fn hs256(secret: &[u8]) -> Result<Self, JwtKeyError> {
        check_secret(secret)?;
        Ok(Self { id: None, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) })
    }

    /// Takes a public key for tokens signed by RSA (PKCS #1) with SHA-256.
    ///
    /// # Errors
    ///
    /// When it is not a public key for RSA, or has less than 2048 bits.
    pub fn rs256(public_key: &[u8]) -> Result<Self, JwtKeyError> {
        let key = DecodingKey::from_rsa_pem(&pem(public_key)).map_err(|_| JwtKeyError::NotAKey)?;
        let der = key.try_get_as_bytes().map_err(|_| JwtKeyError::NotAKey)?;
        let components = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der);
        let (modulus, _) = components.map_err(|_| JwtKeyError::NotAKey)?;
        if modulus.len() < MIN_MODULUS_LEN {
            return Err(JwtKeyError::TooShort);
        }
        Self { id: None, algorithm: Algorithm::RS256, key }.checked()
    }

    /// Takes a public key for tokens signed by ECDSA over P-256 with SHA-256.
    ///
    /// # Errors
    ///
    /// When it is not a public key for that curve.
    pub fn es256(public_key: &[u8]) -> Result<Self, JwtKeyError> {
        let key = DecodingKey::from_ec_pem(&pem(public_key)).map_err(|_| JwtKeyError::NotAKey)?;
        Self { id: None, algorithm: Algorithm::ES256, key }.checked()
    }

    /// Takes a public key for tokens signed by Ed25519.
    ///
    /// # Errors
    ///
    /// When it is not a public key for that curve.
    pub fn eddsa(public_key: &[u8]) -> Result<Self, JwtKeyError> {
        let key = DecodingKey::from_ed_pem(&pem(public_key)).map_err(|_| JwtKeyError::NotAKey)?;
        match key.try_get_as_bytes() {
            Ok(bytes) if bytes.len() == 32 => Self { id: None, algorithm: Algorithm::EdDSA, key }.checked(),
            _ => Err(JwtKeyError::NotAKey),
        }
    }

    /// Names the key, as the header `kid` of its tokens does.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Returns the key's name as a token writes it.
    pub(super) fn named(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns the algorithm's name as a token writes it.
    pub(super) fn algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::RS256 => "RS256",
            Algorithm::ES256 => "ES256",
            Algorithm::EdDSA => "EdDSA",
            _ => "HS256",
        }
    }

    /// Returns whether the key's owner has signed `message`.
    pub(super) fn has_signed(&self, message: &[u8], signature: &Vec<u8>) -> bool {
        // Not `jsonwebtoken::decode`: it uses one backend for the whole process, which is not set when another crate of
        // the build enables a second one, and then panics at any token.
        (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm, &self.key)
            .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
    }

    fn checked(self) -> Result<Self, JwtKeyError> {
        match (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm, &self.key) {
            Ok(_) => Ok(self),
            Err(_) => Err(JwtKeyError::NotAKey),
        }
    }
}

/// Shows the name and the algorithm.
impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey").field("id", &self.id).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

pub(super) fn check_secret(secret: &[u8]) -> Result<(), JwtKeyError> {
    if secret.len() < MIN_SECRET_LEN { Err(JwtKeyError::ShortSecret) } else { Ok(()) }
}

/// Returns a key as PEM, from PEM or DER.
fn pem(key: &[u8]) -> Vec<u8> {
    if key.trim_ascii_start().starts_with(b"-----BEGIN") {
        return key.to_vec();
    }
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(key)).into_bytes()
}

/// Why keys cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JwtKeyError {
    /// The secret has less than [`MIN_SECRET_LEN`] bytes.
    ShortSecret,
    /// The key has less than 2048 bits.
    TooShort,
    /// The key is not a public key for this algorithm, in PEM or DER.
    NotAKey,
    /// There is no key.
    NoKey,
    /// Two keys have the same id, or none.
    SameId,
}

impl fmt::Display for JwtKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShortSecret => "a secret needs 32 random bytes or more",
            Self::TooShort => "an rsa key needs 2048 bits or more",
            Self::NotAKey => "not a public key for this algorithm, in pem or der",
            Self::NoKey => "a verifier needs a key",
            Self::SameId => "each of several keys needs an id of its own",
        })
    }
}

impl std::error::Error for JwtKeyError {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::crypto::{CryptoProvider, KeyUtils};

    use crate::channel::UserId;
    use crate::ws::jwt::{JwtSigner, JwtVerifier};

    /// With two backends in one build neither is chosen: any client's token made the process panic.
    #[test]
    fn a_process_without_a_backend_of_its_own_verifies_all_the_same() {
        static NONE: CryptoProvider = CryptoProvider {
            signer_factory: |_, _| panic!("it is asked"),
            verifier_factory: |_, _| panic!("it is asked"),
            key_utils: KeyUtils::new_unimplemented(),
        };
        NONE.install_default().expect("no other test does so");
        let ada = UserId::new("ada").unwrap();
        let token = JwtSigner::hs256(&[7; 32], "chat").unwrap().sign(&ada, Duration::from_secs(60)).unwrap();
        let jwt = JwtVerifier::hs256(&[7; 32], "chat").unwrap().verify::<serde_json::Value>(&token).unwrap();
        assert_eq!(jwt.user(), &ada);
    }
}
