//! The children of this keeper: running, or ended and not yet forgotten.

use super::log::{CappedFile, LogPipe};
use super::protocol::{ChildRow, SpawnOrder, State};
use super::restarts::Restarts;
use crate::time::monotonic_ns;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// The most children one cloud may have, the ended ones that nobody has forgotten included.
pub const MAX_CHILDREN: usize = 32_768;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub at_ns: u64,
}

pub struct Child {
    /// Never used twice, unlike an id or a pid.
    pub serial: u64,
    /// In our pid namespace.
    pub pid: Pid,
    /// As people outside see it.
    pub outer_pid: i32,
    pub start_ticks: u64,
    pub spawned_at_ns: u64,
    pub privileged: bool,
    pub log_path: Option<String>,
    /// Whether it is started when it is wanted: then watchers are told of all that becomes of it.
    pub is_summoned: bool,
    pub life: Life,
    /// Whether it stands still while it runs, until it is wanted.
    pub dozes: bool,
    pub trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Asleep,
    Running,
    Ended(Exit),
}

impl Life {
    pub fn exit(&self) -> Option<Exit> {
        if let Self::Ended(exit) = self { Some(*exit) } else { None }
    }
}

impl Child {
    pub fn row<'a>(&'a self, id: &'a str) -> ChildRow<'a> {
        ChildRow {
            id,
            pid: self.outer_pid,
            start_ticks: self.start_ticks,
            spawned_at_ns: self.spawned_at_ns,
            state: match self.life {
                Life::Asleep => State::Asleep,
                Life::Running if self.dozes => State::Asleep,
                Life::Running => State::Running,
                Life::Ended(_) => State::Exited,
            },
            exit_code: self.life.exit().and_then(|exit| exit.code),
            signal: self.life.exit().and_then(|exit| exit.signal),
            exited_at_ns: self.life.exit().map(|exit| exit.at_ns),
            log: self.log_path.as_deref(),
            summoned: self.is_summoned,
            trouble: self.trouble.as_deref(),
        }
    }
}

/// Children by id, and the pipes of their output by serial.
#[derive(Default)]
pub struct Children {
    by_id: BTreeMap<String, Child>,
    ids_by_pid: HashMap<Pid, String>,
    pub logs: HashMap<u64, LogPipe>,
    pub restarts: Restarts,
}

impl Children {
    /// Whether a child of this id may be added.
    pub fn room_for(&self, id: &str) -> Result<(), String> {
        if id.is_empty() || id.len() > 255 {
            return Err(format!("a child's id has 1 to 255 bytes, this one {}", id.len()));
        }
        if self.by_id.contains_key(id) {
            return Err(format!("child {id:?} is known already; forget it first"));
        }
        if self.by_id.len() >= MAX_CHILDREN {
            return Err(format!("{MAX_CHILDREN} children are known already; forget those that have ended"));
        }
        Ok(())
    }

    /// Adds a child, in place of the one that ended and is started again.
    pub fn add(&mut self, id: &str, child: Child, log: Option<LogPipe>) {
        let serial = child.serial;
        if child.life == Life::Running {
            self.ids_by_pid.insert(child.pid, id.to_owned());
        }
        if let Some(before) = self.by_id.insert(id.to_owned(), child) {
            self.logs.remove(&before.serial);
        }
        if let Some(log) = log {
            self.logs.insert(serial, log);
        }
    }

    pub fn get(&self, id: &str) -> Option<&Child> {
        self.by_id.get(id)
    }

    pub fn is_privileged(&self, pid: Pid) -> bool {
        let child = self.ids_by_pid.get(&pid).and_then(|id| self.by_id.get(id));
        child.is_some_and(|child| child.privileged)
    }

    /// Rows in order of id, those behind `after` only.
    pub fn rows(&self, after: &str) -> impl Iterator<Item = ChildRow<'_>> {
        let behind = self.by_id.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        behind.map(|(id, child)| child.row(id))
    }

    /// Ids of those that have ended, and of those that are started when they are wanted.
    pub fn worth_telling(&self) -> impl Iterator<Item = &String> {
        self.by_id.iter().filter(|(_, child)| child.is_summoned || child.life.exit().is_some()).map(|(id, _)| id)
    }

    /// Gives the process of `member` to the child of `order`, which sleeps; what it prints goes to `log` from now on.
    pub fn adopt(&mut self, member: &str, order: &SpawnOrder, log: Option<CappedFile>, now_ns: u64) {
        let Some(child) = self.by_id.remove(member) else { return };
        self.ids_by_pid.insert(child.pid, order.id.clone());
        if let (Some(pipe), Some(log)) = (self.logs.get_mut(&child.serial), log) {
            pipe.redirect(log);
        }
        let child = Child { spawned_at_ns: now_ns, log_path: order.log.clone(), is_summoned: true, ..child };
        self.by_id.insert(order.id.clone(), child);
    }

    /// Notes that a child stands still, which is the end of what went wrong with it before, or goes on.
    pub fn dozes(&mut self, id: &str, dozes: bool, now_ns: u64) {
        let Some(child) = self.by_id.get_mut(id) else { return };
        child.dozes = dozes;
        if dozes {
            child.trouble = None;
        } else {
            child.spawned_at_ns = now_ns;
        }
    }

    /// Notes what went wrong with a child, unless it ended for worse.
    pub fn complains(&mut self, id: &str, why: String) {
        let Some(child) = self.by_id.get_mut(id) else { return };
        let order = self.restarts.order(id);
        let has_failed = |exit| !order.is_some_and(|order| is_idle(order, exit));
        if !child.life.exit().is_some_and(has_failed) {
            child.trouble = Some(why);
        }
    }

    /// What went wrong with a child that has just ended because nobody wants it.
    pub fn trouble_of_idle(&self, order: &SpawnOrder) -> Option<String> {
        let child = self.by_id.get(&order.id)?;
        child.life.exit().filter(|exit| is_idle(order, *exit)).and_then(|_| child.trouble.clone())
    }

    /// Ends a child that sleeps.
    pub fn end_asleep(&mut self, id: &str, exit: Exit) {
        if let Some(child) = self.by_id.get_mut(id) {
            child.life = Life::Ended(exit);
        }
    }

    /// Notes of a child that sleeps why it could not be started, as an end that it rests after.
    pub fn failed(&mut self, id: &str, why: String, now_ns: u64) {
        let Some(child) = self.by_id.get_mut(id) else { return };
        child.life = Life::Ended(Exit { code: None, signal: None, at_ns: now_ns });
        child.trouble = Some(why);
        self.restarts.ended(id, 0, now_ns);
    }

    /// Sends `signal` to the child and everything in its group; one that ends it ends it for good.
    pub fn signal(&mut self, id: &str, signal: i32) -> Result<(), String> {
        let child = self.by_id.get(id).ok_or_else(|| format!("there is no child {id:?}"))?;
        let was_to_return = [libc::SIGTERM, libc::SIGKILL].contains(&signal) && self.restarts.remove(id);
        if child.life != Life::Running {
            return if was_to_return { Ok(()) } else { Err(format!("child {id:?} does not run")) };
        }
        // SAFETY: plain system call; real-time signals have numbers that the enum does not know.
        match unsafe { libc::kill(-child.pid.as_raw(), signal) } {
            0 => Ok(()),
            _ => Err(format!("cannot send signal {signal} to child {id:?}: {}", Errno::last())),
        }
    }

    /// Drops an ended child and its log; an unknown one is ignored.
    pub fn forget(&mut self, id: &str) -> Result<(), String> {
        let Some(child) = self.by_id.get(id) else { return Ok(()) };
        if child.life == Life::Running {
            return Err(format!("child {id:?} still runs; signal it first"));
        }
        self.logs.remove(&child.serial);
        self.by_id.remove(id);
        self.restarts.remove(id);
        Ok(())
    }

    /// Takes one ended process off the kernel's list; the id of the child that it was, if it was one.
    ///
    /// What is left of its process group ends with it.
    pub fn reap(&mut self) -> Reaped {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let Some(pid) = waitid(Id::All, flags).ok().and_then(|status| status.pid()) else {
            return Reaped::Nothing;
        };
        let id = self.ids_by_pid.remove(&pid);
        if id.is_some() {
            // Before the wait below frees the number for somebody else.
            let _ = killpg(pid, Signal::SIGKILL);
        }
        let status = waitpid(pid, None);
        let child = id.and_then(|id| self.by_id.get_mut(&id).map(|child| (id, child)));
        let Some((id, child)) = child else {
            return Reaped::Stranger;
        };
        let now_ns = monotonic_ns();
        let exit = exit_of(status, now_ns);
        child.life = Life::Ended(exit);
        match self.restarts.order(&id).is_some_and(|order| is_idle(order, exit)) {
            true => self.restarts.rests(&id, now_ns),
            false => {
                // What it ended with is worse.
                child.trouble = None;
                self.restarts.ended(&id, now_ns.saturating_sub(child.spawned_at_ns), now_ns);
            }
        }
        Reaped::Child(id)
    }
}

pub enum Reaped {
    Nothing,
    /// Something that one of our children left behind.
    Stranger,
    Child(String),
}

/// Whether a child ended because nobody wants it now.
fn is_idle(order: &SpawnOrder, exit: Exit) -> bool {
    order.summons.as_ref().is_some_and(|summons| exit.code == Some(summons.idle_status))
}

fn exit_of(status: nix::Result<WaitStatus>, at_ns: u64) -> Exit {
    match status {
        Ok(WaitStatus::Exited(_, code)) => Exit { code: Some(code), signal: None, at_ns },
        Ok(WaitStatus::Signaled(_, signal, _)) => Exit { code: None, signal: Some(signal as i32), at_ns },
        _ => Exit { code: None, signal: None, at_ns },
    }
}
