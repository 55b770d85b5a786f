//! The keeper's loop: sleeps until a peer speaks, a child prints, or a child ends.

use super::children::{Life, Reaped};
use super::connection::Connection;
use super::protocol::{changed_event, refusal};
use super::requests::{Cloud, Effect};
use crate::failure::{Context, Failure};
use crate::seqpacket::{self, MAX_PACKET_BYTES, Received};
use crate::time::monotonic_ns;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{SockFlag, accept4, getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Pid, getsid, getuid};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const MAX_CONNECTIONS: usize = 128;
const SIGNALS: u64 = 0;
const LISTENER: u64 = 1;
const SLEEPERS: u64 = 2;
const FIRST_FREE: u64 = 3;
/// Marks the token of a child's output; the rest of it is the child's serial.
const OUTPUT: u64 = 1 << 63;

pub struct Server {
    epoll: Epoll,
    signals: SignalFd,
    listener: OwnedFd,
    cloud: Cloud,
    connections: HashMap<u64, Connection>,
    next_token: u64,
    buffer: Vec<u8>,
    stopping: bool,
}

impl Server {
    pub fn new(listener: OwnedFd, cloud: Cloud) -> Result<Self, Failure> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&super::handled_signals(), flags).context("signalfd")?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS)).context("epoll")?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER)).context("epoll")?;
        epoll.add(cloud.sleepers.descriptor(), EpollEvent::new(EpollFlags::EPOLLIN, SLEEPERS)).context("epoll")?;
        Ok(Self {
            epoll,
            signals,
            listener,
            cloud,
            connections: HashMap::new(),
            next_token: FIRST_FREE,
            buffer: vec![0; MAX_PACKET_BYTES],
            stopping: false,
        })
    }

    /// Serves until it is told to stop.
    pub fn run(&mut self) -> Result<(), Failure> {
        let mut events = [EpollEvent::empty(); 64];
        while !self.stopping {
            let count = match self.epoll.wait(&mut events, self.patience()) {
                Err(Errno::EINTR) => continue,
                other => other.context("epoll")?,
            };
            for event in &events[..count] {
                self.dispatch(event.data(), event.events());
            }
            self.cloud.start_again(monotonic_ns());
            self.take_up_new();
        }
        Ok(())
    }

    /// How long to sleep when nobody speaks: until something is to be done by time.
    fn patience(&self) -> EpollTimeout {
        let Some(due_ns) = self.cloud.next_ns() else { return EpollTimeout::NONE };
        let wait_ms = due_ns.saturating_sub(monotonic_ns()).div_ceil(1_000_000);
        u16::try_from(wait_ms).unwrap_or(u16::MAX).into()
    }

    fn dispatch(&mut self, token: u64, flags: EpollFlags) {
        match token {
            SIGNALS => self.on_signals(),
            LISTENER => self.on_listener(),
            SLEEPERS => self.cloud.wake_wanted(),
            _ if token & OUTPUT != 0 => self.on_output(token & !OUTPUT),
            _ => self.on_connection(token, flags),
        }
    }

    fn on_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            self.stopping |= signal.ssi_signo != libc::SIGCHLD as u32;
        }
        loop {
            match self.cloud.children.reap() {
                Reaped::Nothing => break,
                Reaped::Stranger => {}
                Reaped::Child(id) => self.on_exit(&id),
            }
        }
        // Who ended as nobody wanted it sleeps before the next request is heard, which may be to wake it.
        self.cloud.start_again(monotonic_ns());
    }

    fn on_exit(&mut self, id: &str) {
        let Cloud { children, .. } = &mut self.cloud;
        let serial = children.get(id).map_or(0, |child| child.serial);
        if let Some(log) = children.logs.get_mut(&serial) {
            log.drain(&mut self.buffer);
        }
        self.cloud.ended(id);
    }

    /// Listens to what new children print and ask, and tells watchers which ones changed.
    fn take_up_new(&mut self) {
        for serial in self.cloud.take_started() {
            self.listen_to(serial);
        }
        for socket in self.cloud.take_wakers() {
            self.connect(Connection::of_waker(socket));
        }
        let changed = self.cloud.take_changed(monotonic_ns());
        if changed.is_empty() {
            return;
        }
        let watchers: Vec<u64> =
            self.connections.iter().filter(|(_, one)| one.watches()).map(|(token, _)| *token).collect();
        for token in watchers {
            self.with_connection(token, |connection, _| changed.iter().try_for_each(|id| connection.tell(id)));
        }
    }

    fn connect(&mut self, connection: Connection) {
        let token = self.new_token();
        if self.epoll.add(connection.socket(), EpollEvent::new(EpollFlags::EPOLLIN, token)).is_ok() {
            self.connections.insert(token, connection);
        }
    }

    fn on_output(&mut self, serial: u64) {
        let logs = &mut self.cloud.children.logs;
        if !logs.get_mut(&serial).is_some_and(|log| log.pump(&mut self.buffer)) {
            logs.remove(&serial);
        }
    }

    fn on_listener(&mut self) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let Ok(socket) = accept4(self.listener.as_raw_fd(), flags) else { return };
        // SAFETY: the kernel has just made it for us.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        if let Err(sentence) = self.admit(&socket) {
            let _ = seqpacket::send(std::os::fd::AsFd::as_fd(&socket), &refusal(&sentence), &[]);
            return;
        }
        self.connect(Connection::new(socket));
    }

    /// Our own user may speak to us, but not what runs inside the cloud without privilege.
    fn admit(&self, socket: &OwnedFd) -> Result<(), String> {
        if self.connections.len() >= MAX_CONNECTIONS {
            return Err(format!("{MAX_CONNECTIONS} connections are open already; close some"));
        }
        let peer = getsockopt(socket, PeerCredentials).map_err(|why| format!("cannot tell who you are: {why}"))?;
        if peer.uid() != getuid().as_raw() {
            return Err("this keeper belongs to another user".into());
        }
        // A peer outside of our pid namespace has no number here.
        let inside = peer.pid() != 0;
        match inside && !self.is_privileged_child(Pid::from_raw(peer.pid())) {
            true => Err("a process of the cloud may not speak to its keeper".into()),
            false => Ok(()),
        }
    }

    fn is_privileged_child(&self, peer: Pid) -> bool {
        getsid(Some(peer)).is_ok_and(|session| self.cloud.children.is_privileged(session))
    }

    fn on_connection(&mut self, token: u64, flags: EpollFlags) {
        // A peer with something unread is only heard again once it has read.
        let readable = flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        let mut effect = Effect::None;
        self.with_connection(token, |connection, (cloud, buffer)| {
            if readable && !connection.has_unsent() {
                effect = converse(connection, cloud, buffer)?;
            }
            Ok(())
        });
        match effect {
            Effect::Shutdown => self.stopping = true,
            Effect::None | Effect::Watch => {}
        }
    }

    /// Lets `act` work on a connection, sends what it left to send, and drops a connection that failed.
    fn with_connection(
        &mut self,
        token: u64,
        act: impl FnOnce(&mut Connection, (&mut Cloud, &mut Vec<u8>)) -> io::Result<()>,
    ) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let acted = act(connection, (&mut self.cloud, &mut self.buffer));
        let children = &self.cloud.children;
        let event = |id: &str| {
            let child = children.get(id).filter(|child| child.is_summoned || child.life != Life::Running);
            child.map(|child| changed_event(&child.row(id)))
        };
        let sent = acted.and_then(|()| connection.flush(event)).and_then(|()| wait_for(&self.epoll, token, connection));
        if sent.is_err() {
            self.connections.remove(&token);
        }
    }

    fn listen_to(&mut self, serial: u64) {
        let Some(log) = self.cloud.children.logs.get(&serial) else { return };
        let event = EpollEvent::new(EpollFlags::EPOLLIN, OUTPUT | serial);
        if self.epoll.add(log.pipe(), event).is_err() {
            self.cloud.children.logs.remove(&serial);
        }
    }

    fn new_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

/// Reads one request and notes its answer.
fn converse(connection: &mut Connection, cloud: &mut Cloud, buffer: &mut [u8]) -> io::Result<Effect> {
    let closed = || io::Error::from(io::ErrorKind::ConnectionAborted);
    let (bytes, descriptors) = match seqpacket::receive(connection.socket(), buffer)? {
        Received::Packet { bytes, descriptors } => (bytes, descriptors),
        Received::TooLarge => {
            let sentence =
                format!("a request has at most {MAX_PACKET_BYTES} bytes, with room here for its descriptors");
            connection.answer(refusal(&sentence).into());
            return Ok(Effect::None);
        }
        Received::Closed => return Err(closed()),
    };
    if connection.watches() {
        return Err(closed());
    }
    let (answer, effect) = cloud.handle(&buffer[..bytes], descriptors, connection.only_wakes);
    connection.answer(answer);
    if matches!(effect, Effect::Watch) {
        connection.watch(cloud.worth_telling().into_iter());
    }
    Ok(effect)
}

fn wait_for(epoll: &Epoll, token: u64, connection: &mut Connection) -> io::Result<()> {
    let unsent = connection.has_unsent();
    if unsent != connection.waits_for_room {
        let flags = if unsent { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        epoll.modify(connection.socket(), &mut EpollEvent::new(flags, token))?;
        connection.waits_for_room = unsent;
    }
    Ok(())
}
