//! What each request does. A refusal is a sentence and changes nothing.

use super::children::{Child, Children};
use super::connection::Packet;
use super::descriptors::{Held, OpenFiles};
use super::log::{CappedFile, LogPipe};
use super::outer::OuterProc;
use super::protocol::{self, Identity, Inherited, Page, Request, SpawnOrder};
use super::spawn::{Spawner, Started, output_pipe};
use crate::failure::{Context, Failure};
use crate::seqpacket::{MAX_DESCRIPTORS, MAX_PACKET_BYTES};
use serde::Serialize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;

/// Everything a cloud's keeper knows.
pub struct Cloud {
    pub children: Children,
    held: Held,
    identity: Identity,
    namespaces: Vec<Rc<OwnedFd>>,
    outer: OuterProc,
    spawner: Spawner,
    open_files: OpenFiles,
    last_serial: u64,
}

/// What the server has to do besides sending the answer.
pub enum Effect {
    None,
    /// The output of this child (its serial) is to be read.
    Spawned(u64),
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
        Ok(Self { children, held, identity, namespaces, outer, spawner, open_files, last_serial: 0 })
    }

    /// Does what the packet asks.
    pub fn handle(&mut self, bytes: &[u8], descriptors: Vec<OwnedFd>) -> (Packet, Effect) {
        let answered = match serde_json::from_slice(bytes) {
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
            Request::Spawn(order) => {
                let packet = self.spawn(order.into(), &descriptors)?;
                Ok((packet, Effect::Spawned(self.last_serial)))
            }
            Request::Signal { id, signal } => {
                plain(self.children.signal(&id, signal).map(|()| protocol::done().into()))
            }
            Request::Forget { id } => plain(self.children.forget(&id).map(|()| protocol::done().into())),
            Request::Children(Page { after }) => {
                plain(Ok(protocol::page("children", self.children.rows(&after), MAX_PACKET_BYTES).into()))
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
        if order.restart && order.fds.iter().any(|one| one.passed.is_some()) {
            return Err(format!("child {:?}: one that is started again inherits held descriptors only", order.id));
        }
        self.start(&order, passed)?;
        let answer = protocol::answer(&self.children.get(&order.id).map(spawned));
        if order.restart {
            self.children.restarts.insert(order);
        }
        Ok(answer.into())
    }

    /// Starts the children whose time has come again; gives the serials of those whose output is to be read.
    pub fn start_again(&mut self, now_ns: u64) -> Vec<u64> {
        let mut started = vec![];
        for order in self.children.restarts.take_due(now_ns) {
            match self.start(&order, &[]) {
                Ok(()) => started.push(self.last_serial),
                Err(why) => {
                    complain_in_log(&order, &why);
                    self.children.restarts.ended(&order.id, 0, now_ns);
                }
            }
        }
        started
    }

    fn start(&mut self, order: &SpawnOrder, passed: &[OwnedFd]) -> Result<(), String> {
        self.need_descriptors(1)?;
        if !order.argv.first().is_some_and(|program| program.starts_with('/')) {
            return Err(format!("child {:?}: argv must begin with an absolute path", order.id));
        }
        let netns = order.netns.as_ref().map(|name| self.held.get(name)).transpose()?.cloned();
        let netns = netns.as_ref().map(|shared| shared.as_fd());
        let (log, writer) = open_log(order)?.unzip();
        let output = writer.as_ref().map(|pipe| pipe.as_fd());
        let inherited = inherited(&self.held, &order.fds, passed)?;
        let started = self.spawner.start(order, &inherited, output, netns)?;
        self.last_serial += 1;
        let child = self.child(order, &started);
        self.children.add(&order.id, child, log);
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
            exit: None,
        }
    }

    fn need_descriptors(&self, count: usize) -> Result<(), String> {
        match self.open_files.allow(self.held.len() + self.children.logs.len() + count) {
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

fn open_log(order: &SpawnOrder) -> Result<Option<(LogPipe, OwnedFd)>, String> {
    let Some(path) = &order.log else { return Ok(None) };
    let complain = |why: std::io::Error| format!("child {:?}: log {path:?}: {why}", order.id);
    if !path.starts_with('/') {
        return Err(format!("child {:?}: log {path:?} is not an absolute path", order.id));
    }
    let file = CappedFile::open(Path::new(path)).map_err(complain)?;
    let (reader, writer) = output_pipe().map_err(complain)?;
    Ok(Some((LogPipe::new(reader, file), writer)))
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
