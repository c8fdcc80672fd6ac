//! [`Recover`]: the positions that a client brings when it comes back.
//!
//! The JSON comes from the client. Whatever it is, nothing here panics or exceeds a stated bound: `serde_json` bounds
//! the depth, and [`MAX_RECOVER_LEN`] the size.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::Position;
use crate::group::name::is_valid;

/// The most groups that a client may ask to recover at once.
pub const MAX_RECOVER_GROUPS: usize = 64;
/// The longest JSON of a [`Recover`], in bytes.
pub const MAX_RECOVER_LEN: usize = 16 << 10;

/// The last message of each group that a reconnecting client has seen.
///
/// It is the JSON of the query parameter `recover`: at most [`MAX_RECOVER_GROUPS`] groups in at most
/// [`MAX_RECOVER_LEN`] bytes. With the feature `ws` it is an extractor: empty without the parameter, and a response 400
/// that names the error when the parameter is malformed.
///
/// ```
/// use fanfare::group::{Position, Recover};
///
/// let recover: Recover = r#"{"room":[1763700000000,12]}"#.parse()?;
/// assert_eq!(recover.position("room"), Some(Position { epoch: 1_763_700_000_000, offset: 12 }));
/// assert_eq!(recover.position("elsewhere"), None);
/// # Ok::<(), fanfare::group::RecoverError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recover {
    /// No name twice.
    positions: Vec<(Box<str>, Position)>,
}

impl Recover {
    /// Returns the position of the last message of a group that the client has seen, if it gave one.
    #[must_use]
    pub fn position(&self, group: &str) -> Option<Position> {
        self.positions.iter().find(|(name, _)| **name == *group).map(|(_, position)| *position)
    }

    /// Returns whether there is nothing to recover.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// Returns the groups and positions, in the client's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Position)> {
        self.positions.iter().map(|(name, position)| (&**name, *position))
    }
}

impl FromStr for Recover {
    type Err = RecoverError;

    fn from_str(json: &str) -> Result<Self, RecoverError> {
        if json.len() > MAX_RECOVER_LEN {
            return Err(RecoverError::TooLong);
        }
        serde_json::from_str(json).map_err(RecoverError::Json)
    }
}

impl<'de> Deserialize<'de> for Recover {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Positions;

        impl<'de> Visitor<'de> for Positions {
            type Value = Recover;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of groups and their [epoch, offset]")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Recover, A::Error> {
                let mut recover = Recover::default();
                while let Some(name) = map.next_key::<Box<str>>()? {
                    check_next(&recover, &name).map_err(de::Error::custom)?;
                    recover.positions.push((name, map.next_value()?));
                }
                Ok(recover)
            }
        }

        deserializer.deserialize_map(Positions)
    }
}

fn check_next(recover: &Recover, name: &str) -> Result<(), String> {
    if recover.positions.len() == MAX_RECOVER_GROUPS {
        return Err(format!("more than {MAX_RECOVER_GROUPS} groups"));
    }
    if !is_valid(name) {
        return Err("a group name has 1 to 255 bytes and no control characters".into());
    }
    if recover.position(name).is_some() {
        return Err(format!("group {name:?} twice"));
    }
    Ok(())
}

/// Why a text is not a [`Recover`].
#[derive(Debug)]
#[non_exhaustive]
pub enum RecoverError {
    /// The text is longer than [`MAX_RECOVER_LEN`].
    TooLong,
    /// The text is not JSON of this form.
    Json(serde_json::Error),
    /// The query parameter occurs more than once, or is not UTF-8.
    Parameter(&'static str),
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("recover is not {\"group\":[epoch,offset]}: ")?;
        match self {
            Self::TooLong => write!(f, "it is longer than {MAX_RECOVER_LEN} bytes"),
            Self::Json(error) => error.fmt(f),
            Self::Parameter(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for RecoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Json(error) => Some(error),
            Self::TooLong | Self::Parameter(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recover_is_bounded_and_says_what_is_wrong() {
        let of = |groups: usize| {
            let groups: Vec<_> = (0..groups).map(|n| format!(r#""{n}":[1,{n}]"#)).collect();
            format!("{{{}}}", groups.join(","))
        };
        let most: Recover = of(MAX_RECOVER_GROUPS).parse().expect("64 groups are allowed");
        assert_eq!(most.iter().count(), MAX_RECOVER_GROUPS);
        assert_eq!(most.position("63"), Some(Position { epoch: 1, offset: 63 }));
        let long = format!(r#"{{"{}":[1,2]}}"#, "x".repeat(256));
        let huge = " ".repeat(MAX_RECOVER_LEN + 1);
        let wrong = [
            (&*of(MAX_RECOVER_GROUPS + 1), "more than 64 groups"),
            (&*huge, "longer than 16384 bytes"),
            (&*long, "a group name has 1 to 255 bytes"),
            (r#"{"":[1,2]}"#, "a group name has 1 to 255 bytes"),
            (r#"{"room":[1,2],"room":[1,3]}"#, r#"group "room" twice"#),
            (r#"{"room":[1]}"#, "invalid length 1"),
            (r#"{"room":[1,2,3]}"#, "trailing characters"),
            (r#"{"room":[1,-2]}"#, "invalid value"),
            (r#"{"room":[1,1e999]}"#, "number out of range"),
            (r#"{"room":{"epoch":1,"offset":2}}"#, "invalid type: map"),
            (r#"["room"]"#, "an object of groups"),
            ("", "EOF"),
        ];
        for (json, says) in wrong {
            let error = json.parse::<Recover>().expect_err("it is wrong").to_string();
            assert!(error.contains(says), "{json:.80}: {error}");
        }
        assert!("{}".parse::<Recover>().expect("it is empty").is_empty());
    }
}
