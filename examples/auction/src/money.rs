//! Money: whole cents, never a float.

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// An amount that can be bid: 1 cent to [`Cents::MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Cents(u64);

impl Cents {
    /// One million, in cents. JavaScript's numbers hold such amounts and their sums exactly.
    pub(crate) const MOST: Self = Self(100_000_000);

    pub(crate) const fn new(cents: u64) -> Option<Self> {
        if cents >= 1 && cents <= Self::MOST.0 { Some(Self(cents)) } else { None }
    }

    /// Returns the least amount of a bid above this one; `None` if no higher bid is accepted.
    pub(crate) fn next(self) -> Option<Self> {
        // Steps of 1.00 below 100.00, of 5.00 below 1000.00, of 25.00 from there.
        let step = match self.0 {
            0..10_000 => 100,
            10_000..100_000 => 500,
            _ => 2500,
        };
        Self::new(self.0 + step)
    }
}

impl fmt::Display for Cents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Accepts only a whole number: `12.5`, `1e3`, `"1250"`, 0 and amounts out of bounds are refused.
impl<'de> Deserialize<'de> for Cents {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Cents;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an amount in whole cents, from 1 to {}", Cents::MOST.0)
            }

            fn visit_u64<E: Error>(self, cents: u64) -> Result<Cents, E> {
                Cents::new(cents).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(cents), &self))
            }
        }
        from.deserialize_u64(Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::Cents;

    #[test]
    fn only_whole_cents_within_bounds_are_money() {
        assert_eq!(serde_json::from_str::<Cents>("1250").expect("it is").to_string(), "12.50");
        for bad in ["0", "-1", "12.5", "1250.0", "1e3", "100000001", "18446744073709551616", "\"1250\"", "null", "[1]"]
        {
            let error = serde_json::from_str::<Cents>(bad).expect_err(bad).to_string();
            assert!(
                error.contains("whole cents, from 1 to 100000000") || error.contains("out of range"),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn the_next_amount_is_a_step_above() {
        let next = |cents| Cents::new(cents).expect("it is money").next().map(|next| next.to_string());
        assert_eq!(next(9999).as_deref(), Some("100.99"));
        assert_eq!(next(10_000).as_deref(), Some("105.00"));
        assert_eq!(next(100_000).as_deref(), Some("1025.00"));
        assert_eq!(next(100_000_000), None);
    }
}
