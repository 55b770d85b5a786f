//! An HTTP server on a bounded pool of TCP sockets.

use crate::app::http::{Body, LONGEST_BODY_BYTES, LONGEST_HEAD_BYTES, Parsed, Request, Response, Status, parse};
use crate::app::later::{Answer, Promise};
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::{AnySocket, tcp};
use smoltcp::time::{Duration, Instant};

const RECEIVE_BYTES: usize = 2048;
const SEND_BYTES: usize = 16 * 1024;
/// A request rarely needs more room than this; what does gives the rest back.
const ORDINARY_HEAD_BYTES: usize = 1024;
/// A client that has not got on for so long makes room for another.
const IDLE: Duration = Duration::from_secs(15);
/// Once we are to leave, a client without a request has so long to begin one.
const QUIET: Duration = Duration::from_secs(1);

/// Gives zeroed memory for ever.
pub type Fresh = fn(usize) -> &'static mut [u8];

/// Asks a role; bodies of requests are read and dropped.
pub type Ask<'a> = &'a mut dyn FnMut(&Request<'_>) -> Answer;

pub struct Server {
    port: u16,
    /// Who asks for this path only wants to know how we are.
    health: String,
    /// When the last request came that wanted more.
    worked_at: Instant,
    /// When we were told to leave.
    told_at: Option<Instant>,
    /// In the order of their sockets' places in the set.
    connections: Vec<Connection>,
}

struct Connection {
    handle: SocketHandle,
    inbox: Vec<u8>,
    head: Vec<u8>,
    body: Option<Response>,
    /// An answer that comes later, and whether only its head is wanted.
    waits: Option<(Promise, bool)>,
    sent: usize,
    skip: usize,
    closing: bool,
    /// Bytes of the answer that are in the socket, and not yet known to have come to the client.
    underway: usize,
    /// When the client last got on: connected, began a request, or took some of an answer. Bytes that trickle in do not count.
    moved_at: Instant,
    /// Since when it only waits for what a client that missed our last word may say again (TIME-WAIT).
    lingers_since: Option<Instant>,
    /// Of the socket, as we last saw it.
    state: tcp::State,
}

impl Server {
    /// Makes `size` sockets that listen on `port`, so that as many clients may connect at once.
    pub fn new(sockets: &mut SocketSet<'static>, port: u16, size: usize, fresh: Fresh) -> Self {
        let connections = (0..size).map(|_| Connection::new(sockets, port, fresh)).collect();
        Self { port, health: "/health".into(), worked_at: Instant::ZERO, told_at: None, connections }
    }

    /// Has requests for `path` not count as work.
    pub fn with_health(mut self, path: &str) -> Self {
        self.health = path.into();
        self
    }

    /// When somebody last wanted something; now, as long as anybody is here.
    pub fn wanted_at(&self, now: Instant) -> Instant {
        // Who has got our last word may keep its own end open for long; whoever leaves does not wait for that.
        let is_left = |one: &Connection| self.is_leaving() && one.state == tcp::State::FinWait2;
        let is_here = |one: &Connection| one.is_used() && one.lingers_since.is_none() && !is_left(one);
        if self.connections.iter().any(is_here) { now } else { self.worked_at }
    }

    /// Answers from now on whoever comes, but keeps no connection for another request.
    pub fn leave(&mut self, now: Instant) {
        self.told_at = Some(now);
    }

    pub fn is_leaving(&self) -> bool {
        self.told_at.is_some()
    }

    pub fn poll(&mut self, sockets: &mut SocketSet<'static>, now: Instant, ask: Ask<'_>) -> bool {
        let mut changed = false;
        let (health, worked_at) = (&self.health, &mut self.worked_at);
        let noting = &mut |request: &Request<'_>| {
            if request.path != health {
                *worked_at = now;
            }
            ask(request)
        };
        for connection in &mut self.connections {
            let socket = sockets.get_mut::<tcp::Socket>(connection.handle);
            changed |= connection.poll(socket, self.port, self.told_at, now, noting);
        }
        while self.connections.iter().filter(|one| one.lingers_since.is_some()).count() > self.connections.len() / 4 {
            changed |= self.end_longest_lingering(sockets);
        }
        self.put_in_order(sockets);
        changed
    }

    fn end_longest_lingering(&mut self, sockets: &mut SocketSet<'static>) -> bool {
        let lingering = self.connections.iter_mut().filter(|one| one.lingers_since.is_some());
        let Some(oldest) = lingering.min_by_key(|one| one.lingers_since) else { return false };
        oldest.listen(sockets.get_mut(oldest.handle), self.port)
    }

    /// Has the sockets in use stand first, then those that listen, then those that only linger.
    ///
    /// A packet goes to the first socket that takes it, and one that listens takes every SYN: also the repeated one of
    /// a connection that another socket has begun. Then two would answer the client, and it would be reset. But who
    /// begins anew from a port whose last connection lingers shall find a listener, not be refused for that.
    fn put_in_order(&mut self, sockets: &mut SocketSet<'static>) {
        self.put_last(sockets, |socket| socket.is_listening() || socket.state() == tcp::State::TimeWait);
        self.put_last(sockets, |socket| socket.state() == tcp::State::TimeWait);
    }

    fn put_last(&mut self, sockets: &mut SocketSet<'static>, is_last: fn(&tcp::Socket<'_>) -> bool) {
        let (mut front, mut back) = (0, self.connections.len());
        loop {
            let is_last = |place: usize| is_last(sockets.get(self.connections[place].handle));
            while front < back && !is_last(front) {
                front += 1;
            }
            while front < back && is_last(back - 1) {
                back -= 1;
            }
            if front >= back {
                return;
            }
            self.exchange(front, back - 1, sockets);
        }
    }

    /// Exchanges two connections, with their sockets' places in the set.
    fn exchange(&mut self, one: usize, other: usize, sockets: &mut SocketSet<'static>) {
        let handles = [self.connections[one].handle, self.connections[other].handle];
        let mut both = sockets.iter_mut().filter(|(handle, _)| handles.contains(handle));
        if let (Some((_, first)), Some((_, second))) = (both.next(), both.next())
            && let (Some(first), Some(second)) = (tcp::Socket::downcast_mut(first), tcp::Socket::downcast_mut(second))
        {
            mem::swap(first, second);
            self.connections.swap(one, other);
            (self.connections[one].handle, self.connections[other].handle) = (handles[0], handles[1]);
        }
    }

    /// When the first client that does not get on is to be dropped.
    pub fn poll_at(&self) -> Option<Instant> {
        self.connections.iter().filter(|one| one.is_used()).map(|one| one.ends_at(self.told_at)).min()
    }
}

impl Connection {
    fn new(sockets: &mut SocketSet<'static>, port: u16, fresh: Fresh) -> Self {
        let buffer = |size| tcp::SocketBuffer::new(fresh(size));
        let mut socket = tcp::Socket::new(buffer(RECEIVE_BYTES), buffer(SEND_BYTES));
        socket.set_nagle_enabled(false);
        // Before the first poll, or a waiting SYN would be answered with a reset.
        let _ = socket.listen(port);
        Self {
            handle: sockets.add(socket),
            inbox: Vec::new(),
            head: Vec::new(),
            body: None,
            waits: None,
            sent: 0,
            skip: 0,
            closing: false,
            underway: 0,
            moved_at: Instant::ZERO,
            lingers_since: None,
            state: tcp::State::Closed,
        }
    }

    fn is_used(&self) -> bool {
        self.moved_at != Instant::ZERO
    }

    /// When it is to be ended, if the client does not get on before.
    fn ends_at(&self, told_at: Option<Instant>) -> Instant {
        match told_at {
            Some(told_at) if self.is_quiet() => self.moved_at.max(told_at) + QUIET,
            _ => self.moved_at + IDLE,
        }
    }

    /// Whether the client has all that it asked for.
    fn is_quiet(&self) -> bool {
        let is_asking = !self.is_free() || !self.inbox.is_empty() || self.skip > 0 || self.underway > 0;
        self.state == tcp::State::Established && !is_asking
    }

    fn poll(&mut self, socket: &mut tcp::Socket<'_>, port: u16, told_at: Option<Instant>, now: Instant, ask: Ask<'_>) -> bool {
        let before = mem::replace(&mut self.state, socket.state());
        match self.state {
            tcp::State::Closed => return self.listen(socket, port),
            tcp::State::TimeWait if self.lingers_since.is_none() => {
                self.forget();
                self.lingers_since = Some(now);
            }
            _ => {}
        }
        if !socket.is_active() {
            // Nobody is here: also a handshake that the client broke off leaves the socket listening.
            self.forget();
            return false;
        }
        let has_connected = before == tcp::State::SynReceived && self.state != before;
        if !self.is_used() || has_connected || socket.send_queue() < self.underway {
            self.moved_at = now;
        }
        let mut changed = self.take_awaited();
        changed |= self.send(socket, now);
        changed |= self.receive(socket, now);
        while self.is_free() && !self.closing && self.take_request(told_at.is_some(), ask) {
            changed |= self.send(socket, now);
        }
        if self.awaits_us() && socket.send_queue() == 0 {
            self.moved_at = now;
        }
        changed |= self.end(socket, told_at, now);
        self.underway = socket.send_queue();
        changed
    }

    /// Whether no answer is under way.
    fn is_free(&self) -> bool {
        self.body.is_none() && self.waits.is_none()
    }

    /// Whether it is our turn, so that the client cannot get on.
    fn awaits_us(&self) -> bool {
        let is_starved = |one: &Response| matches!(&one.body, Body::Piped(takes) if takes.is_empty());
        self.waits.is_some() || (self.head.is_empty() && self.body.as_ref().is_some_and(is_starved))
    }

    fn listen(&mut self, socket: &mut tcp::Socket<'_>, port: u16) -> bool {
        self.forget();
        self.lingers_since = None;
        socket.listen(port).is_ok()
    }

    fn forget(&mut self) {
        self.inbox.clear();
        self.head.clear();
        (self.body, self.waits, self.sent, self.skip, self.closing, self.underway) = (None, None, 0, 0, false, 0);
        self.moved_at = Instant::ZERO;
    }

    fn receive(&mut self, socket: &mut tcp::Socket<'_>, now: Instant) -> bool {
        let begins = self.inbox.is_empty() && self.skip == 0;
        let mut changed = false;
        // A slice does not reach over the ring's end, so there may be a second one.
        while self.waits.is_none() && socket.can_recv() && self.inbox.len() <= LONGEST_HEAD_BYTES {
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
            changed = true;
        }
        if begins && changed {
            self.moved_at = now;
        }
        changed
    }

    /// Takes one request off the inbox and has it answered; `false` when there is none.
    fn take_request(&mut self, is_last: bool, ask: Ask<'_>) -> bool {
        let (answer, keep_alive, is_head, used, body_bytes) = match parse(&self.inbox) {
            Parsed::Partial => return false,
            Parsed::Bad(status) => (Response::plain(status).into(), false, false, self.inbox.len(), 0),
            Parsed::Complete(request, used) => {
                (ask(&request), request.keep_alive && !is_last, request.method == "HEAD", used, request.body_bytes)
            }
        };
        debug_assert!(body_bytes <= LONGEST_BODY_BYTES);
        let body_here = body_bytes.min(self.inbox.len() - used);
        self.inbox.drain(..used + body_here);
        self.inbox.shrink_to(ORDINARY_HEAD_BYTES);
        self.skip = body_bytes - body_here;
        self.closing = !keep_alive;
        match answer {
            Answer::Now(response) => self.begin(response, is_head),
            Answer::Later(promise) => self.waits = Some((promise, is_head)),
        }
        true
    }

    /// Begins with an answer that has come meanwhile.
    fn take_awaited(&mut self) -> bool {
        let Some((promise, is_head)) = &self.waits else { return false };
        let (Some(response), is_head) = (promise.take(), *is_head) else { return false };
        self.waits = None;
        self.begin(response, is_head);
        true
    }

    /// Puts an answer in the outbox. One of unknown length ends with the connection.
    fn begin(&mut self, mut response: Response, is_head: bool) {
        self.closing |= response.body.length().is_none();
        self.head = response.head(!self.closing);
        response.headers = String::new();
        if is_head {
            response.body = Body::Static(b"");
        }
        self.sent = 0;
        self.body = Some(response);
    }

    /// Sends what fits of head and body.
    fn send(&mut self, socket: &mut tcp::Socket<'_>, now: Instant) -> bool {
        let Some(response) = &self.body else { return false };
        let mut changed = false;
        while !self.head.is_empty() && socket.can_send() {
            let Ok(count) = socket.send_slice(&self.head) else { return changed };
            self.head.drain(..count);
            if self.head.is_empty() {
                self.head = Vec::new();
            }
            (self.moved_at, changed) = (now, true);
        }
        while self.head.is_empty() && socket.can_send() {
            let count = match &response.body {
                Body::Piped(takes) => takes.take(|bytes| socket.send_slice(bytes).unwrap_or(0)),
                body => socket.send_slice(body.piece(self.sent)).unwrap_or(0),
            };
            if count == 0 {
                break;
            }
            self.sent += count;
            (self.moved_at, changed) = (now, true);
        }
        let is_whole = match &response.body {
            // Only so can the client tell that something is missing.
            Body::Piped(takes) if takes.is_broken() && socket.send_queue() == 0 => {
                socket.abort();
                return true;
            }
            Body::Piped(takes) => takes.is_whole(),
            body => body.piece(self.sent).is_empty(),
        };
        if self.head.is_empty() && is_whole {
            self.body = None;
        }
        changed
    }

    /// Closes what is done, and drops who does not get on.
    fn end(&mut self, socket: &mut tcp::Socket<'_>, told_at: Option<Instant>, now: Instant) -> bool {
        let is_late = self.is_used() && now >= self.ends_at(told_at);
        if is_late && told_at.is_some() && self.is_quiet() {
            (self.closing, self.moved_at) = (true, now);
        }
        let done = self.closing && self.is_free();
        let gone = !socket.may_recv() && self.is_free() && self.is_used();
        if (done || gone) && socket.may_send() {
            socket.close();
            return true;
        }
        if is_late && socket.is_active() {
            self.time_out(socket);
            return true;
        }
        false
    }

    fn time_out(&mut self, socket: &mut tcp::Socket<'_>) {
        if self.is_free() && !self.inbox.is_empty() && socket.can_send() {
            let _ = socket.send_slice(&Response::plain(Status::RequestTimeout).head(false));
            socket.close();
        } else {
            socket.abort();
        }
        self.moved_at = Instant::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::wire::{PORT, Wire};
    use smoltcp::iface::Interface;
    use smoltcp::wire::IpAddress;

    const BIG: &[u8] = &[b'x'; 100_000];
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

    /// A server and a client, on a network and a clock of their own.
    struct Lab {
        device: Wire,
        interface: Interface,
        sockets: SocketSet<'static>,
        server: Server,
        client: SocketHandle,
        now: Instant,
    }

    impl Lab {
        fn new() -> Self {
            Self::with_places(1, 4096)
        }

        fn with_places(size: usize, client_bytes: usize) -> Self {
            let mut device = Wire::new();
            let now = Instant::from_millis(1);
            let interface = device.interface(now);
            let mut sockets = SocketSet::new(alloc::vec![]);
            let server = Server::new(&mut sockets, PORT, size, |size| alloc::vec![0; size].leak());
            let buffer = || tcp::SocketBuffer::new(alloc::vec![0; client_bytes]);
            let client = sockets.add(tcp::Socket::new(buffer(), buffer()));
            Self { device, interface, sockets, server, client, now }
        }

        fn client(&mut self) -> &mut tcp::Socket<'static> {
            self.sockets.get_mut(self.client)
        }

        fn connect(&mut self, port: u16) {
            let socket = self.sockets.get_mut::<tcp::Socket>(self.client);
            socket.connect(self.interface.context(), (IpAddress::v4(127, 0, 0, 1), PORT), port).unwrap();
        }

        fn turn(&mut self) {
            self.interface.poll(self.now, &mut self.device, &mut self.sockets);
            let answer = &mut |_: &Request<'_>| Response::new(Status::Ok, "text/plain", Body::Static(BIG)).into();
            while self.server.poll(&mut self.sockets, self.now, answer) {}
        }

        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.now += Duration::from_millis(20);
                self.turn();
            }
        }

        fn taken(&mut self, most: usize) -> usize {
            let mut bytes = alloc::vec![0; most];
            self.client().recv_slice(&mut bytes).unwrap_or(0)
        }
    }

    #[test]
    fn a_slow_download_comes_to_its_end() {
        let mut lab = Lab::new();
        lab.connect(1000);
        lab.pass(Duration::from_secs(1));
        lab.client().send_slice(REQUEST).unwrap();
        let mut taken = 0;
        for _ in 0..120 {
            lab.pass(Duration::from_millis(500));
            taken += lab.taken(1000);
        }
        assert!(taken > BIG.len(), "fifty seconds at 2 kB/s, cut off after {taken} bytes");
    }

    #[test]
    fn who_takes_nothing_is_dropped() {
        let mut lab = Lab::new();
        lab.connect(1000);
        lab.pass(Duration::from_secs(1));
        lab.client().send_slice(REQUEST).unwrap();
        lab.pass(IDLE + Duration::from_secs(10));
        assert!(!lab.client().may_send());
    }

    #[test]
    fn a_head_that_trickles_in_is_cut_off() {
        let mut lab = Lab::new();
        lab.connect(1000);
        lab.pass(Duration::from_secs(1));
        for byte in REQUEST.iter().take(20) {
            let _ = lab.client().send_slice(&[*byte]);
            lab.pass(Duration::from_secs(1));
        }
        let mut answer = [0; 12];
        let _ = lab.client().recv_slice(&mut answer);
        assert_eq!(&answer, b"HTTP/1.1 408");
    }

    #[test]
    fn a_broken_handshake_leaves_nothing_to_wait_for() {
        let mut lab = Lab::new();
        lab.connect(1000);
        let listening = lab.server.connections[0].handle;
        while lab.sockets.get::<tcp::Socket>(listening).state() != tcp::State::SynReceived {
            lab.interface.poll_egress(lab.now, &mut lab.device, &mut lab.sockets);
            lab.interface.poll_ingress_single(lab.now, &mut lab.device, &mut lab.sockets);
            lab.now += Duration::from_millis(1);
        }
        let answer = &mut |_: &Request<'_>| Response::plain(Status::Ok).into();
        lab.server.poll(&mut lab.sockets, lab.now, answer);
        lab.client().abort();
        lab.pass(IDLE * 2);
        assert_eq!(lab.sockets.get::<tcp::Socket>(listening).state(), tcp::State::Listen);
        assert_eq!(lab.server.poll_at(), None);
        lab.connect(1001);
        lab.pass(Duration::from_secs(1));
        assert!(lab.client().may_send(), "the next client is served");
    }

    #[test]
    fn no_client_on_a_lossy_link_is_reset() {
        let mut lab = Lab::with_places(4, 65_536);
        lab.device.lost_per_mille = 30;
        for port in 1000..1300 {
            lab.connect(port);
            let (mut taken, mut asked) = (0, false);
            for _ in 0..6_000 {
                lab.pass(Duration::from_millis(20));
                if !asked && lab.client().may_send() {
                    lab.client().send_slice(REQUEST).unwrap();
                    asked = true;
                }
                taken += lab.taken(4096);
                if asked && !lab.client().may_recv() {
                    break;
                }
            }
            assert!(taken > BIG.len(), "client {port} was cut off after {taken} bytes");
            lab.client().close();
            lab.pass(Duration::from_secs(20));
            lab.client().abort();
            lab.pass(Duration::from_millis(20));
        }
        assert_eq!(lab.device.resets_by_server, 0);
    }

    #[test]
    fn a_repeated_syn_stays_with_the_socket_that_took_the_first() {
        let mut lab = Lab::with_places(3, 4096);
        lab.connect(1000);
        lab.pass(Duration::from_millis(100));
        let buffer = || tcp::SocketBuffer::new(alloc::vec![0; 4096]);
        let second = lab.sockets.add(tcp::Socket::new(buffer(), buffer()));
        let first = mem::replace(&mut lab.client, second);
        lab.connect(1001);
        lab.interface.poll_egress(lab.now, &mut lab.device, &mut lab.sockets);
        let syn = lab.device.under_way[0].clone();
        lab.pass(Duration::from_millis(100));
        // The first client's place is free again, and before that of the second.
        lab.sockets.get_mut::<tcp::Socket>(first).abort();
        lab.pass(Duration::from_millis(100));
        lab.device.send(syn);
        lab.pass(Duration::from_secs(3));
        assert!(lab.client().may_send(), "the second client is served");
        assert_eq!(lab.device.resets_by_server, 0);
    }

    #[test]
    fn who_begins_anew_from_the_port_of_a_lingering_connection_is_answered() {
        let mut lab = Lab::with_places(8, 65_536);
        for _ in 0..3 {
            lab.connect(1000);
            lab.pass(Duration::from_millis(100));
            assert!(lab.client().may_send(), "a handshake is not kept waiting");
            lab.client().send_slice(b"nonsense\r\n\r\n").unwrap();
            lab.pass(Duration::from_millis(100));
            // The server has closed first, and lingers.
            lab.client().close();
            lab.pass(Duration::from_millis(100));
            assert_eq!(lab.client().state(), tcp::State::Closed);
            assert!(lab.server.connections.iter().any(|one| one.lingers_since.is_some()));
        }
    }

    const KEPT: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    const IN_TURN: Duration = Duration::from_millis(100);

    impl Lab {
        /// Everything that the client can take now.
        fn answer(&mut self) -> String {
            let mut all = Vec::new();
            for _ in 0..100 {
                self.pass(Duration::from_millis(20));
                self.client().recv(|bytes| (bytes.len(), all.extend_from_slice(bytes))).unwrap_or(());
            }
            String::from_utf8(all).unwrap()
        }

        fn ask(&mut self, request: &[u8]) -> String {
            self.client().send_slice(request).unwrap();
            self.answer()
        }

        fn leave(&mut self) {
            self.server.leave(self.now);
        }

        fn is_anybody_here(&self) -> bool {
            self.server.wanted_at(self.now) == self.now
        }
    }

    fn is_whole(answer: &str) -> bool {
        answer.starts_with("HTTP/1.1 200") && answer.len() > BIG.len()
    }

    fn is_last(answer: &str) -> bool {
        is_whole(answer) && answer.contains("Connection: close")
    }

    #[test]
    fn who_leaves_gives_each_client_one_last_answer() {
        let mut lab = Lab::with_places(4, 65_536);
        lab.connect(1000);
        lab.pass(IN_TURN);
        assert!(!is_last(&lab.ask(KEPT)));
        lab.leave();
        lab.pass(QUIET / 2);
        assert!(is_last(&lab.ask(KEPT)), "a request in time is answered");
        assert_eq!(lab.client().state(), tcp::State::CloseWait);
        lab.client().close();
        lab.pass(IN_TURN);
        assert!(!lab.is_anybody_here());
        assert_eq!(lab.device.resets_by_server, 0);
    }

    #[test]
    fn who_leaves_finishes_an_answer_that_has_begun_and_takes_one_more_request() {
        let mut lab = Lab::with_places(4, 4096);
        lab.connect(1000);
        lab.pass(IN_TURN);
        lab.client().send_slice(KEPT).unwrap();
        lab.pass(IN_TURN);
        lab.leave();
        let mut taken = 0;
        for _ in 0..45 {
            lab.pass(QUIET / 2);
            assert!(lab.is_anybody_here());
            taken += lab.taken(2000);
        }
        // All of it is in the socket now, and the client takes its time.
        lab.pass(QUIET * 3);
        while taken <= BIG.len() {
            lab.pass(Duration::from_millis(20));
            taken += lab.taken(4096);
        }
        lab.client().send_slice(KEPT).unwrap();
        assert!(lab.answer().contains("Connection: close"), "what was promised is kept");
    }

    #[test]
    fn who_leaves_closes_to_a_client_that_asks_for_nothing_more() {
        let mut lab = Lab::with_places(4, 65_536);
        lab.connect(1000);
        lab.pass(IN_TURN);
        lab.ask(KEPT);
        // Nearly as long as a client may do nothing at all.
        lab.pass(IDLE - Duration::from_millis(2_500));
        lab.leave();
        let told_at = lab.now;
        lab.pass(QUIET - IN_TURN);
        assert!(lab.client().may_recv() && lab.is_anybody_here());
        assert_eq!(lab.server.poll_at(), Some(told_at + QUIET));
        lab.pass(IN_TURN * 2);
        assert_eq!(lab.client().state(), tcp::State::CloseWait);
        assert!(!lab.is_anybody_here(), "it may keep its own end open");
        lab.pass(Duration::from_secs(5));
        assert_eq!(lab.device.resets_by_server, 0);
    }

    #[test]
    fn who_leaves_waits_for_the_rest_of_a_request() {
        let sent = b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbodyGET / HTTP/1.1\r\nHost: h\r\n\r\n";
        for length in [10, sent.len() - KEPT.len() - 2] {
            let mut lab = Lab::with_places(4, 65_536);
            lab.connect(1000);
            lab.pass(IN_TURN);
            lab.ask(&sent[..length]);
            lab.leave();
            lab.pass(QUIET * 10);
            assert!(lab.is_anybody_here());
            assert!(is_last(&lab.ask(&sent[length..])));
        }
    }

    #[test]
    fn who_leaves_answers_also_who_comes_late() {
        let mut lab = Lab::with_places(4, 65_536);
        lab.leave();
        lab.pass(QUIET * 3);
        assert!(!lab.is_anybody_here());
        lab.connect(1000);
        lab.pass(QUIET / 2);
        assert!(lab.is_anybody_here());
        assert!(is_last(&lab.ask(KEPT)));
        lab.client().close();
        lab.pass(IN_TURN);
        assert!(!lab.is_anybody_here());
    }

    #[test]
    fn a_late_client_has_its_time_from_when_it_is_connected() {
        let mut lab = Lab::with_places(1, 65_536);
        lab.leave();
        lab.connect(1000);
        // Its word that the connection stands is lost, and comes again later than it has time to ask.
        let handle = lab.server.connections[0].handle;
        while lab.sockets.get::<tcp::Socket>(handle).state() != tcp::State::SynReceived {
            lab.interface.poll_egress(lab.now, &mut lab.device, &mut lab.sockets);
            lab.interface.poll_ingress_single(lab.now, &mut lab.device, &mut lab.sockets);
        }
        lab.device.lost_per_mille = 1000;
        lab.pass(QUIET);
        lab.device.lost_per_mille = 0;
        while lab.sockets.get::<tcp::Socket>(handle).state() == tcp::State::SynReceived {
            lab.pass(Duration::from_millis(20));
        }
        lab.pass(QUIET / 2);
        assert!(is_last(&lab.ask(KEPT)));
    }

    #[test]
    fn only_who_leaves_does_not_wait_for_a_client_to_close_its_end() {
        let mut lab = Lab::with_places(4, 65_536);
        lab.connect(1000);
        lab.pass(IN_TURN);
        assert!(is_last(&lab.ask(REQUEST)));
        assert!(lab.is_anybody_here());
        lab.leave();
        assert!(!lab.is_anybody_here());
    }
}
