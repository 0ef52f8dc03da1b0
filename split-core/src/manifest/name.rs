//! What a series may be called.

/// The longest name of a series, in characters.
pub const MAX_SERIES_NAME: usize = 64;

/// Checks the name of a series, which is part of URLs and the name of a folder: 1 to [`MAX_SERIES_NAME`] letters from A to Z in either case,
/// digits, `-`, `_` and `.`, of which `.` is not the first.
///
/// ```
/// use split_core::manifest::check_series_name;
///
/// assert!(check_series_name("grocery-lite0_v1.2").is_ok());
/// for name in ["", ".hidden", "..", "my series", "a/b", "<i>", "ü"] {
///     assert!(check_series_name(name).is_err(), "{name}");
/// }
/// ```
pub fn check_series_name(name: &str) -> Result<(), SeriesNameError> {
    let allowed = |it: u8| it.is_ascii_alphanumeric() || b"-_.".contains(&it);
    match (1..=MAX_SERIES_NAME).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(SeriesNameError { name: name.into() }),
    }
}

/// A name that a series cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a series cannot be named '{}': use 1 to {MAX_SERIES_NAME} letters (a to z), digits, '-', '_' and '.', not beginning with '.'",
    name.escape_debug()
)]
pub struct SeriesNameError {
    /// The name.
    pub name: String,
}
