//! What the suites about survival share: a model of a database, steps that are played on a real
//! one and on the model, scenarios made of steps, and the look at what is left after a disaster.
//!
//! Each suite uses a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod chance;
pub(crate) mod look;
pub(crate) mod model;
pub(crate) mod player;
pub(crate) mod scenarios;

use std::io::Write;

/// Whether the suites shall take minutes instead of seconds: `TONEARM_EFFORT=ci`.
pub(crate) fn is_thorough() -> bool {
    std::env::var("TONEARM_EFFORT").is_ok_and(|effort| effort == "ci")
}

/// Prints past the capture of test output, so that figures show when all is well.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}
