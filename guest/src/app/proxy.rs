//! The micro content-proxy: asks an origin for what is not here, stores what may be stored, and passes on the rest
//! (RFC 9110, RFC 9111).
//!
//! Who asks for the same at the same time shares one question. An answer that may be stored is told when all of it is
//! here; any other one runs through a pipe of a few kilobytes, no faster than its client takes it.

use crate::app::cache::{Cache, Contents, Entry, Freshness, policy};
use crate::app::http::{Body, Request, Response, Status, header};
use crate::app::later::{Answer, Brings, Promise, pipe};
use crate::app::origin::{Exchange, Failure, Origin, PATIENCE, SEND_BYTES, Told};
use crate::app::reply::{Framing, Head, Reader, end_to_end, kept};
use crate::app::server::Fresh;
use crate::app::web::{Beyond, Resource, serve};
use crate::config::{Config, ConfigError};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::mem;
use core::net::SocketAddrV4;
use smoltcp::iface::{Interface, SocketSet};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::IpEndpoint;

/// Lines of a client's request that bear on its own answer.
const ASKED: [&str; 5] = ["range", "if-range", "if-none-match", "if-modified-since", "authorization"];

/// Where the origin is, and what to keep of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    origin: IpEndpoint,
    host: String,
    budget: usize,
    connections: usize,
    window: usize,
    ttl: Duration,
}

/// The least and the most that a connection to the origin has under way.
const WINDOWS: (usize, usize) = (32 * 1024, 256 * 1024);

/// Who has nothing stale to fall back on waits so long for a free connection: as long as a long download may take.
const QUEUE_PATIENCE: Duration = Duration::from_secs(30);

/// Questions to the origin at once.
const CONNECTIONS: usize = 4;
const MOST_CONNECTIONS: usize = 64;

impl Options {
    /// Reads `origin=ADDRESS:PORT`, `origin-host=NAME`, `origin-connections=4`, `cache=BYTES` and `cache-ttl=60s`; `None`
    /// without an origin.
    pub fn read(config: &Config, memory_bytes: usize) -> Result<Option<Self>, ConfigError> {
        let refuse = |key: &str, reason| Err(ConfigError { key: key.into(), reason });
        let Some(text) = config.get("origin").filter(|text| !text.is_empty()) else { return Ok(None) };
        let Some(origin) = text.parse::<SocketAddrV4>().ok().filter(|origin| origin.port() != 0) else {
            return refuse("origin", "is not an address and a port such as 10.0.16.2:8080");
        };
        let host = config.get("origin-host").unwrap_or(text);
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refuse("origin-host", "is not a name");
        }
        let connections = config.parsed("origin-connections", CONNECTIONS)?;
        if !(1..=MOST_CONNECTIONS).contains(&connections) {
            return refuse("origin-connections", "is not between 1 and 64");
        }
        let window = (memory_bytes / 32).clamp(WINDOWS.0, WINDOWS.1);
        let more = connections.saturating_sub(CONNECTIONS) * (window + SEND_BYTES);
        let budget = config.parsed("cache", (memory_bytes / 4).saturating_sub(more))?;
        if budget > memory_bytes {
            return refuse("cache", "is more than the instance has; give it more memory");
        }
        let ttl = config.duration("cache-ttl", core::time::Duration::from_secs(60))?;
        let ttl = Duration::from_millis(ttl.as_millis().min(1 << 40) as u64);
        Ok(Some(Self { origin: origin.into(), host: host.into(), budget, connections, window, ttl }))
    }
}

pub struct Proxy {
    host: String,
    ttl: Duration,
    origin: Origin,
    cache: Cache,
    passing: Passing,
    fetches: Vec<Fetch>,
}

/// A question to the origin, from the time it is known to the end of its answer.
struct Fetch {
    key: String,
    /// For one client with all it asked, and nothing of it is stored.
    is_alone: bool,
    /// What is stored and stale; it stays so long as somebody holds it.
    old: Option<Rc<Contents>>,
    clients: Vec<Client>,
    /// Until when it may wait for a free connection.
    waits_until: Instant,
    asked_at: Instant,
    stage: Stage,
}

struct Client {
    promise: Promise,
    is_get: bool,
    lines: String,
}

enum Stage {
    Queued,
    Asked(Exchange),
    Gathering { exchange: Exchange, reader: Reader, headers: String, freshness: Freshness, contents: Contents },
    Passing { exchange: Exchange, reader: Reader, brings: Brings },
    Done,
}

impl Beyond for Proxy {
    fn answer(&mut self, request: &Request<'_>, now: Instant) -> Answer {
        self.answered(request, now)
    }
}

impl Proxy {
    pub fn new(sockets: &mut SocketSet<'static>, options: Options, seed: u64, fresh: Fresh) -> Self {
        let Options { origin, host, budget, connections, window, ttl } = options;
        let origin = Origin::new(sockets, origin, (connections, window), seed, fresh);
        Self { host, ttl, origin, cache: Cache::new(fresh(budget)), passing: Passing::default(), fetches: Vec::new() }
    }

    fn answered(&mut self, request: &Request<'_>, now: Instant) -> Answer {
        let key = request.target;
        let lines = kept(request.head, &|name| ASKED.iter().any(|asked| name.eq_ignore_ascii_case(asked)));
        // What another parser might take for the end of a line does not go on to the origin.
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) || lines.replace("\r\n", "").bytes().any(|byte| byte < b' ') {
            return Response::plain(Status::BadRequest).into();
        }
        let is_open = request.header("authorization").is_none();
        let client = Client { promise: Promise::default(), is_get: request.method == "GET", lines };
        let old = self.cache.find(key).filter(|_| is_open);
        if let Some(entry) = &old {
            if entry.is_fresh(now) {
                return stored(entry, &client, "hit", now).into();
            }
            if now < entry.retry_at && !entry.freshness.must_revalidate {
                return stored(entry, &client, "stale", now).into();
            }
        }
        let promise = client.promise.clone();
        let is_alone = !is_open || self.passing.has(key, now);
        if let Some(fetch) = self.fetches.iter_mut().find(|fetch| !is_alone && fetch.may_be_shared(key)) {
            fetch.clients.push(client);
        } else {
            let may_be_stale = old.as_ref().is_some_and(|entry| !entry.freshness.must_revalidate);
            let waits_until = now + if may_be_stale { PATIENCE } else { QUEUE_PATIENCE };
            let old = old.map(|entry| entry.contents.clone());
            self.fetches.push(Fetch::new(key.into(), is_alone, old, alloc::vec![client], waits_until));
        }
        Answer::Later(promise)
    }

    pub fn poll(&mut self, interface: &mut Interface, sockets: &mut SocketSet<'static>, now: Instant) -> bool {
        let mut changed = self.origin.poll(sockets, now);
        for mut fetch in mem::take(&mut self.fetches) {
            fetch.clients.retain(|client| client.promise.is_wanted());
            let stage = mem::replace(&mut fetch.stage, Stage::Done);
            let (stage, moved) = match stage {
                Stage::Queued => self.ask(&mut fetch, interface, sockets, now),
                Stage::Asked(exchange) => self.await_head(&mut fetch, exchange, sockets, now),
                Stage::Gathering { exchange, reader, headers, freshness, contents } => {
                    self.gather(&mut fetch, exchange, reader, (headers, freshness, contents), sockets, now)
                }
                Stage::Passing { exchange, reader, brings } => self.pass(exchange, reader, brings, sockets, now),
                Stage::Done => (Stage::Done, false),
            };
            changed |= moved;
            if !matches!(stage, Stage::Done) {
                fetch.stage = stage;
                self.fetches.push(fetch);
            }
        }
        changed
    }

    /// When an origin, or a connection to it, has been waited for long enough.
    pub fn poll_at(&self) -> Option<Instant> {
        let patience = self.fetches.iter().filter_map(|fetch| match &fetch.stage {
            Stage::Asked(exchange) | Stage::Gathering { exchange, .. } | Stage::Passing { exchange, .. } => {
                Some(exchange.poll_at())
            }
            Stage::Queued => Some(fetch.waits_until),
            Stage::Done => None,
        });
        patience.chain(self.origin.poll_at()).min()
    }

    fn ask(
        &mut self,
        fetch: &mut Fetch,
        interface: &mut Interface,
        sockets: &mut SocketSet<'static>,
        now: Instant,
    ) -> (Stage, bool) {
        if fetch.clients.is_empty() {
            return (Stage::Done, true);
        }
        if !self.origin.is_free() {
            let may_wait = now < fetch.waits_until;
            return if may_wait { (Stage::Queued, false) } else { self.fail(fetch, Failure::Busy, now) };
        }
        let lines = if fetch.is_alone { fetch.clients[0].lines.clone() } else { self.conditions(fetch) };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nVia: 1.1 wisp\r\nAccept-Encoding: identity\r\n{lines}\r\n",
            fetch.key, self.host
        );
        fetch.asked_at = now;
        match self.origin.ask(interface, sockets, request.into_bytes(), now) {
            Ok(exchange) => (Stage::Asked(exchange), true),
            Err(failure) => self.fail(fetch, failure, now),
        }
    }

    /// What makes the origin say 304 when what is stored still holds.
    fn conditions(&mut self, fetch: &Fetch) -> String {
        let entry = self.cache.find(&fetch.key).filter(|_| fetch.old.is_some());
        let stored = |name| header(entry.as_ref()?.headers.as_str(), name);
        let etag = stored("etag").map_or(String::new(), |etag| format!("If-None-Match: {etag}\r\n"));
        let date = stored("last-modified").map_or(String::new(), |date| format!("If-Modified-Since: {date}\r\n"));
        etag + &date
    }

    fn await_head(
        &mut self,
        fetch: &mut Fetch,
        mut exchange: Exchange,
        sockets: &mut SocketSet<'static>,
        now: Instant,
    ) -> (Stage, bool) {
        if fetch.clients.is_empty() {
            self.origin.break_off(sockets, exchange, now);
            return (Stage::Done, true);
        }
        match self.origin.head(&mut exchange, sockets, now) {
            Ok(None) => (Stage::Asked(exchange), false),
            Ok(Some(told)) => self.hear(fetch, exchange, told, sockets, now),
            Err(failure) => {
                self.origin.break_off(sockets, exchange, now);
                self.fail(fetch, failure, now)
            }
        }
    }

    /// Decides what becomes of an answer by its head.
    fn hear(
        &mut self,
        fetch: &mut Fetch,
        exchange: Exchange,
        told: Told,
        sockets: &mut SocketSet<'static>,
        now: Instant,
    ) -> (Stage, bool) {
        let reader = Reader::new(told.framing);
        if fetch.is_alone {
            return self.begin_to_pass(fetch, exchange, &told, now);
        }
        let is_useless = told.status >= 500 && fetch.old.is_some() || told.status == 304 && fetch.old.is_none();
        if is_useless {
            self.origin.break_off(sockets, exchange, now);
            return self.fail(fetch, Failure::Malformed, now);
        }
        if told.status == 304 {
            self.origin.end(exchange, now);
            return self.refresh(fetch, &told, now);
        }
        let head = Head { status: told.status, headers: &told.headers, framing: told.framing };
        let fits = !matches!(told.framing, Framing::Length(length) if length > self.cache.longest());
        if let Some(freshness) = policy(&head, self.ttl, fetch.asked_at).filter(|_| fits) {
            let (headers, contents) = (end_to_end(&told.headers), Contents::default());
            return (Stage::Gathering { exchange, reader, headers, freshness, contents }, true);
        }
        self.cache.remove(&fetch.key);
        if told.status == 200 {
            self.passing.add(&fetch.key, now + self.ttl);
        }
        // A range of it is asked for anew, since this is the whole.
        let is_for = |client: &Client| told.status != 200 || !client.is_get || header(&client.lines, "range").is_none();
        let first = fetch.clients.iter().position(is_for).map(|index| fetch.clients.swap_remove(index));
        self.split(fetch, now);
        match first {
            None => {
                self.origin.break_off(sockets, exchange, now);
                (Stage::Done, true)
            }
            Some(client) => {
                fetch.clients.push(client);
                self.begin_to_pass(fetch, exchange, &told, now)
            }
        }
    }

    /// Has each client's question asked on its own.
    fn split(&mut self, fetch: &mut Fetch, now: Instant) {
        for client in fetch.clients.drain(..) {
            self.fetches.push(Fetch::new(fetch.key.clone(), true, None, alloc::vec![client], now + QUEUE_PATIENCE));
        }
    }

    fn begin_to_pass(&mut self, fetch: &mut Fetch, exchange: Exchange, told: &Told, now: Instant) -> (Stage, bool) {
        let length = match told.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked | Framing::UntilClose => None,
        };
        let (brings, takes) = pipe(length);
        let age = kept(&told.headers, &|name| name.eq_ignore_ascii_case("age") || name.eq_ignore_ascii_case("accept-ranges"));
        let headers = format!("{}{age}X-Cache: miss\r\n", end_to_end(&told.headers));
        if let Some(client) = fetch.clients.pop() {
            client.promise.keep(Response { status: Status::Passed(told.status), headers, body: Body::Piped(takes) });
        }
        let reader = Reader::new(told.framing);
        if !reader.is_done() {
            return (Stage::Passing { exchange, reader, brings }, true);
        }
        brings.end();
        self.origin.end(exchange, now);
        (Stage::Done, true)
    }

    fn pass(
        &mut self,
        mut exchange: Exchange,
        mut reader: Reader,
        brings: Brings,
        sockets: &mut SocketSet<'static>,
        now: Instant,
    ) -> (Stage, bool) {
        if !brings.is_wanted() {
            self.origin.break_off(sockets, exchange, now);
            return (Stage::Done, true);
        }
        let moved = self.origin.body(&mut exchange, &mut reader, sockets, now, &mut |bytes| brings.bring(bytes));
        match moved {
            Ok(_) if self.is_whole(&exchange, &reader, sockets) => {
                brings.end();
                self.origin.end(exchange, now);
                (Stage::Done, true)
            }
            Ok(moved) => (Stage::Passing { exchange, reader, brings }, moved),
            Err(_) => {
                brings.break_off();
                self.origin.break_off(sockets, exchange, now);
                (Stage::Done, true)
            }
        }
    }

    fn is_whole(&self, exchange: &Exchange, reader: &Reader, sockets: &SocketSet<'static>) -> bool {
        reader.is_done() || (reader.may_end() && self.origin.has_closed(exchange, sockets))
    }

    fn gather(
        &mut self,
        fetch: &mut Fetch,
        mut exchange: Exchange,
        mut reader: Reader,
        (headers, freshness, mut contents): (String, Freshness, Contents),
        sockets: &mut SocketSet<'static>,
        now: Instant,
    ) -> (Stage, bool) {
        let (cache, mut has_room) = (&mut self.cache, true);
        let moved = self.origin.body(&mut exchange, &mut reader, sockets, now, &mut |bytes| {
            has_room = has_room && cache.append(&mut contents, bytes);
            if has_room { bytes.len() } else { 0 }
        });
        match moved {
            _ if !has_room => {
                self.cache.take_back(contents);
                self.cache.remove(&fetch.key);
                self.passing.add(&fetch.key, now + self.ttl);
                self.origin.break_off(sockets, exchange, now);
                self.split(fetch, now);
                (Stage::Done, true)
            }
            Ok(_) if reader.is_done() => {
                self.origin.end(exchange, now);
                let entry = Entry::new(mem::take(&mut fetch.key), headers, freshness, contents);
                fetch.tell(&entry, "miss", now);
                self.cache.put(entry);
                (Stage::Done, true)
            }
            Ok(moved) => (Stage::Gathering { exchange, reader, headers, freshness, contents }, moved),
            Err(failure) => {
                self.cache.take_back(contents);
                self.origin.break_off(sockets, exchange, now);
                self.fail(fetch, failure, now)
            }
        }
    }

    /// Takes over a 304.
    fn refresh(&mut self, fetch: &mut Fetch, told: &Told, now: Instant) -> (Stage, bool) {
        if let Some(entry) = self.cache.find(&fetch.key) {
            entry.refresh(&end_to_end(&told.headers), &told.headers, self.ttl, fetch.asked_at);
            fetch.tell(entry, "revalidated", now);
        }
        (Stage::Done, true)
    }

    /// Tells what is stored where that is allowed, and else what went wrong.
    fn fail(&mut self, fetch: &mut Fetch, failure: Failure, now: Instant) -> (Stage, bool) {
        let old = self.cache.find(&fetch.key).filter(|entry| fetch.old.is_some() && !entry.freshness.must_revalidate);
        if let Some(entry) = old {
            entry.postpone(now);
            fetch.tell(entry, "stale", now);
        }
        for client in fetch.clients.drain(..) {
            client.promise.keep(match failure {
                Failure::Refused => Response::told(Status::BadGateway, "the origin refuses the connection"),
                Failure::Malformed => Response::told(Status::BadGateway, "the origin's answer is broken"),
                Failure::Busy => Response::told(Status::ServiceUnavailable, "all connections to the origin are in use"),
                Failure::TimedOut => Response::told(Status::GatewayTimeout, "the origin takes too long"),
            });
        }
        (Stage::Done, true)
    }
}

impl Fetch {
    fn new(key: String, is_alone: bool, old: Option<Rc<Contents>>, clients: Vec<Client>, waits_until: Instant) -> Self {
        Self { key, is_alone, old, clients, waits_until, asked_at: Instant::ZERO, stage: Stage::Queued }
    }

    fn may_be_shared(&self, key: &str) -> bool {
        !self.is_alone && self.key == key && matches!(self.stage, Stage::Queued | Stage::Asked(_) | Stage::Gathering { .. })
    }

    fn tell(&mut self, entry: &Entry, how: &str, now: Instant) {
        for client in self.clients.drain(..) {
            client.promise.keep(stored(entry, &client, how, now));
        }
    }
}

/// Answers from what is stored; `how` says how that came about.
fn stored(entry: &Entry, client: &Client, how: &str, now: Instant) -> Response {
    let contents = entry.contents.clone();
    let resource = Resource {
        etag: header(&entry.headers, "etag"),
        last_modified: header(&entry.headers, "last-modified"),
        length: contents.len(),
        body: &move |from, to| Body::Stored(contents.clone(), from, to),
    };
    let mut response = serve(&resource, client.is_get, &client.lines);
    let is_unchanged = response.status == Status::NotModified;
    let is_about_body = |name: &str| name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("content-"));
    response = response.with_header("Age", &format!("{}", entry.freshness.age(now).secs())).with_header("X-Cache", how);
    response.headers.push_str(&kept(&entry.headers, &|name| !(is_unchanged && is_about_body(name))));
    response
}

/// Paths whose answers were found not to be storable: nobody waits there for another's answer.
#[derive(Default)]
struct Passing(Vec<(u64, Instant)>);

impl Passing {
    const MOST: usize = 64;

    fn add(&mut self, key: &str, until: Instant) {
        let mark = mark(key);
        self.0.retain(|(other, _)| *other != mark);
        if self.0.len() == Self::MOST {
            self.0.remove(0);
        }
        self.0.push((mark, until));
    }

    fn has(&self, key: &str, now: Instant) -> bool {
        let mark = mark(key);
        self.0.iter().any(|(other, until)| *other == mark && now < *until)
    }
}

/// FNV-1a. Two paths with one mark cost a fetch, no more.
fn mark(key: &str) -> u64 {
    key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::server::Server;
    use crate::app::web::Site;
    use crate::app::wire::{PORT, Wire};
    use crate::content::Archive;
    use smoltcp::iface::SocketHandle;
    use smoltcp::socket::tcp;
    use smoltcp::wire::IpAddress;

    const ORIGIN_PORT: u16 = 8080;
    const HOME: IpAddress = IpAddress::v4(127, 0, 0, 1);
    const BUDGET: usize = 32 * 1024;

    /// What the origin says to a question, and whether it then closes.
    type Script = fn(&str) -> (Vec<u8>, bool);

    struct OriginPlace {
        handle: SocketHandle,
        heard: Vec<u8>,
        says: Vec<u8>,
        closes: bool,
    }

    /// A site with an origin, and clients, on a network and a clock of their own.
    struct Lab {
        device: Wire,
        interface: Interface,
        sockets: SocketSet<'static>,
        server: Server,
        site: Site<Proxy>,
        origin: Vec<OriginPlace>,
        script: Option<Script>,
        /// Questions that came to the origin.
        asked: Vec<String>,
        said_bytes: usize,
        next_port: u16,
        now: Instant,
    }

    fn fresh(size: usize) -> &'static mut [u8] {
        alloc::vec![0; size].leak()
    }

    fn socket() -> tcp::Socket<'static> {
        tcp::Socket::new(tcp::SocketBuffer::new(alloc::vec![0; 8192]), tcp::SocketBuffer::new(alloc::vec![0; 8192]))
    }

    impl Lab {
        fn new(script: Script) -> Self {
            let (mut device, now) = (Wire::new(), Instant::from_millis(1));
            let interface = device.interface(now);
            let mut sockets = SocketSet::new(alloc::vec![]);
            let server = Server::new(&mut sockets, PORT, 8, fresh);
            let line = format!("origin=127.0.0.1:{ORIGIN_PORT} origin-host=films cache={BUDGET}");
            let options = Options::read(&Config::parse(&[&line]).unwrap(), 1 << 20).unwrap().unwrap();
            let proxy = Proxy::new(&mut sockets, options, 7, fresh);
            let place = |sockets: &mut SocketSet<'static>| OriginPlace {
                handle: sockets.add(socket()),
                heard: Vec::new(),
                says: Vec::new(),
                closes: false,
            };
            let origin = (0..6).map(|_| place(&mut sockets)).collect();
            let site = Site::new(Archive::default(), "web-1", Some(proxy));
            let (script, asked) = (Some(script), Vec::new());
            Self { device, interface, sockets, server, site, origin, script, asked, said_bytes: 0, next_port: 1000, now }
        }

        fn turn(&mut self) {
            self.interface.poll(self.now, &mut self.device, &mut self.sockets);
            self.origin_turn();
            let (site, now) = (&mut self.site, self.now);
            loop {
                let changed = self.server.poll(&mut self.sockets, now, &mut |request| site.answer(request, now));
                if !(site.beyond.as_mut().unwrap().poll(&mut self.interface, &mut self.sockets, now) || changed) {
                    break;
                }
            }
        }

        fn origin_turn(&mut self) {
            for place in &mut self.origin {
                let socket = self.sockets.get_mut::<tcp::Socket>(place.handle);
                if !socket.is_open() {
                    (place.heard, place.says, place.closes) = (Vec::new(), Vec::new(), false);
                    if self.script.is_some() {
                        socket.listen(ORIGIN_PORT).unwrap();
                    }
                }
                while socket.can_recv() {
                    let _ = socket.recv(|bytes| (bytes.len(), place.heard.extend_from_slice(bytes)));
                }
                if let (true, Some(script)) = (place.heard.ends_with(b"\r\n\r\n"), self.script) {
                    let question = String::from_utf8(mem::take(&mut place.heard)).unwrap();
                    (place.says, place.closes) = script(&question);
                    self.asked.push(question);
                }
                if let Ok(count) = socket.send_slice(&place.says) {
                    place.says.drain(..count);
                    self.said_bytes += count;
                }
                if place.closes && place.says.is_empty() {
                    socket.close();
                }
            }
        }

        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.now += Duration::from_millis(10);
                self.turn();
            }
        }

        fn begin(&mut self, path: &str, lines: &str) -> SocketHandle {
            self.begin_with(&format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{lines}\r\n"))
        }

        fn begin_with(&mut self, request: &str) -> SocketHandle {
            let handle = self.sockets.add(socket());
            self.next_port += 1;
            let socket = self.sockets.get_mut::<tcp::Socket>(handle);
            socket.connect(self.interface.context(), (HOME, PORT), self.next_port).unwrap();
            for _ in 0..5 {
                self.pass(Duration::from_millis(10));
            }
            self.sockets.get_mut::<tcp::Socket>(handle).send_slice(request.as_bytes()).unwrap();
            handle
        }

        /// Waits for the end of an answer; gives head and body.
        fn finish(&mut self, handle: SocketHandle) -> (String, Vec<u8>) {
            let mut answer = Vec::new();
            for _ in 0..4000 {
                self.pass(Duration::from_millis(10));
                let socket = self.sockets.get_mut::<tcp::Socket>(handle);
                while socket.can_recv() {
                    let _ = socket.recv(|bytes| (bytes.len(), answer.extend_from_slice(bytes)));
                }
                if !socket.may_recv() {
                    break;
                }
            }
            self.sockets.get_mut::<tcp::Socket>(handle).abort();
            self.pass(Duration::from_millis(20));
            self.sockets.remove(handle);
            let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
            let head = String::from_utf8(answer[..end].to_vec()).unwrap();
            (head, answer.split_off((end + 4).min(answer.len())))
        }

        /// Takes some of an answer.
        fn look(&mut self, handle: SocketHandle) {
            let _ = self.sockets.get_mut::<tcp::Socket>(handle).recv(|bytes| (bytes.len(), ()));
        }

        fn get(&mut self, path: &str, lines: &str) -> (String, Vec<u8>) {
            let handle = self.begin(path, lines);
            self.finish(handle)
        }

        fn told(&mut self, path: &str, lines: &str) -> (u16, String) {
            let (head, _) = self.get(path, lines);
            let how = head.split("X-Cache: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap_or("");
            (head.get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0), how.into())
        }
    }

    /// Serves ten digits, fresh for ten seconds.
    fn digits(question: &str) -> (Vec<u8>, bool) {
        if question.contains("If-None-Match: \"v1\"") {
            return (b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=10\r\n\r\n".to_vec(), true);
        }
        let head =
            "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Type: text/x\r\nCache-Control: max-age=10\r\nContent-Length: 10\r\n\r\n";
        (format!("{head}0123456789").into_bytes(), true)
    }

    fn big(_: &str) -> (Vec<u8>, bool) {
        (format!("HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n{}", "x".repeat(400_000)).into_bytes(), true)
    }

    fn said(head: &str, body: &str) -> (Vec<u8>, bool) {
        (format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes(), true)
    }

    #[test]
    fn options_are_read() {
        let read = |line: &str| Options::read(&Config::parse(&[line]).unwrap(), 1 << 20);
        assert_eq!(read("cache=5").unwrap(), None);
        let options = read("origin=10.0.16.2:81").unwrap().unwrap();
        assert_eq!((options.host.as_str(), options.budget, options.ttl), ("10.0.16.2:81", 1 << 18, Duration::from_secs(60)));
        let many = read("origin=10.0.16.2:81 origin-connections=8").unwrap().unwrap();
        assert_eq!((many.connections, many.budget), (8, options.budget - 4 * (many.window + SEND_BYTES)));
        for bad in [
            "origin=host:80",
            "origin=10.0.0.1",
            "origin=10.0.0.1:0",
            "origin=10.0.0.1:1 cache=x",
            "origin=10.0.0.1:1 cache=9999999",
            "origin=10.0.0.1:1 cache-ttl=5",
            "origin=10.0.0.1:1 origin-connections=0",
            "origin=10.0.0.1:1 origin-connections=65",
            "origin=10.0.0.1:1 origin-host=a%0ab",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn miss_hit_and_revalidation() {
        let mut lab = Lab::new(digits);
        let (head, body) = lab.get("/a?q=1", "");
        assert!(head.contains("X-Cache: miss") && head.contains("Content-Type: text/x") && body == b"0123456789", "{head}");
        assert!(lab.asked[0].starts_with("GET /a?q=1 HTTP/1.1\r\nHost: films\r\n"));
        lab.pass(Duration::from_secs(3));
        let (head, body) = lab.get("/a?q=1", "");
        assert!(
            head.contains("X-Cache: hit") && head.contains("Age: 3") && head.contains("ETag: \"v1\"") && body == b"0123456789",
            "{head}"
        );
        assert_eq!(lab.told("/a?q=2", "").1, "miss", "the query is part of the key");
        assert_eq!(lab.told("/a?q=1", "If-None-Match: W/\"v1\"\r\n"), (304, "hit".into()));
        lab.pass(Duration::from_secs(10));
        assert_eq!(lab.told("/a?q=1", ""), (200, "revalidated".into()));
        assert_eq!(lab.told("/a?q=1", ""), (200, "hit".into()));
        assert_eq!(lab.asked.len(), 3);
    }

    #[test]
    fn ranges_come_from_what_is_stored() {
        let mut lab = Lab::new(digits);
        let (head, body) = lab.get("/a", "Range: bytes=2-4\r\n");
        assert!(head.starts_with("HTTP/1.1 206") && head.contains("Content-Range: bytes 2-4/10") && body == b"234", "{head}");
        assert!(!lab.asked[0].contains("Range"), "the whole is fetched");
        assert_eq!(lab.get("/a", "Range: bytes=-3\r\n").1, b"789");
        assert_eq!(lab.told("/a", "Range: bytes=10-\r\n"), (416, "hit".into()));
        assert_eq!(lab.told("/a", "Range: bytes=0-1,3-4\r\n").0, 200);
        assert_eq!(lab.told("/a", "Range: bytes=0-1\r\nIf-Range: \"v0\"\r\n").0, 200);
        let head = lab.begin_with("HEAD /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let (head, body) = lab.finish(head);
        assert!(head.contains("Content-Length: 10") && body.is_empty(), "{head}");
    }

    #[test]
    fn those_who_ask_at_once_share_one_question() {
        let mut lab = Lab::new(digits);
        let clients: Vec<_> = (0..5).map(|_| lab.begin_with("GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n")).collect();
        for client in &clients {
            lab.sockets.get_mut::<tcp::Socket>(*client).send_slice(b"\r\n").unwrap();
        }
        for client in clients {
            assert_eq!(lab.finish(client).1, b"0123456789");
        }
        assert_eq!(lab.asked.len(), 1);
    }

    #[test]
    fn what_is_too_large_runs_through_as_its_client_takes_it() {
        let mut lab = Lab::new(big);
        let client = lab.begin("/film", "");
        lab.pass(Duration::from_secs(5));
        assert!(lab.said_bytes < 120_000, "the origin is held back: {}", lab.said_bytes);
        let (head, body) = lab.finish(client);
        assert!(head.contains("Content-Length: 400000") && head.contains("X-Cache: miss") && body.len() == 400_000, "{head}");
        assert_eq!(lab.told("/film", "Range: bytes=0-1\r\n"), (200, "miss".into()));
        assert!(lab.asked[1].contains("Range: bytes=0-1"), "asked for as it is wanted");
        let gone = lab.begin("/film", "");
        lab.pass(Duration::from_secs(1));
        lab.sockets.get_mut::<tcp::Socket>(gone).abort();
        lab.pass(Duration::from_secs(1));
        assert_eq!(lab.site.beyond.as_ref().unwrap().poll_at(), None, "nothing goes on for nobody");
    }

    #[test]
    fn who_finds_all_connections_in_use_is_told_so() {
        let mut lab = Lab::new(|question| if question.contains("/film") { big(question) } else { digits(question) });
        assert_eq!(lab.told("/a", ""), (200, "miss".into()));
        lab.pass(Duration::from_secs(11));
        let viewers: Vec<_> = (0..CONNECTIONS).map(|index| lab.begin(&format!("/film?{index}"), "")).collect();
        let (one, other, begin) = (lab.begin("/a", ""), lab.begin("/b", ""), lab.now);
        let (head, body) = lab.finish(one);
        assert!(head.contains("X-Cache: stale") && body == b"0123456789", "{head}");
        assert!(lab.now - begin < PATIENCE + Duration::from_secs(1));
        for _ in 0..3 {
            viewers.iter().for_each(|viewer| lab.look(*viewer));
            lab.pass(Duration::from_secs(8));
        }
        let (head, body) = lab.finish(other);
        assert!(head.starts_with("HTTP/1.1 503") && body.ends_with(b"all connections to the origin are in use\n"), "{head}");
        assert!((QUEUE_PATIENCE..QUEUE_PATIENCE + Duration::from_secs(1)).contains(&(lab.now - begin)));
        for viewer in viewers {
            assert!(lab.finish(viewer).1.len() > 300_000, "who looks already goes on");
        }
        assert_eq!(lab.told("/b", ""), (200, "miss".into()));
    }

    #[test]
    fn a_range_of_what_is_too_large_is_asked_for_anew() {
        let mut lab = Lab::new(|question| match question.contains("Range: bytes=5-6") {
            true => said("206 Partial Content\r\nContent-Range: bytes 5-6/400000\r\nContent-Length: 2", "xx"),
            false => big(question),
        });
        let (head, body) = lab.get("/film", "Range: bytes=5-6\r\n");
        assert!(head.starts_with("HTTP/1.1 206") && head.contains("bytes 5-6/400000") && body == b"xx", "{head}");
        assert_eq!(lab.asked.len(), 2);
    }

    #[test]
    fn chunks_are_stored_decoded_and_too_many_run_through() {
        let mut lab = Lab::new(|question| match question.contains("/many") {
            true => said(
                "200 OK\r\nTransfer-Encoding: chunked",
                &(format!("100\r\n{}\r\n", "y".repeat(256)).repeat(300) + "0\r\n\r\n"),
            ),
            false => said("200 OK\r\nTransfer-Encoding: chunked", "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"),
        });
        assert_eq!(
            lab.get("/a", ""),
            (
                "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nAge: 0\r\nX-Cache: miss\r\nContent-Length: 5\r\nConnection: close"
                    .into(),
                b"abcde".to_vec()
            )
        );
        assert_eq!(lab.told("/a", ""), (200, "hit".into()));
        let (head, body) = lab.get("/many", "");
        assert!(!head.contains("Content-Length") && body.len() == 300 * 256, "{head} {}", body.len());
        assert_eq!(lab.told("/a", ""), (200, "hit".into()));
    }

    #[test]
    fn what_is_for_one_stays_with_one() {
        let mut lab = Lab::new(|question| match question {
            text if text.contains("/cookie") => said("200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 1", "c"),
            text if text.contains("/private") => said("200 OK\r\nCache-Control: private\r\nContent-Length: 1", "p"),
            text if text.contains("/none") => said("404 Not Found\r\nContent-Length: 2", "no"),
            text if text.contains("/moved") => said("302 Found\r\nLocation: /a\r\nContent-Length: 0", ""),
            text => digits(text),
        });
        for (path, status) in [("/cookie", 200), ("/private", 200), ("/none", 404), ("/moved", 302)] {
            assert_eq!((lab.told(path, ""), lab.told(path, "")), ((status, "miss".into()), (status, "miss".into())), "{path}");
        }
        assert_eq!(lab.asked.len(), 8);
        assert_eq!(lab.told("/a", "Authorization: Basic x\r\n").1, "miss");
        assert!(lab.asked[8].contains("Authorization: Basic x"));
        assert_eq!(lab.told("/a", "").1, "miss");
        assert_eq!(lab.told("/a", "Authorization: Basic x\r\n").1, "miss", "not answered with what is everybody's");
        let clients: Vec<_> = (0..6).map(|_| lab.begin("/private", "")).collect();
        for client in clients {
            assert_eq!(lab.finish(client).1, b"p");
        }
    }

    #[test]
    fn without_an_origin_what_is_stored_serves_on() {
        let mut lab = Lab::new(digits);
        assert_eq!(lab.told("/a", "").1, "miss");
        lab.script = None;
        for place in 0..lab.origin.len() {
            lab.sockets.get_mut::<tcp::Socket>(lab.origin[place].handle).abort();
        }
        lab.pass(Duration::from_secs(11));
        assert_eq!(lab.told("/a", ""), (200, "stale".into()));
        assert_eq!(lab.told("/a", "Range: bytes=1-1\r\n"), (206, "stale".into()));
        let (head, body) = lab.get("/b", "");
        assert!(head.starts_with("HTTP/1.1 502"), "{head}");
        assert_eq!(body, b"502 Bad Gateway: the origin refuses the connection\n");
        lab.script = Some(|_| (Vec::new(), false));
        lab.pass(Duration::from_secs(6));
        let begin = lab.now;
        assert_eq!(lab.told("/b", "").0, 504);
        assert!(lab.now - begin < Duration::from_secs(6));
        assert_eq!(lab.told("/a", "").1, "stale");
        lab.script = Some(|_| said("503 Busy\r\nContent-Length: 0", ""));
        lab.pass(Duration::from_secs(6));
        assert_eq!((lab.told("/a", "").1, lab.told("/b", "").0), ("stale".into(), 503));
    }

    #[test]
    fn a_broken_origin_breaks_nothing_here() {
        let scripts: [Script; 7] = [
            |_| said("200 OK\r\nContent-Length: 10", "short"),
            |_| said("200 OK\r\nContent-Length: -1", ""),
            |_| said("200 OK\r\nTransfer-Encoding: chunked", "zz\r\n"),
            |_| said("304 Not Modified", ""),
            |_| (b"nonsense\r\n\r\n".to_vec(), true),
            |_| (b"HTTP/1.1 100 Go\r\n\r\n".repeat(100), false),
            |_| (format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000)).into_bytes(), false),
        ];
        let mut lab = Lab::new(scripts[0]);
        for (index, script) in scripts.into_iter().enumerate() {
            lab.script = Some(script);
            assert_eq!(lab.told("/a", "").0, 502, "script {index}");
        }
        lab.script = Some(|_| said("200 OK\r\nCache-Control: no-store\r\nContent-Length: 100", "short"));
        let (head, body) = lab.get("/s", "");
        assert!(head.starts_with("HTTP/1.1 200") && body == b"short", "cut off, so that the client knows");
        lab.script = Some(|_| said("200 OK\r\nContent-Length: 2", "ok and more"));
        assert_eq!(lab.get("/a", "").1, b"ok");
        lab.script = Some(digits);
        assert_eq!(lab.told("/d", ""), (200, "miss".into()));
    }

    #[test]
    fn no_line_is_smuggled_to_the_origin() {
        let mut lab = Lab::new(digits);
        for request in [
            "GET /a\nX:1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            "GET /a HTTP/1.1\r\nHost: h\r\nRange: a\nX: 1\r\nConnection: close\r\n\r\n",
        ] {
            let client = lab.begin_with(request);
            assert!(lab.finish(client).0.starts_with("HTTP/1.1 400"), "{request}");
        }
        assert!(lab.asked.is_empty());
    }

    #[test]
    fn no_origin_makes_it_panic() {
        let words: [&str; 16] = [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 304 X\r\n",
            "HTTP/1.1 503 X\r\n",
            "HTTP/1.1 100 X\r\n\r\n",
            "\r\n",
            "Content-Length: 5\r\n",
            "Content-Length: 50000\r\n",
            "Transfer-Encoding: chunked\r\n",
            "5\r\nabcde\r\n",
            "0\r\n\r\n",
            "ETag: \"a\"\r\n",
            "Cache-Control: no-cache\r\n",
            "Vary: *\r\n",
            "abcde",
            "Age: 9\r\n",
            "Expires: 0\r\n",
        ];
        let mut lab = Lab::new(|_| (Vec::new(), true));
        let mut seed = 11_u32;
        let mut random = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) as usize
        };
        for round in 0..300 {
            let mut says = if round % 4 == 0 { String::new() } else { String::from("HTTP/1.1 200 OK\r\n") };
            (0..random() % 12).for_each(|_| says.push_str(words[random() % words.len()]));
            let range = if random() % 3 == 0 { "Range: bytes=1-3\r\n" } else { "" };
            let client = lab.begin(&format!("/{}", random() % 5), range);
            for _ in 0..12 {
                lab.pass(Duration::from_millis(10));
                for place in 0..lab.origin.len() {
                    let is_asked = lab.sockets.get::<tcp::Socket>(lab.origin[place].handle).may_send();
                    if is_asked && lab.origin[place].says.is_empty() {
                        lab.origin[place].says = says.clone().into_bytes();
                        lab.origin[place].closes = true;
                    }
                }
            }
            lab.finish(client);
        }
        lab.script = Some(digits);
        assert_eq!(lab.told("/last", ""), (200, "miss".into()));
    }
}
