//! TCP: bytes go through a pipe in the kernel, never through us.

use super::{LISTENER, listen_to};
use crate::failure::{Context, Failure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt};
use nix::unistd::pipe2;
use std::collections::{BTreeSet, HashMap};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The most connections at a time; further ones wait in the listening socket's queue.
const MAX_PAIRS: usize = 512;
/// Two sockets and two pipes.
const FILES_PER_PAIR: usize = 6;
const OWN_FILES: usize = 16;
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks moved for one connection before the others get their turn.
const ROUNDS: usize = 16;

/// `open_files` bounds the connections besides `MAX_PAIRS`: accepting must never fail for want of descriptors.
pub fn relay(listener: OwnedFd, to: SocketAddr, open_files: u64) -> Result<(), Failure> {
    let room = usize::try_from(open_files).unwrap_or(usize::MAX).saturating_sub(OWN_FILES) / FILES_PER_PAIR;
    let max_pairs = room.clamp(1, MAX_PAIRS);
    let listener = TcpListener::from(listener);
    listener.set_nonblocking(true).context("--listen-fd")?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
    listen_to(&epoll, &listener)?;
    let relay = Relay { epoll, listener, to, max_pairs, pairs: HashMap::new(), last: 0, unfinished: BTreeSet::new() };
    relay.run()
}

struct Relay {
    epoll: Epoll,
    listener: TcpListener,
    to: SocketAddr,
    max_pairs: usize,
    pairs: HashMap<u64, Pair>,
    last: u64,
    /// Pairs whose turn ended while there was more to move.
    unfinished: BTreeSet<u64>,
}

impl Relay {
    fn run(mut self) -> Result<(), Failure> {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let timeout = if self.unfinished.is_empty() { EpollTimeout::NONE } else { EpollTimeout::ZERO };
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => continue,
                other => other.context("epoll")?,
            };
            let mut turns = std::mem::take(&mut self.unfinished);
            turns.extend(events[..count].iter().map(EpollEvent::data));
            for token in turns {
                match token {
                    LISTENER => self.accept()?,
                    pair => self.advance(pair)?,
                }
            }
        }
    }

    fn accept(&mut self) -> Result<(), Failure> {
        let Ok((outside, _)) = self.listener.accept() else { return Ok(()) };
        // When the other side cannot be reached, closing resets the connection: the client sees a refusal.
        if let Ok(pair) = Pair::new(outside, self.to) {
            self.last += 1;
            if pair.wait_on(&self.epoll, self.last).is_ok() {
                self.pairs.insert(self.last, pair);
            }
        }
        if self.pairs.len() >= self.max_pairs {
            self.epoll.delete(&self.listener).context("epoll")?;
        }
        Ok(())
    }

    fn advance(&mut self, token: u64) -> Result<(), Failure> {
        let Some(pair) = self.pairs.get_mut(&token) else { return Ok(()) };
        match pair.advance() {
            Ok(Progress::Waits) => {}
            Ok(Progress::More) => {
                self.unfinished.insert(token);
            }
            Ok(Progress::Finished) => self.end(token)?,
            Err(_) => {
                pair.reset();
                self.end(token)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, token: u64) -> Result<(), Failure> {
        let was_full = self.pairs.len() >= self.max_pairs;
        self.pairs.remove(&token);
        if was_full { listen_to(&self.epoll, &self.listener) } else { Ok(()) }
    }
}

enum Progress {
    Waits,
    More,
    Finished,
}

/// A connection from outside and the one made for it.
struct Pair {
    outside: TcpStream,
    inside: TcpStream,
    connected: bool,
    inward: Flow,
    outward: Flow,
}

impl Pair {
    fn new(outside: TcpStream, to: SocketAddr) -> nix::Result<Self> {
        reset_on_close(&outside, true)?;
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let inside = TcpStream::from(socket(family, SockType::Stream, flags, None)?);
        match connect(inside.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(why) => return Err(why),
        }
        for side in [&outside, &inside] {
            side.set_nonblocking(true).map_err(|_| Errno::EIO)?;
            setsockopt(side, sockopt::TcpNoDelay, &true)?;
            setsockopt(side, sockopt::KeepAlive, &true)?;
        }
        Ok(Self { outside, inside, connected: false, inward: Flow::new()?, outward: Flow::new()? })
    }

    fn wait_on(&self, epoll: &Epoll, token: u64) -> nix::Result<()> {
        // Told once per change: each turn moves all there is, or is noted as unfinished.
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        epoll.add(&self.outside, EpollEvent::new(flags, token))?;
        epoll.add(&self.inside, EpollEvent::new(flags, token))
    }

    /// Has both sides see that this did not end well.
    fn reset(&self) {
        for side in [&self.outside, &self.inside] {
            let _ = reset_on_close(side, true);
        }
    }

    fn advance(&mut self) -> nix::Result<Progress> {
        if !self.connected {
            if let Ok(Some(_)) | Err(_) = self.inside.take_error() {
                return Err(Errno::ECONNREFUSED);
            }
            if self.inside.peer_addr().is_err() {
                return Ok(Progress::Waits);
            }
            self.connected = true;
            reset_on_close(&self.outside, false)?;
        }
        let more_in = self.inward.advance(&self.outside, &self.inside)?;
        let more_out = self.outward.advance(&self.inside, &self.outside)?;
        Ok(match (self.inward.ended && self.outward.ended, more_in || more_out) {
            (true, _) => Progress::Finished,
            (false, true) => Progress::More,
            (false, false) => Progress::Waits,
        })
    }
}

fn reset_on_close(stream: &TcpStream, reset: bool) -> nix::Result<()> {
    setsockopt(stream, sockopt::Linger, &libc::linger { l_onoff: libc::c_int::from(reset), l_linger: 0 })
}

/// One direction; what is under way is in the pipe, which bounds it.
struct Flow {
    reader: OwnedFd,
    writer: OwnedFd,
    buffered_bytes: usize,
    source_ended: bool,
    ended: bool,
}

impl Flow {
    fn new() -> nix::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { reader, writer, buffered_bytes: 0, source_ended: false, ended: false })
    }

    /// Moves what can be moved now; whether there may be more.
    fn advance(&mut self, source: &TcpStream, sink: &TcpStream) -> nix::Result<bool> {
        for _ in 0..ROUNDS {
            let moved = self.fill(source)? | self.empty(sink)?;
            if self.source_ended && self.buffered_bytes == 0 && !self.ended {
                self.ended = true;
                let _ = sink.shutdown(Shutdown::Write);
            }
            if !moved {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fill(&mut self, source: &TcpStream) -> nix::Result<bool> {
        if self.source_ended {
            return Ok(false);
        }
        match transfer(source, &self.writer)? {
            Some(0) => self.source_ended = true,
            Some(count) => self.buffered_bytes += count,
            None => return Ok(false),
        }
        Ok(true)
    }

    fn empty(&mut self, sink: &TcpStream) -> nix::Result<bool> {
        if self.buffered_bytes == 0 {
            return Ok(false);
        }
        let count = transfer(&self.reader, sink)?.unwrap_or(0);
        self.buffered_bytes -= count;
        Ok(count > 0)
    }
}

/// Bytes moved, 0 at the end, `None` when one side is not ready.
fn transfer(from: impl AsFd, to: impl AsFd) -> nix::Result<Option<usize>> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    match splice(from, None, to, None, CHUNK_BYTES, flags) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(why) => Err(why),
    }
}
