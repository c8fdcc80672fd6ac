//! [`Priority`]: which listeners of an event are called first.

/// The place of a listener in the order of calls: higher priorities first, then the order of registration.
///
/// Any `i32` is a priority; the constants are the usual steps.
///
/// ```
/// use fanfare::Priority;
///
/// assert!(Priority::HIGH > Priority::from(99));
/// assert_eq!(Priority::from(0), Priority::NORMAL);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(i32);

impl Priority {
    /// Makes a priority from its number.
    ///
    /// ```
    /// use fanfare::Priority;
    ///
    /// const AFTER_THE_OTHERS: Priority = Priority::new(-1000);
    /// assert!(AFTER_THE_OTHERS < Priority::LOWEST);
    /// ```
    #[must_use]
    pub const fn new(priority: i32) -> Self {
        Self(priority)
    }

    /// The highest constant: 200.
    pub const HIGHEST: Self = Self(200);
    /// Before [`NORMAL`](Self::NORMAL): 100.
    pub const HIGH: Self = Self(100);
    /// The default: 0.
    pub const NORMAL: Self = Self(0);
    /// Another name for [`NORMAL`](Self::NORMAL).
    pub const MEDIUM: Self = Self::NORMAL;
    /// After [`NORMAL`](Self::NORMAL): -100.
    pub const LOW: Self = Self(-100);
    /// The lowest constant: -200.
    pub const LOWEST: Self = Self(-200);
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

impl From<i32> for Priority {
    fn from(priority: i32) -> Self {
        Self(priority)
    }
}

impl From<Priority> for i32 {
    fn from(priority: Priority) -> Self {
        priority.0
    }
}
