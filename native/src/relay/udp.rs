//! UDP: one socket onward per client, so that answers find their way back.

use super::{LISTENER, listen_to};
use crate::failure::{Context, Failure};
use crate::time::monotonic_ns;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

/// Clients at a time; a further one takes the place of the longest silent.
const MAX_SESSIONS: usize = 1_024;
const IDLE_NS: u64 = 60_000_000_000;
/// Datagrams taken from one socket before the others get their turn.
const ROUNDS: usize = 64;

pub fn relay(listener: OwnedFd, to: SocketAddr) -> Result<(), Failure> {
    let listener = UdpSocket::from(listener);
    listener.set_nonblocking(true).context("--listen-fd")?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
    listen_to(&epoll, &listener)?;
    let (sessions, tokens) = (HashMap::new(), HashMap::new());
    Relay { epoll, listener, to, sessions, tokens, last: LISTENER, buffer: vec![0; 65_536] }.run()
}

struct Session {
    socket: UdpSocket,
    client: SocketAddr,
    used_at_ns: u64,
}

struct Relay {
    epoll: Epoll,
    listener: UdpSocket,
    to: SocketAddr,
    sessions: HashMap<u64, Session>,
    tokens: HashMap<SocketAddr, u64>,
    last: u64,
    buffer: Vec<u8>,
}

impl Relay {
    fn run(mut self) -> Result<(), Failure> {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Err(Errno::EINTR) => continue,
                other => other.context("epoll")?,
            };
            for event in &events[..count] {
                match event.data() {
                    LISTENER => self.inward(),
                    session => self.outward(session),
                }
            }
            if count == 0 {
                self.drop_idle(monotonic_ns());
            }
        }
    }

    /// Without sessions there is nothing to wake up for.
    fn timeout(&self) -> EpollTimeout {
        let coarse_ms = (IDLE_NS / 2 / 1_000_000) as u16;
        if self.sessions.is_empty() { EpollTimeout::NONE } else { EpollTimeout::from(coarse_ms) }
    }

    fn drop_idle(&mut self, now_ns: u64) {
        self.sessions.retain(|_, session| session.used_at_ns + IDLE_NS > now_ns);
        self.tokens.retain(|_, token| self.sessions.contains_key(token));
    }

    fn inward(&mut self) {
        for _ in 0..ROUNDS {
            let Ok((count, client)) = self.listener.recv_from(&mut self.buffer) else { return };
            let now_ns = monotonic_ns();
            // A datagram that cannot go on is lost, as datagrams are.
            let Ok(token) = self.session(client, now_ns) else { continue };
            if let Some(session) = self.sessions.get_mut(&token) {
                session.used_at_ns = now_ns;
                let _ = session.socket.send(&self.buffer[..count]);
            }
        }
    }

    fn outward(&mut self, token: u64) {
        let Some(session) = self.sessions.get_mut(&token) else { return };
        session.used_at_ns = monotonic_ns();
        for _ in 0..ROUNDS {
            match session.socket.recv(&mut self.buffer) {
                Ok(count) => drop(self.listener.send_to(&self.buffer[..count], session.client)),
                // Nobody listens there at the moment; reading the error takes it off the socket.
                Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    fn session(&mut self, client: SocketAddr, now_ns: u64) -> io::Result<u64> {
        if let Some(token) = self.tokens.get(&client) {
            return Ok(*token);
        }
        if self.sessions.len() >= MAX_SESSIONS {
            self.make_room(now_ns);
        }
        let any = if self.to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(self.to)?;
        socket.set_nonblocking(true)?;
        self.last += 1;
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, self.last))?;
        self.sessions.insert(self.last, Session { socket, client, used_at_ns: now_ns });
        self.tokens.insert(client, self.last);
        Ok(self.last)
    }

    fn make_room(&mut self, now_ns: u64) {
        self.drop_idle(now_ns);
        let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used_at_ns);
        if let Some(token) = oldest.map(|(token, _)| *token).filter(|_| self.sessions.len() >= MAX_SESSIONS)
            && let Some(session) = self.sessions.remove(&token)
        {
            self.tokens.remove(&session.client);
        }
    }
}
