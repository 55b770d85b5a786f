//! An HTTP server on a bounded pool of TCP sockets.

use crate::app::http::{LONGEST_BODY_BYTES, LONGEST_HEAD_BYTES, Parsed, Request, Response, Status, parse};
use crate::hal;
use alloc::vec::Vec;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};

const RECEIVE_BYTES: usize = 2048;
const SEND_BYTES: usize = 16 * 1024;
/// A client that sends nothing for so long makes room for another.
const IDLE: Duration = Duration::from_secs(15);

/// What a role answers; bodies of requests are read and dropped.
pub type Answer<'a> = &'a mut dyn FnMut(&Request<'_>) -> Response;

pub struct Server {
    port: u16,
    connections: Vec<Connection>,
}

struct Connection {
    handle: SocketHandle,
    inbox: Vec<u8>,
    head: Vec<u8>,
    body: Option<Response>,
    sent: usize,
    skip: usize,
    closing: bool,
    heard_at: Instant,
}

impl Server {
    /// Makes `size` sockets that listen on `port`, so that as many clients may connect at once.
    pub fn new(sockets: &mut SocketSet<'static>, port: u16, size: usize) -> Self {
        let connections = (0..size).map(|_| Connection::new(sockets, port)).collect();
        Self { port, connections }
    }

    pub fn poll(&mut self, sockets: &mut SocketSet<'static>, now: Instant, answer: Answer<'_>) -> bool {
        let mut changed = false;
        for connection in &mut self.connections {
            let socket = sockets.get_mut::<tcp::Socket>(connection.handle);
            changed |= connection.poll(socket, self.port, now, answer);
        }
        changed
    }

    /// When the first silent client is to be dropped.
    pub fn poll_at(&self) -> Option<Instant> {
        self.connections.iter().filter(|connection| connection.is_used()).map(|connection| connection.heard_at + IDLE).min()
    }
}

impl Connection {
    fn new(sockets: &mut SocketSet<'static>, port: u16) -> Self {
        let buffer = |size| tcp::SocketBuffer::new(hal::fresh(size));
        let mut socket = tcp::Socket::new(buffer(RECEIVE_BYTES), buffer(SEND_BYTES));
        socket.set_nagle_enabled(false);
        // Before the first poll, or a waiting SYN would be answered with a reset.
        let _ = socket.listen(port);
        Self {
            handle: sockets.add(socket),
            inbox: Vec::new(),
            head: Vec::new(),
            body: None,
            sent: 0,
            skip: 0,
            closing: false,
            heard_at: Instant::ZERO,
        }
    }

    fn is_used(&self) -> bool {
        self.heard_at != Instant::ZERO
    }

    fn poll(&mut self, socket: &mut tcp::Socket<'_>, port: u16, now: Instant, answer: Answer<'_>) -> bool {
        if !socket.is_open() {
            self.forget();
            return socket.listen(port).is_ok();
        }
        if !self.is_used() && socket.is_active() {
            self.heard_at = now;
        }
        let mut changed = self.send(socket);
        changed |= self.receive(socket, now);
        while self.body.is_none() && !self.closing && self.take_request(answer) {
            changed |= self.send(socket);
        }
        changed | self.end(socket, now)
    }

    fn forget(&mut self) {
        self.inbox.clear();
        self.head.clear();
        (self.body, self.sent, self.skip, self.closing, self.heard_at) = (None, 0, 0, false, Instant::ZERO);
    }

    fn receive(&mut self, socket: &mut tcp::Socket<'_>, now: Instant) -> bool {
        let mut changed = false;
        // A slice does not reach over the ring's end, so there may be a second one.
        while socket.can_recv() && self.inbox.len() <= LONGEST_HEAD_BYTES {
            let inbox = &mut self.inbox;
            let skip = &mut self.skip;
            let taken = socket.recv(|bytes| {
                let skipped = (*skip).min(bytes.len());
                *skip -= skipped;
                inbox.extend_from_slice(&bytes[skipped..]);
                (bytes.len(), bytes.len())
            });
            if taken.is_err() {
                break;
            }
            (self.heard_at, changed) = (now, true);
        }
        changed
    }

    /// Takes one request off the inbox and puts its answer in the outbox; `false` when there is none.
    fn take_request(&mut self, answer: Answer<'_>) -> bool {
        let (response, keep_alive, is_head, used, body_bytes) = match parse(&self.inbox) {
            Parsed::Partial => return false,
            Parsed::Bad(status) => (Response::plain(status), false, false, self.inbox.len(), 0),
            Parsed::Complete(request, used) => {
                (answer(&request), request.keep_alive, request.method == "HEAD", used, request.body_bytes)
            }
        };
        debug_assert!(body_bytes <= LONGEST_BODY_BYTES);
        let body_here = body_bytes.min(self.inbox.len() - used);
        self.inbox.drain(..used + body_here);
        self.skip = body_bytes - body_here;
        self.closing = !keep_alive;
        self.head = response.head(keep_alive);
        // Of an answer to HEAD only the head goes out: its body counts as sent.
        self.sent = if is_head { response.body.bytes().len() } else { 0 };
        self.body = Some(response);
        true
    }

    /// Sends what fits of head and body.
    fn send(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        let Some(response) = &self.body else { return false };
        let mut changed = false;
        while !self.head.is_empty() && socket.can_send() {
            let Ok(count) = socket.send_slice(&self.head) else { return changed };
            self.head.drain(..count);
            changed = true;
        }
        let body = response.body.bytes();
        while self.head.is_empty() && self.sent < body.len() && socket.can_send() {
            let Ok(count) = socket.send_slice(&body[self.sent..]) else { return changed };
            self.sent += count;
            changed = true;
        }
        if self.head.is_empty() && self.sent >= body.len() {
            self.body = None;
            self.sent = 0;
        }
        changed
    }

    /// Closes what is done, and drops who stays silent.
    fn end(&mut self, socket: &mut tcp::Socket<'_>, now: Instant) -> bool {
        let done = self.closing && self.body.is_none();
        let gone = !socket.may_recv() && self.body.is_none() && self.is_used();
        if (done || gone) && socket.may_send() {
            socket.close();
            return true;
        }
        if self.is_used() && now >= self.heard_at + IDLE && socket.is_active() {
            self.time_out(socket);
            return true;
        }
        false
    }

    fn time_out(&mut self, socket: &mut tcp::Socket<'_>) {
        if self.body.is_none() && !self.inbox.is_empty() && socket.can_send() {
            let _ = socket.send_slice(&Response::plain(Status::RequestTimeout).head(false));
            socket.close();
        } else {
            socket.abort();
        }
        self.heard_at = Instant::ZERO;
    }
}
