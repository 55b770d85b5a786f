//! The DNS server of a cloud: authoritative for its zone, and whoever asks for the name of an instance that sleeps
//! wakes it.
//!
//! Its sockets, one pair in the namespace of each host, belong to the keeper: it may be replaced at any time, by one
//! that knows a newer zone, and queries wait in them meanwhile. Descriptor 3 is a file with the zone (see `zone`),
//! descriptor 4 the socket on which the keeper starts instances.

mod forward;
mod limit;
mod message;
mod server;
mod streams;
mod wakes;
mod zone;

use crate::failure::{Context, Failure};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use zone::Zone;

const ZONE: RawFd = 3;
const WAKER: RawFd = 4;

/// Serves until it is ended by a signal.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    if let Some(argument) = arguments.next() {
        return Err(Failure::usage(format!("unknown option {argument:?}; this program has none")));
    }
    let document = read_whole(&File::from(adopt(ZONE)?)).context("the zone on descriptor 3")?;
    let zone = Zone::read(&document).map_err(|why| Failure::usage(format!("the zone on descriptor 3: {why}")))?;
    crate::limits::raise_open_files()?;
    server::Server::new(zone, adopt(WAKER)?)?.run()
}

/// From the beginning, wherever others who have the file open have got to.
fn read_whole(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn adopt(number: RawFd) -> Result<OwnedFd, Failure> {
    // SAFETY: fcntl on any number is harmless.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(Failure::usage(format!("descriptor {number} is not open")));
    }
    // SAFETY: open, inherited for this purpose, and named once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
