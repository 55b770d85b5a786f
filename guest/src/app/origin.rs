//! The client side: a few TCP connections to one origin, one question on each.

use crate::app::reply::{Framing, LONGEST_HEAD_BYTES, Malformed, Parsed, Reader, parse};
use crate::app::server::Fresh;
use alloc::string::String;
use alloc::vec::Vec;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::IpEndpoint;

pub const SEND_BYTES: usize = 2048;
const FIRST_PORT: u16 = 49_152;
/// For the whole head, and then for each `LEAST_BYTES` of body that are asked for.
pub const PATIENCE: Duration = Duration::from_secs(5);
const LEAST_BYTES: usize = 1024;
/// The origin is to close; it has so long.
const FAREWELL: Duration = Duration::from_millis(250);
const MOST_INTERIM: usize = 8;

/// Why there is no answer, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Refused,
    TimedOut,
    /// All connections were in use for too long.
    Busy,
    /// Cut short, or not HTTP.
    Malformed,
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// An answer's head, on its own.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub headers: String,
    pub framing: Framing,
}

pub struct Origin {
    endpoint: IpEndpoint,
    next_port: u16,
    lines: Vec<Line>,
}

struct Line {
    handle: SocketHandle,
    is_asked: bool,
    /// Until when the origin may still close; nothing is asked before that is done.
    ends_at: Option<Instant>,
}

impl Line {
    fn is_free(&self) -> bool {
        !self.is_asked && self.ends_at.is_none()
    }
}

/// One question and its answer.
pub struct Exchange {
    line: usize,
    request: Vec<u8>,
    /// What has arrived of the head, and whatever came with its end.
    inbox: Vec<u8>,
    interim: usize,
    connected: bool,
    patient_until: Instant,
    moved: usize,
}

impl Origin {
    /// Makes the sockets of `size` connections, each with a receive window of `window` bytes.
    pub fn new(
        sockets: &mut SocketSet<'static>,
        endpoint: IpEndpoint,
        (size, window): (usize, usize),
        seed: u64,
        fresh: Fresh,
    ) -> Self {
        let buffer = |size| tcp::SocketBuffer::new(fresh(size));
        let mut line = || {
            let mut socket = tcp::Socket::new(buffer(window), buffer(SEND_BYTES));
            socket.set_nagle_enabled(false);
            Line { handle: sockets.add(socket), is_asked: false, ends_at: None }
        };
        let next_port = FIRST_PORT + (seed % u64::from(u16::MAX - FIRST_PORT)) as u16;
        Self { endpoint, next_port, lines: (0..size).map(|_| line()).collect() }
    }

    /// Whether one more question can be asked.
    pub fn is_free(&self) -> bool {
        self.lines.iter().any(Line::is_free)
    }

    /// Connects and asks; `request` is all of it. There is a free line.
    pub fn ask(
        &mut self,
        interface: &mut Interface,
        sockets: &mut SocketSet<'static>,
        request: Vec<u8>,
        now: Instant,
    ) -> Result<Exchange, Failure> {
        let index = self.lines.iter().position(Line::is_free).ok_or(Failure::Refused)?;
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        let line = &mut self.lines[index];
        let socket = sockets.get_mut::<tcp::Socket>(line.handle);
        socket.connect(interface.context(), self.endpoint, port).map_err(|_| Failure::Refused)?;
        line.is_asked = true;
        let patient_until = now + PATIENCE;
        Ok(Exchange { line: index, request, inbox: Vec::new(), interim: 0, connected: false, patient_until, moved: 0 })
    }

    /// Gives the line back after the whole answer.
    pub fn end(&mut self, exchange: Exchange, now: Instant) {
        let line = &mut self.lines[exchange.line];
        (line.is_asked, line.ends_at) = (false, Some(now + FAREWELL));
    }

    /// Gives the line back and wants no more of the answer.
    pub fn break_off(&mut self, sockets: &mut SocketSet<'static>, exchange: Exchange, now: Instant) {
        let line = &mut self.lines[exchange.line];
        sockets.get_mut::<tcp::Socket>(line.handle).abort();
        // The reset goes out with the next turn of the network; a new question at once would take its place.
        (line.is_asked, line.ends_at) = (false, Some(now));
    }

    /// Closes where the origin has closed, and where it does not.
    pub fn poll(&mut self, sockets: &mut SocketSet<'static>, now: Instant) -> bool {
        let mut changed = false;
        for line in &mut self.lines {
            let Some(ends_at) = line.ends_at else { continue };
            let socket = sockets.get_mut::<tcp::Socket>(line.handle);
            match socket.state() {
                tcp::State::Closed => line.ends_at = None,
                tcp::State::CloseWait => socket.close(),
                _ if now >= ends_at => socket.abort(),
                _ => continue,
            }
            changed = true;
        }
        changed
    }

    pub fn poll_at(&self) -> Option<Instant> {
        self.lines.iter().filter_map(|line| line.ends_at).min()
    }

    /// Sends what is left of the question, and gives the answer's head once it is there.
    pub fn head(&self, exchange: &mut Exchange, sockets: &mut SocketSet<'static>, now: Instant) -> Result<Option<Told>, Failure> {
        let socket = sockets.get_mut::<tcp::Socket>(self.lines[exchange.line].handle);
        exchange.connected |= socket.may_send();
        while !exchange.request.is_empty() && socket.can_send() {
            let count = socket.send_slice(&exchange.request).unwrap_or(0);
            exchange.request.drain(..count);
        }
        while socket.can_recv() && exchange.inbox.len() < LONGEST_HEAD_BYTES {
            let left = LONGEST_HEAD_BYTES - exchange.inbox.len();
            let inbox = &mut exchange.inbox;
            let taken = socket.recv(|bytes| {
                let count = bytes.len().min(left);
                inbox.extend_from_slice(&bytes[..count]);
                (count, ())
            });
            taken.map_err(|_| Failure::Malformed)?;
        }
        if let Some(told) = exchange.told()? {
            exchange.patient_until = now + PATIENCE;
            return Ok(Some(told));
        }
        match socket.state() {
            tcp::State::Closed if !exchange.connected => Err(Failure::Refused),
            tcp::State::Closed | tcp::State::CloseWait if !socket.can_recv() => Err(Failure::Malformed),
            _ if now >= exchange.patient_until => Err(Failure::TimedOut),
            _ => Ok(None),
        }
    }

    /// Reads on in the body; gives whether anything moved. The sink says how much it took.
    pub fn body(
        &self,
        exchange: &mut Exchange,
        reader: &mut Reader,
        sockets: &mut SocketSet<'static>,
        now: Instant,
        sink: &mut dyn FnMut(&[u8]) -> usize,
    ) -> Result<bool, Failure> {
        let socket = sockets.get_mut::<tcp::Socket>(self.lines[exchange.line].handle);
        let used = reader.take(&exchange.inbox, sink)?;
        exchange.inbox.drain(..used);
        let mut moved = used;
        while exchange.inbox.is_empty() && !reader.is_done() && socket.can_recv() {
            let used = socket.recv(|bytes| match reader.take(bytes, sink) {
                Ok(used) => (used, Ok(used)),
                Err(malformed) => (0, Err(malformed)),
            });
            match used.map_err(|_| Failure::Malformed)?? {
                0 => break,
                used => moved += used,
            }
        }
        exchange.moved += moved;
        if exchange.moved >= LEAST_BYTES {
            (exchange.moved, exchange.patient_until) = (0, now + PATIENCE);
        }
        let is_drained = exchange.inbox.is_empty() && !socket.can_recv();
        match socket.state() {
            _ if reader.is_done() => Ok(true),
            tcp::State::Closed | tcp::State::CloseWait if is_drained && !reader.may_end() => Err(Failure::Malformed),
            // After a reset nobody knows whether that was all.
            tcp::State::Closed if is_drained => Err(Failure::Malformed),
            // What is there waits for the sink, and that is not the origin's fault.
            _ if !is_drained => {
                exchange.patient_until = now + PATIENCE;
                Ok(moved > 0)
            }
            _ if now >= exchange.patient_until => Err(Failure::TimedOut),
            _ => Ok(moved > 0),
        }
    }

    /// Whether the origin has said that this is all.
    pub fn has_closed(&self, exchange: &Exchange, sockets: &SocketSet<'static>) -> bool {
        let socket = sockets.get::<tcp::Socket>(self.lines[exchange.line].handle);
        exchange.inbox.is_empty() && socket.state() == tcp::State::CloseWait && !socket.can_recv()
    }
}

impl Exchange {
    /// When patience ends.
    pub fn poll_at(&self) -> Instant {
        self.patient_until
    }

    /// Takes the head off the inbox, if it is there.
    fn told(&mut self) -> Result<Option<Told>, Failure> {
        loop {
            let (told, used) = match parse(&self.inbox) {
                Parsed::Partial => return Ok(None),
                Parsed::Malformed => return Err(Failure::Malformed),
                Parsed::Interim(used) => (None, used),
                Parsed::Complete(head, used) => {
                    (Some(Told { status: head.status, headers: head.headers.into(), framing: head.framing }), used)
                }
            };
            self.inbox.drain(..used);
            if told.is_some() {
                return Ok(told);
            }
            self.interim += 1;
            if self.interim > MOST_INTERIM {
                return Err(Failure::Malformed);
            }
        }
    }
}
