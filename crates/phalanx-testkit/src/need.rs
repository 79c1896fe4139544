//! Tests that are left out where what they need is not there.

/// Tells that a test is left out, and why.
///
/// # Panics
/// Where `PHALANX_REQUIRE` names `need`, or says `all`.
#[expect(clippy::print_stdout, reason = "what is left out is told where tests are")]
pub(crate) fn leave_out(need: &str, reason: &str) {
    assert!(!is_required(need), "PHALANX_REQUIRE needs what is left out: {reason}");
    println!("skipped: {reason}");
}

#[expect(clippy::disallowed_methods, reason = "what must not be left out is the environment's")]
fn is_required(need: &str) -> bool {
    let required = std::env::var("PHALANX_REQUIRE").unwrap_or_default();
    required.split(',').any(|name| [need, "all"].contains(&name.trim()))
}
