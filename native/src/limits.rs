//! How many files a process may have open.

use crate::failure::{Context, Failure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises our limit to the most the machine allows; gives it as (soft before, hard).
pub fn raise_open_files() -> Result<(u64, u64), Failure> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("setrlimit")?;
    Ok((soft, hard))
}
