//! What each request does. A refusal is a sentence and changes nothing.

use super::children::{Child, Children, Exit, Life};
use super::connection::Packet;
use super::descriptors::{Held, OpenFiles};
use super::log::{CappedFile, LogPipe};
use super::outer::OuterProc;
use super::pools::Pools;
use super::protocol::{self, Identity, Inherited, Page, Request, SpawnOrder};
use super::sleepers::Sleepers;
use super::spawn::{Spawner, Started, output_pipe};
use crate::failure::{Context, Failure};
use crate::seqpacket::{self, MAX_DESCRIPTORS, MAX_PACKET_BYTES};
use crate::time::monotonic_ns;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::Serialize;
use std::collections::HashSet;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;

/// Everything a cloud's keeper knows.
pub struct Cloud {
    pub children: Children,
    pub(super) held: Held,
    identity: Identity,
    namespaces: Vec<Rc<OwnedFd>>,
    outer: OuterProc,
    spawner: Spawner,
    open_files: OpenFiles,
    pub(super) last_serial: u64,
    pub sleepers: Sleepers,
    pub(super) pools: Pools,
    /// Children that watchers are to be told of.
    changed: Vec<String>,
    /// Summoned ones that woke up or fell asleep, and when watchers are to be told: whoever wanted one comes first.
    pub(super) stirred: Vec<String>,
    pub(super) stirred_due_ns: Option<u64>,
    /// Serials of new children, whose output is to be read.
    started: Vec<u64>,
    /// Our ends of new children's sockets for `wake`.
    wakers: Vec<OwnedFd>,
}

/// The number of the socket on which a tender is told who its guest is.
const TENDER_CONTROL: RawFd = 3;

/// What the server has to do besides sending the answer.
pub enum Effect {
    None,
    Watch,
    Shutdown,
}

type Answer = Result<Packet, String>;

impl Cloud {
    /// `controllers_mount` is the mount namespace that controllers join; children live in our own.
    pub fn new(
        identity: Identity,
        controllers_mount: OwnedFd,
        outer: OuterProc,
        open_files: OpenFiles,
    ) -> Result<Self, Failure> {
        let own = |kind| outer.own_namespace(kind).map(Rc::new);
        let namespaces = vec![own("user")?, Rc::new(controllers_mount), own("pid")?, own("mnt")?];
        let spawner = Spawner::new(open_files).context("cannot prepare for children")?;
        let (children, held) = (Children::default(), Held::new()?);
        let sleepers = Sleepers::new().context("epoll")?;
        Ok(Self {
            children,
            held,
            identity,
            namespaces,
            outer,
            spawner,
            open_files,
            last_serial: 0,
            sleepers,
            pools: Pools::default(),
            changed: vec![],
            stirred: vec![],
            stirred_due_ns: None,
            started: vec![],
            wakers: vec![],
        })
    }

    /// Does what the packet asks; a peer that `only_wakes` may ask for nothing else.
    pub fn handle(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>, only_wakes: bool) -> (Packet, Effect) {
        let answered = match serde_json::from_slice(bytes) {
            Ok(request) if only_wakes && !matches!(request, Request::Wake { .. }) => {
                Err("this connection is for `wake` only".into())
            }
            Ok(request) => self.perform(request, descriptors),
            Err(why) => Err(format!("not a request: {why}")),
        };
        answered.unwrap_or_else(|sentence| (protocol::refusal(&sentence).into(), Effect::None))
    }

    fn perform(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Result<(Packet, Effect), String> {
        let plain = |answer: Answer| answer.map(|packet| (packet, Effect::None));
        match request {
            Request::Hello => plain(Ok(self.hello())),
            Request::Hold { names } => plain(self.hold(names, descriptors)),
            Request::Fetch { names } => plain(self.fetch(&names)),
            Request::Release { names } => {
                self.held.release(&names);
                plain(Ok(protocol::done().into()))
            }
            Request::Held(Page { after }) => {
                plain(Ok(protocol::page("names", self.held.names(&after), MAX_PACKET_BYTES).into()))
            }
            Request::Spawn(order) => plain(self.spawn(order.into(), &descriptors)),
            Request::Signal { id, signal } => plain(self.signal(&id, signal).map(|()| protocol::done().into())),
            Request::Forget { id } => plain(self.children.forget(&id).map(|()| protocol::done().into()))
                .inspect(|_| self.sleepers.disarm(&id)),
            Request::Wake { id } => plain(self.wake(&id).map(|()| protocol::done().into())),
            Request::Budget { name, bytes } => {
                self.sleepers.set_budget(name, bytes);
                plain(Ok(protocol::done().into()))
            }
            Request::Children(Page { after }) => {
                plain(Ok(protocol::page("children", self.children.rows(&after), MAX_PACKET_BYTES).into()))
            }
            Request::Child { id } => {
                let rows = self.children.get(&id).map(|child| child.row(&id));
                plain(Ok(protocol::page("children", rows.into_iter(), MAX_PACKET_BYTES).into()))
            }
            Request::Watch => Ok((protocol::done().into(), Effect::Watch)),
            Request::Shutdown => Ok((protocol::done().into(), Effect::Shutdown)),
        }
    }

    fn hello(&self) -> Packet {
        Packet { bytes: protocol::answer(&self.identity), descriptors: self.namespaces.clone() }
    }

    fn hold(&mut self, names: Vec<String>, descriptors: Vec<OwnedFd>) -> Answer {
        self.need_descriptors(descriptors.len())?;
        self.held.hold(names, descriptors)?;
        Ok(protocol::done().into())
    }

    fn fetch(&self, names: &[String]) -> Answer {
        if names.len() > MAX_DESCRIPTORS {
            return Err(format!("one answer carries at most {MAX_DESCRIPTORS} descriptors; ask in parts"));
        }
        let descriptors = names.iter().map(|name| self.held.get(name).cloned()).collect::<Result<_, _>>()?;
        Ok(Packet { bytes: protocol::done(), descriptors })
    }

    fn spawn(&mut self, order: Rc<SpawnOrder>, passed: &[OwnedFd]) -> Answer {
        self.children.room_for(&order.id)?;
        if order.lives_on() && order.fds.iter().any(|one| one.passed.is_some()) {
            return Err(format!("child {:?}: one that is started again inherits held descriptors only", order.id));
        }
        match order.summons {
            None => self.start(&order, passed)?,
            Some(_) => self.put_to_sleep(&order)?,
        }
        let answer = protocol::answer(&self.children.get(&order.id).map(spawned));
        if order.lives_on() {
            self.children.restarts.insert(order);
        }
        Ok(answer.into())
    }

    /// Starts the children whose time has come again, or puts them to sleep.
    pub fn start_again(&mut self, now_ns: u64) {
        for order in self.children.restarts.take_due(now_ns) {
            let again = match order.summons {
                None => self.start(&order, &[]),
                Some(_) => self.put_to_sleep(&order),
            };
            if let Err(why) = again {
                complain_in_log(&order, &why);
                self.children.restarts.ended(&order.id, 0, now_ns);
            }
        }
    }

    /// Notes that a child ended.
    pub fn ended(&mut self, id: &str) {
        self.hear(id);
        self.sleepers.forget_tender(id);
        self.sleepers.give_memory_back(id);
        self.changed.push(id.to_owned());
    }

    fn signal(&mut self, id: &str, signal: i32) -> Result<(), String> {
        let was_asleep = self.children.get(id).is_some_and(|child| child.life == Life::Asleep);
        self.children.signal(id, signal)?;
        if was_asleep {
            self.sleepers.disarm(id);
            self.children.end_asleep(id, Exit { code: None, signal: Some(signal), at_ns: monotonic_ns() });
            self.changed.push(id.to_owned());
        }
        Ok(())
    }

    /// Takes the ids of the children that watchers are to be told of now.
    pub fn take_changed(&mut self, now_ns: u64) -> Vec<String> {
        if self.stirred_due_ns.is_some_and(|due_ns| due_ns <= now_ns) {
            self.stirred_due_ns = None;
            self.changed.append(&mut self.stirred);
        }
        mem::take(&mut self.changed)
    }

    /// Gives the ids of the children that a new watcher is told of at once; of the others it hears with everybody.
    pub fn worth_telling(&self) -> Vec<String> {
        let soon: HashSet<&String> = self.changed.iter().chain(&self.stirred).collect();
        self.children.worth_telling().filter(|id| !soon.contains(id)).cloned().collect()
    }

    /// When there is something to do by time [ns].
    pub fn next_ns(&self) -> Option<u64> {
        [self.children.restarts.next_ns(), self.stirred_due_ns].into_iter().flatten().min()
    }

    /// Takes the serials of new children, whose output is to be read.
    pub fn take_started(&mut self) -> Vec<u64> {
        mem::take(&mut self.started)
    }

    /// Takes our ends of new children's sockets for `wake`.
    pub fn take_wakers(&mut self) -> Vec<OwnedFd> {
        mem::take(&mut self.wakers)
    }

    pub(super) fn start(&mut self, order: &SpawnOrder, passed: &[OwnedFd]) -> Result<(), String> {
        self.need_descriptors(1)?;
        program_of(order)?;
        let netns = order.netns.as_ref().map(|name| self.held.get(name)).transpose()?.cloned();
        let netns = netns.as_ref().map(|shared| shared.as_fd());
        let (log, writer) = open_output(order)?;
        let output = writer.as_ref().map(|pipe| pipe.as_fd());
        let mut inherited = inherited(&self.held, &order.fds, passed)?;
        let (ours, theirs) = socket_for(order, order.waker)?.unzip();
        inherited.extend(order.waker.zip(theirs.as_ref()).map(|(target, socket)| (socket.as_fd(), target)));
        let is_tender = order.tender.is_some() || order.pool.is_some();
        let (control, its_control) = socket_for(order, is_tender.then_some(TENDER_CONTROL))?.unzip();
        inherited.extend(its_control.as_ref().map(|socket| (socket.as_fd(), TENDER_CONTROL)));
        if let (Some(tended), Some(control)) = (&order.tender, &control) {
            let tap = self.held.get(&tended.tap)?;
            seqpacket::send(control.as_fd(), &tended.told(), &[tap.as_fd()])
                .map_err(|why| format!("child {:?}: who its guest is cannot be told: {why}", order.id))?;
        }
        let started = self.spawner.start(order, &inherited, output, netns)?;
        self.last_serial += 1;
        let child = self.child(order, &started);
        self.children.add(&order.id, child, log);
        self.started.push(self.last_serial);
        self.wakers.extend(ours);
        match (&order.pool, control) {
            (Some(pool), Some(control)) => self.pools.add(pool, &order.id, control),
            (None, Some(control)) => self.sleepers.boots(&order.id, control),
            _ => {}
        }
        Ok(())
    }

    fn child(&self, order: &SpawnOrder, started: &Started) -> Child {
        // Both are readable until we reap it, which cannot happen before we return.
        let outer_pid = self.outer.pid(started.pidfd.as_fd()).unwrap_or(0);
        Child {
            serial: self.last_serial,
            pid: nix::unistd::Pid::from_raw(started.pid),
            outer_pid,
            start_ticks: self.outer.start_ticks(outer_pid).unwrap_or(0),
            spawned_at_ns: started.spawned_at_ns,
            privileged: order.privileged,
            log_path: order.log.clone(),
            is_summoned: order.summons.is_some(),
            life: Life::Running,
            dozes: false,
            trouble: None,
        }
    }

    fn need_descriptors(&self, count: usize) -> Result<(), String> {
        match self.open_files.allow(self.held.len() + self.children.logs.len() + self.sleepers.tenders() + count) {
            true => Ok(()),
            false => Err("the keeper's limit of open files is reached; raise it (ulimit -Hn) or release some".into()),
        }
    }
}

fn spawned(child: &Child) -> impl Serialize {
    #[derive(Serialize)]
    struct Spawned {
        pid: i32,
        start_ticks: u64,
        spawned_at_ns: u64,
    }
    Spawned { pid: child.outer_pid, start_ticks: child.start_ticks, spawned_at_ns: child.spawned_at_ns }
}

pub(super) fn program_of(order: &SpawnOrder) -> Result<&str, String> {
    let program = order.argv.first().filter(|program| program.starts_with('/'));
    program.map(String::as_str).ok_or_else(|| format!("child {:?}: argv must begin with an absolute path", order.id))
}

/// A socket between us and a child that is to have one: our end and its own.
fn socket_for(order: &SpawnOrder, target: Option<i32>) -> Result<Option<(OwnedFd, OwnedFd)>, String> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let pair = |_| socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
    target.map(pair).transpose().map_err(|why| format!("child {:?}: socketpair: {why}", order.id))
}

/// Where a child's output is read by us, if we do, and what it writes to.
fn open_output(order: &SpawnOrder) -> Result<(Option<LogPipe>, Option<OwnedFd>), String> {
    let Some(path) = &order.log else { return Ok((None, None)) };
    let complain = |why: std::io::Error| format!("child {:?}: log {path:?}: {why}", order.id);
    if !path.starts_with('/') {
        return Err(format!("child {:?}: log {path:?} is not an absolute path", order.id));
    }
    let file = CappedFile::open(Path::new(path)).map_err(complain)?;
    if order.own_log {
        return Ok((None, file.into_own().map_err(complain)?));
    }
    let (reader, writer) = output_pipe().map_err(complain)?;
    Ok((Some(LogPipe::new(reader, file)), Some(writer)))
}

fn complain_in_log(order: &SpawnOrder, why: &str) {
    let log = order.log.as_ref().and_then(|path| CappedFile::open(Path::new(path)).ok());
    if let Some(mut log) = log {
        log.append(format!("not started again: {why}\n").as_bytes());
    }
}

fn inherited<'a>(
    held: &'a Held,
    wanted: &[Inherited],
    passed: &'a [OwnedFd],
) -> Result<Vec<(BorrowedFd<'a>, RawFd)>, String> {
    let source = |one: &Inherited| match (&one.held, one.passed) {
        (Some(name), None) => held.get(name).map(|shared| shared.as_fd()),
        (None, Some(index)) => {
            let missing = || format!("descriptor {index} was not passed; {} came", passed.len());
            passed.get(index).map(AsFd::as_fd).ok_or_else(missing)
        }
        _ => Err(format!("descriptor number {}: give either held or passed", one.target)),
    };
    wanted.iter().map(|one| Ok((source(one)?, one.target))).collect()
}
