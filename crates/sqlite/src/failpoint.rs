//! Named places where a test lets the process die; without the feature `failpoints` there are none.

/// Ends the process at once, without a goodbye to anybody, if `KOMBIFY_FAILPOINT` is `<name>:<moment>`.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(name: &str, moment: &str) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of tests, in no configuration of a program that is shipped"
    )]
    let wanted = std::env::var("KOMBIFY_FAILPOINT").unwrap_or_default();
    if wanted.split_once(':') == Some((name, moment)) {
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) fn hit(_name: &str, _moment: &str) {}
