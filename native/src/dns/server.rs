//! The server's loop: who asks what, and what is answered when.

use super::forward::{Forward, Forwards};
use super::limit::Limiter;
use super::message::{A, AAAA, ANY, Answer, Code, Data, INTERNET, Malformed, NS, Query, Record, SOA, SRV, bare};
use super::streams::Streams;
use super::wakes::Wakes;
use super::zone::{Found, Zone};
use crate::failure::{Context, Failure};
use crate::time::monotonic_ns;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

/// Kinds of tokens; the rest of a token is a number.
const WAKER: u64 = 0;
const UDP: u64 = 1 << 56;
const TCP: u64 = 2 << 56;
const UPSTREAM: u64 = 3 << 56;
const STREAM: u64 = 4 << 56;
const NUMBER: u64 = UDP - 1;
/// As many messages of one socket before others get a turn.
const AT_ONCE: usize = 64;
const LARGEST_BYTES: usize = 65_535;
const TIDY_EVERY_MS: u16 = 500;

/// Where queries of one host arrive.
struct Site {
    host: String,
    udp: UdpSocket,
    tcp: TcpListener,
    upstream: UdpSocket,
}

/// Who asked, and how.
#[derive(Clone)]
struct Client {
    site: usize,
    address: SocketAddr,
    stream: Option<u64>,
}

/// A question for instances, one of which is being started.
struct Job {
    client: Client,
    query: Query,
    /// The port of the service that was asked for.
    port: Option<u16>,
    chosen: usize,
    /// Instances not tried yet.
    left: Vec<usize>,
    reason: String,
}

pub struct Server {
    zone: Zone,
    epoll: Epoll,
    sites: Vec<Site>,
    streams: Streams,
    forwards: Forwards<Client>,
    wakes: Wakes<Job>,
    limiter: Limiter,
    last_stream: u64,
    buffer: Vec<u8>,
}

impl Server {
    pub fn new(zone: Zone, waker: OwnedFd) -> Result<Self, Failure> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        let mut sites = vec![];
        for (number, listener) in zone.listeners.iter().enumerate() {
            let site = Site {
                host: listener.host.clone(),
                udp: super::adopt(listener.udp)?.into(),
                tcp: super::adopt(listener.tcp)?.into(),
                upstream: super::adopt(listener.upstream)?.into(),
            };
            site.udp.set_nonblocking(true).context("a server's socket")?;
            site.tcp.set_nonblocking(true).context("a server's socket")?;
            site.upstream.set_nonblocking(true).context("a server's socket")?;
            epoll.add(&site.udp, readable(UDP | number as u64)).context("epoll")?;
            epoll.add(&site.tcp, readable(TCP | number as u64)).context("epoll")?;
            epoll.add(&site.upstream, readable(UPSTREAM | number as u64)).context("epoll")?;
            sites.push(site);
        }
        let wakes = Wakes::new(waker);
        epoll.add(wakes.socket(), readable(WAKER)).context("descriptor 4")?;
        let (streams, forwards, limiter) = (Streams::default(), Forwards::new(), Limiter::default());
        Ok(Self {
            zone,
            epoll,
            sites,
            streams,
            forwards,
            wakes,
            limiter,
            last_stream: 0,
            buffer: vec![0; LARGEST_BYTES],
        })
    }

    /// Serves until the keeper has gone.
    pub fn run(&mut self) -> Result<(), Failure> {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let is_quiet = self.streams.is_empty() && self.forwards.is_empty();
            let patience = if is_quiet { EpollTimeout::NONE } else { TIDY_EVERY_MS.into() };
            let count = match self.epoll.wait(&mut events, patience) {
                Err(Errno::EINTR) => continue,
                other => other.context("epoll")?,
            };
            for event in &events[..count] {
                let number = (event.data() & NUMBER) as usize;
                match event.data() & !NUMBER {
                    UDP => self.on_datagrams(number),
                    TCP => self.on_connection(number),
                    UPSTREAM => self.on_upstream(number),
                    STREAM => self.on_stream(event.data()),
                    _ if self.on_verdicts().is_err() => return Ok(()),
                    _ => {}
                }
            }
            if !is_quiet {
                self.tidy();
            }
        }
    }

    fn on_datagrams(&mut self, site: usize) {
        for _ in 0..AT_ONCE {
            let Ok((length, address)) = self.sites[site].udp.recv_from(&mut self.buffer) else { return };
            let message = self.buffer[..length].to_vec();
            self.on_message(Client { site, address, stream: None }, message);
        }
    }

    fn on_connection(&mut self, site: usize) {
        let Ok((socket, address)) = self.sites[site].tcp.accept() else { return };
        if !self.streams.have_room(site) || socket.set_nonblocking(true).is_err() {
            return;
        }
        self.last_stream += 1;
        let token = STREAM | self.last_stream;
        let stream = self.streams.add(token, socket, address, site, monotonic_ns());
        let _ = self.epoll.add(&stream.socket, EpollEvent::new(EpollFlags::EPOLLIN, token));
    }

    fn on_stream(&mut self, token: u64) {
        let Some((site, address, messages)) = self.streams.read(token, monotonic_ns()) else { return };
        for message in messages {
            self.on_message(Client { site, address, stream: Some(token) }, message);
        }
    }

    fn on_upstream(&mut self, site: usize) {
        for _ in 0..AT_ONCE {
            let Ok((length, from)) = self.sites[site].upstream.recv_from(&mut self.buffer) else { return };
            let answer = self.buffer[..length].to_vec();
            if let Some((client, answer)) = self.forwards.take(site, from, &self.zone.upstreams, answer) {
                self.send(&client, &answer);
            }
        }
    }

    fn on_verdicts(&mut self) -> Result<(), ()> {
        while let Some((jobs, verdict)) = self.wakes.next()? {
            for mut job in jobs {
                match &verdict {
                    Ok(()) => self.finish(&job),
                    Err(why) => {
                        job.reason.clone_from(why);
                        self.proceed(job);
                    }
                }
            }
        }
        Ok(())
    }

    fn tidy(&mut self) {
        let now_ns = monotonic_ns();
        self.streams.tidy(now_ns);
        for mut late in self.forwards.take_late(now_ns) {
            late.upstream += 1;
            self.forward(late);
        }
    }

    fn on_message(&mut self, client: Client, message: Vec<u8>) {
        match Query::read(&message) {
            Ok(query) => self.on_query(client, query, message),
            Err(Malformed::Ignore) => {}
            Err(Malformed::Answer(id, flags, code)) => {
                if self.limiter.allow(client.address.ip(), monotonic_ns()) {
                    self.send(&client, &bare(id, flags, code));
                }
            }
        }
    }

    fn on_query(&mut self, client: Client, query: Query, message: Vec<u8>) {
        if query.class != INTERNET && query.class != ANY {
            return self.reply(&client, &query, &Answer::of(Code::Refused));
        }
        match self.zone.find(&query.name) {
            Found::Outside if !self.zone.upstreams.is_empty() => {
                let site = client.site;
                self.forward(Forward::new(client, query, site, message));
            }
            Found::Name(left) if [A, AAAA, ANY].contains(&query.kind) => self.begin(client, query, left, None),
            Found::Service(left, port) if [SRV, ANY].contains(&query.kind) => {
                self.begin(client, query, left, Some(port))
            }
            Found::Apex if [SOA, NS, ANY].contains(&query.kind) => {
                let data = if query.kind == NS { Data::Ns(format!("ns.{}", self.zone.name)) } else { self.authority() };
                let answers = vec![self.record(None, data)];
                self.reply(&client, &query, &Answer { is_authoritative: true, answers, ..Answer::default() });
            }
            found => self.reply(&client, &query, &self.nothing(&found)),
        }
    }

    /// That there is nothing, and how long that holds.
    fn nothing(&self, found: &Found) -> Answer {
        let code = Zone::code_of(found);
        if *found == Found::Outside {
            return Answer::of(code);
        }
        let authority = vec![self.record(Some(self.zone.name.clone()), self.authority())];
        Answer { code: Some(code), is_authoritative: true, authority, ..Answer::default() }
    }

    fn authority(&self) -> Data {
        Data::Soa { zone: self.zone.name.clone(), serial: self.zone.serial, negative_ttl_s: self.zone.ttl_s }
    }

    fn record(&self, owner: Option<String>, data: Data) -> Record {
        Record { owner, ttl_s: self.zone.ttl_s, data }
    }

    /// Sends a question on; after the last upstream it has failed.
    fn forward(&mut self, forward: Forward<Client>) {
        let Some(upstream) = self.zone.upstreams.get(forward.upstream).copied() else {
            let failed = Answer { reason: "no upstream answers".into(), ..Answer::of(Code::ServFail) };
            return self.reply(&forward.client, &forward.query, &failed);
        };
        let site = forward.site;
        match self.forwards.add(forward, monotonic_ns(), random) {
            // One that is lost is asked of the next upstream.
            Ok(bytes) => _ = self.sites[site].upstream.send_to(&bytes, upstream),
            Err(forward) => self.reply(&forward.client, &forward.query, &Answer::of(Code::ServFail)),
        }
    }

    fn begin(&mut self, client: Client, query: Query, left: Vec<usize>, port: Option<u16>) {
        self.proceed(Job { client, query, port, chosen: 0, left, reason: String::new() });
    }

    /// Has the nearest instance started that was not tried yet.
    fn proceed(&mut self, mut job: Job) {
        loop {
            let host = &self.sites[job.client.site].host;
            let Some(nearest) = self.zone.take_nearest(host, &mut job.left) else {
                let failed = Answer { reason: job.reason, ..Answer::of(Code::ServFail) };
                return self.reply(&job.client, &job.query, &failed);
            };
            job.chosen = nearest;
            let Some(child) = &self.zone.instances[nearest].wake else { return self.finish(&job) };
            match self.wakes.ask(child, job) {
                Ok(()) => return,
                Err((back, why)) => job = Job { reason: why, ..back },
            }
        }
    }

    /// Answers with the instance that was chosen.
    fn finish(&mut self, job: &Job) {
        let chosen = &self.zone.instances[job.chosen];
        let addresses = || [Some(Data::A(chosen.a)), chosen.aaaa.map(Data::Aaaa)].into_iter().flatten();
        let mut answer = Answer { is_authoritative: true, ..Answer::default() };
        if let Some(port) = job.port {
            let mut left = job.left.clone();
            let host = &self.sites[job.client.site].host;
            let others = std::iter::from_fn(|| self.zone.take_nearest(host, &mut left));
            let targets = [job.chosen].into_iter().chain(others).enumerate();
            let service = |(priority, place): (usize, usize)| {
                let target = self.zone.full_name(&self.zone.instances[place]);
                self.record(None, Data::Srv { priority: priority as u16, port, target })
            };
            answer.answers = targets.map(service).collect();
            answer.additional = addresses().map(|data| self.record(Some(self.zone.full_name(chosen)), data)).collect();
        } else {
            let is_asked = |data: &Data| match data {
                Data::A(_) => job.query.kind != AAAA,
                _ => job.query.kind != A,
            };
            answer.answers = addresses().filter(is_asked).map(|data| self.record(None, data)).collect();
            if answer.answers.is_empty() {
                answer = self.nothing(&Found::Empty);
            }
        }
        self.reply(&job.client, &job.query, &answer);
    }

    /// Answers; what is of no use to anybody not more often than it should.
    fn reply(&mut self, client: &Client, query: &Query, answer: &Answer) {
        let is_useless = answer.code.is_some_and(|code| code != Code::NoError);
        if is_useless && client.stream.is_none() && !self.limiter.allow(client.address.ip(), monotonic_ns()) {
            return;
        }
        let limit = if client.stream.is_some() { LARGEST_BYTES } else { query.limit() };
        let bytes = answer.write(query, limit, !self.zone.upstreams.is_empty());
        self.send(client, &bytes);
    }

    fn send(&mut self, client: &Client, bytes: &[u8]) {
        match client.stream {
            Some(token) => self.streams.send(token, bytes),
            // A full socket loses the answer; the client asks again.
            None => _ = self.sites[client.site].udp.send_to(bytes, client.address),
        }
    }
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    // SAFETY: writes two bytes; where it fails the id can be guessed, and answers are still checked.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    u16::from_ne_bytes(bytes)
}
