//! A port bound outside, served by something inside.
//!
//! The listening socket is inherited, made by whoever may bind the port; connections onward are made in the network
//! namespace this program was started in.

mod tcp;
mod udp;

use crate::arguments::Options;
use crate::failure::{Context, Failure};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::stat::fstat;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

const LISTENER: u64 = 0;

/// Relays until it is ended by a signal.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let options = Options::parse(arguments, &["--listen-fd", "--to"], &["--udp"])?;
    let missing = |name: &str| Failure::usage(format!("{name} is missing"));
    let number: RawFd = options.parsed("--listen-fd")?.ok_or_else(|| missing("--listen-fd"))?;
    let to: SocketAddr = options.parsed("--to")?.ok_or_else(|| missing("--to"))?;
    let listener = adopt(number)?;
    let (_, open_files) = crate::limits::raise_open_files()?;
    match options.flag("--udp") {
        true => udp::relay(listener, to),
        false => tcp::relay(listener, to, open_files),
    }
}

fn adopt(number: RawFd) -> Result<OwnedFd, Failure> {
    if number < 3 {
        return Err(Failure::usage(format!("--listen-fd {number}: not above 2")));
    }
    // SAFETY: inherited for this purpose; fstat refuses a number that is not open.
    let listener = unsafe { OwnedFd::from_raw_fd(number) };
    match fstat(&listener) {
        Ok(_) => Ok(listener),
        Err(why) => Err(Failure::usage(format!("--listen-fd {number}: {why}"))),
    }
}

fn listen_to(epoll: &Epoll, listener: impl AsFd) -> Result<(), Failure> {
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).context("--listen-fd")
}
