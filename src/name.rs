//! Event names: which are valid, and how a name gets its payload type.
//!
//! A name is 1 to 255 bytes without ASCII blanks or control characters, such as `user.created`. A
//! colon ends a *namespace*: `ui:button.click` is `button.click` in the namespace `ui`, and
//! namespaces nest (`app:ui:button.click`). No segment is empty, so a name neither begins nor ends
//! with a colon. Names are compared byte by byte.
//!
//! Pure values, no synchronisation.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

/// The character between a namespace and the rest of a name.
pub const SEPARATOR: char = ':';

/// The length of the longest name, in bytes, its namespaces included.
pub const MAX_LEN: usize = 255;

/// The name of an event together with the type of its payload.
///
/// A key ties the two at compile time: an invalid name in a `const` key does not compile, and neither does a
/// listener or an emit with another payload type. Keys are the recommended way to name events.
///
/// ```
/// use fanfare::{Dispatcher, Key};
///
/// const RENAMED: Key<str> = Key::new("user.renamed");
///
/// let events = Dispatcher::new();
/// events.on(RENAMED, |name| assert_eq!(name, "Ada"))?;
/// assert_eq!(events.emit(RENAMED, "Ada")?.ran(), 1);
/// # Ok::<(), fanfare::EventError>(())
/// ```
///
/// Two keys of one payload type are equal if their names are.
///
/// ```compile_fail
/// # use fanfare::Key;
/// const TYPO: Key<str> = Key::new("user.renamed:"); // ends in the separator
/// # fn main() { let _ = TYPO; }
/// ```
pub struct Key<T: ?Sized> {
    name: &'static str,
    /// A key owns no `T`: it is `Send`, `Sync` and `Copy` whatever `T` is.
    payload: PhantomData<fn(&T)>,
}

impl<T: ?Sized> Key<T> {
    /// Makes a key.
    ///
    /// # Panics
    ///
    /// When the name is invalid; in a `const` that is a compile error.
    #[must_use]
    #[track_caller]
    pub const fn new(name: &'static str) -> Self {
        if let Err(fault) = check(name) {
            panic!("{}", fault.text());
        }
        Self { name, payload: PhantomData }
    }

    /// Returns the name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// For calls without a payload type, such as [`Dispatcher::off_all`](crate::Dispatcher::off_all).
impl<T: ?Sized> AsRef<str> for Key<T> {
    fn as_ref(&self) -> &str {
        self.name
    }
}

impl<T: ?Sized> Clone for Key<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Key<T> {}

impl<T: ?Sized> PartialEq for Key<T> {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl<T: ?Sized> Eq for Key<T> {}

impl<T: ?Sized> Hash for Key<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl<T: ?Sized> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key<{}>({:?})", std::any::type_name::<T>(), self.name)
    }
}

/// A name of an event with payload `T`: a [`Key<T>`](Key), or a string, for any payload type.
///
/// With a string, each call checks the payload type at run time.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name an event whose payload is `{T}`",
    note = "a name is a string, or a `Key` of that payload"
)]
pub trait EventName<T: ?Sized>: sealed::Sealed {
    /// Returns the name.
    fn name(&self) -> &str;
}

impl<T: ?Sized> EventName<T> for Key<T> {
    #[inline]
    fn name(&self) -> &str {
        self.name
    }
}

impl<T: ?Sized> EventName<T> for &str {
    #[inline]
    fn name(&self) -> &str {
        self
    }
}

impl<T: ?Sized> EventName<T> for &String {
    #[inline]
    fn name(&self) -> &str {
        self
    }
}

impl<T: ?Sized> EventName<T> for String {
    #[inline]
    fn name(&self) -> &str {
        self
    }
}

impl<T: ?Sized> EventName<T> for &Arc<str> {
    #[inline]
    fn name(&self) -> &str {
        self
    }
}

impl<T: ?Sized> EventName<T> for Arc<str> {
    #[inline]
    fn name(&self) -> &str {
        self
    }
}

mod sealed {
    use super::Arc;

    pub trait Sealed {}

    impl<T: ?Sized> Sealed for super::Key<T> {}
    impl Sealed for &str {}
    impl Sealed for &String {}
    impl Sealed for String {}
    impl Sealed for &Arc<str> {}
    impl Sealed for Arc<str> {}
}

/// The name is not valid for an event; nothing was registered or emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName {
    /// The name, cut after [`MAX_LEN`] bytes.
    name: String,
    fault: NameFault,
}

impl InvalidName {
    /// Returns the refused name, cut after [`MAX_LEN`] bytes.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what is wrong with the name.
    #[must_use]
    pub fn fault(&self) -> NameFault {
        self.fault
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event name {:?}: {}", self.name, self.fault.text())
    }
}

impl std::error::Error for InvalidName {}

/// What can be wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameFault {
    /// The name is empty.
    Empty,
    /// The name has more than [`MAX_LEN`] bytes.
    TooLong,
    /// A segment is empty: the name begins or ends with a colon, or has two in a row.
    EmptySegment,
    /// The name has an ASCII blank or control character.
    Blank,
}

impl NameFault {
    const fn text(self) -> &'static str {
        match self {
            Self::Empty => "a name must not be empty",
            Self::TooLong => "a name has at most 255 bytes",
            Self::EmptySegment => "a colon stands between two non-empty parts, as in `ui:button.click`",
            Self::Blank => "a name has no ASCII blanks or control characters",
        }
    }
}

/// Checks that `name` is valid.
pub(crate) fn validate(name: &str) -> Result<(), InvalidName> {
    check(name).map_err(|fault| {
        let cut = (0..=name.len().min(MAX_LEN)).rev().find(|at| name.is_char_boundary(*at));
        InvalidName { name: name[..cut.unwrap_or(0)].to_owned(), fault }
    })
}

/// Checks the rules, in a form that a `const` can run.
const fn check(name: &str) -> Result<(), NameFault> {
    let bytes = name.as_bytes();
    if bytes.is_empty() {
        return Err(NameFault::Empty);
    }
    if bytes.len() > MAX_LEN {
        return Err(NameFault::TooLong);
    }
    // As if a separator stood before the first byte and after the last: every empty segment is then two in a row.
    let mut after_separator = true;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if byte <= b' ' || byte == 0x7f {
            return Err(NameFault::Blank);
        }
        let separator = byte == SEPARATOR as u8;
        if separator && after_separator {
            return Err(NameFault::EmptySegment);
        }
        after_separator = separator;
        at += 1;
    }
    if after_separator { Err(NameFault::EmptySegment) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_names_pass() {
        for name in ["a", "user.created", "ui:button.click", "a:b:c", "größe", &"x".repeat(MAX_LEN)] {
            assert_eq!(validate(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn bad_names_are_refused_with_their_fault() {
        let long = "x".repeat(MAX_LEN + 1);
        let cases = [
            ("", NameFault::Empty),
            (&*long, NameFault::TooLong),
            (":", NameFault::EmptySegment),
            ("ui:", NameFault::EmptySegment),
            (":click", NameFault::EmptySegment),
            ("ui::click", NameFault::EmptySegment),
            ("user created", NameFault::Blank),
            ("user\n", NameFault::Blank),
            ("user\x7f", NameFault::Blank),
        ];
        for (name, fault) in cases {
            assert_eq!(validate(name).map_err(|error| error.fault()), Err(fault), "{name:?}");
        }
    }

    #[test]
    fn an_over_long_name_is_cut_between_characters_in_its_error() {
        let error = validate(&"ä".repeat(MAX_LEN)).expect_err("510 bytes are too many");
        assert_eq!(error.name(), "ä".repeat(MAX_LEN / 2));
    }

    #[test]
    #[should_panic(expected = "a colon stands between")]
    fn a_key_with_a_bad_name_panics_at_run_time() {
        let _ = Key::<()>::new("ui:");
    }
}
