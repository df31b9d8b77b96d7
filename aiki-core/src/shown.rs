//! Errors that show the same text to `Debug` as to `Display`.

/// Gives an error's `Display` as its `Debug`: a `main` that returns the error prints `Debug`, and so does `unwrap`,
/// and what to do next must not be lost there.
#[doc(hidden)]
#[macro_export]
macro_rules! debug_as_display {
    ($($error:ty),+ $(,)?) => {
        $(
            /// The same text as `Display`: it is what a `main` that returns the error prints, and a failing test.
            impl ::std::fmt::Debug for $error {
                fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                    ::std::fmt::Display::fmt(self, f)
                }
            }
        )+
    };
}
