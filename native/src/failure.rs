//! Why a program of this binary ends early, with the exit status that says so.

use std::fmt::Display;

/// A sentence for the person and an exit status for the caller.
#[derive(Debug)]
pub struct Failure {
    pub status: u8,
    pub sentence: String,
}

/// Something the machine refused.
pub const SYSTEM: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// Another keeper already serves this directory.
pub const TAKEN: u8 = 4;
/// This machine forbids user namespaces.
pub const FORBIDDEN: u8 = 5;

impl Failure {
    pub fn new(status: u8, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into() }
    }

    /// A failed step, as `what: why`.
    pub fn system(what: impl Display, why: impl Display) -> Self {
        Self::new(SYSTEM, format!("{what}: {why}"))
    }

    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::new(USAGE, sentence)
    }
}

/// Gives a foreign error the name of the step that met it.
pub trait Context<T> {
    fn context(self, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|why| Failure::system(what, why))
    }
}
