//! Sleepers and how they are woken, with a guest that has booted ahead where one is ready.

use super::children::{Child, Life};
use super::log::CappedFile;
use super::protocol::SpawnOrder;
use super::requests::{Cloud, program_of};
use super::sleepers::News;
use crate::seqpacket;
use crate::tender::told as tender;
use crate::time::monotonic_ns;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;

/// Whoever wanted a sleeper comes before those who are told that it woke.
const TELL_LATER_NS: u64 = 10_000_000;

impl Cloud {
    /// Starts every sleeper that something waits for.
    pub fn wake_wanted(&mut self) {
        for news in self.sleepers.news() {
            match news {
                News::Wanted(id) => self.wake_in_background(&id),
                News::Said(id) => self.hear(&id),
            }
        }
        // As many as there is room for: one that cannot be started makes none of the others wait.
        while let Some(id) = self.sleepers.next_to_boot() {
            self.wake_in_background(&id);
        }
    }

    /// Takes what the tender of a child has said.
    pub(super) fn hear(&mut self, id: &str) {
        for news in self.sleepers.hear(id) {
            match news {
                tender::News::Ready => continue,
                tender::News::Asleep => self.children.dozes(id, true, monotonic_ns()),
                tender::News::Awake => self.children.dozes(id, false, monotonic_ns()),
                tender::News::Trouble(why) => self.children.complains(id, why),
            }
            self.stirs(id);
        }
    }

    /// Why one cannot be started is told to those who watch.
    fn wake_in_background(&mut self, id: &str) {
        let _ = self.wake(id);
    }

    /// Starts a child that sleeps; one that runs is fine.
    pub(super) fn wake(&mut self, id: &str) -> Result<(), String> {
        let child = self.children.get(id).ok_or_else(|| format!("there is no child {id:?}"))?;
        match child.life {
            Life::Running => Ok(()),
            Life::Ended(_) => Err(match &child.trouble {
                Some(why) => why.clone(),
                None => format!("child {id:?} has just failed and rests; its log says why"),
            }),
            Life::Asleep => {
                let order = self.children.restarts.order(id).cloned().ok_or("it cannot be started")?;
                if self.must_wait(&order) {
                    self.sleepers.queue(id);
                    return Ok(());
                }
                self.sleepers.disarm(id);
                self.stirs(id);
                let started = self.sleepers.take_memory(&order).and_then(|()| self.start_warm(&order));
                started.inspect_err(|why| {
                    self.sleepers.give_memory_back(id);
                    self.children.failed(id, why.clone(), monotonic_ns());
                })
            }
        }
    }

    /// Whether a child's guest must boot, and too many do already.
    fn must_wait(&mut self, order: &SpawnOrder) -> bool {
        let Some(tended) = &order.tender else { return false };
        !self.sleepers.may_boot() && !tended.pool.as_ref().is_some_and(|pool| self.pools.is_ready(pool))
    }

    /// Starts a child, with a guest that has booted ahead where one is ready.
    fn start_warm(&mut self, order: &SpawnOrder) -> Result<(), String> {
        let may_be_any = order.tender.as_ref().filter(|tended| !tended.is_put_away());
        while let Some((tended, pool)) = may_be_any.and_then(|tended| Some((tended, tended.pool.as_ref()?))) {
            let Some(member) = self.pools.take(pool) else { break };
            if !self.children.get(&member.id).is_some_and(|child| child.life == Life::Running) {
                continue;
            }
            let tap = self.held.get(&tended.tap)?;
            if seqpacket::send(member.control.as_fd(), &tended.told(), &[tap.as_fd()]).is_ok() {
                let log = order.log.as_ref().and_then(|path| CappedFile::open(Path::new(path)).ok());
                self.children.adopt(&member.id, order, log, monotonic_ns());
                self.sleepers.tends(&order.id, member.control);
                return Ok(());
            }
        }
        self.start(order, &[])
    }

    /// Has a child wait until it is wanted.
    pub(super) fn put_to_sleep(&mut self, order: &SpawnOrder) -> Result<(), String> {
        let Some(summons) = &order.summons else { return Ok(()) };
        program_of(order)?;
        let descriptor = Rc::clone(self.held.get(&summons.held)?);
        self.sleepers.arm(&order.id, &descriptor)?;
        let trouble = self.children.trouble_of_idle(order);
        self.last_serial += 1;
        let child = Child {
            serial: self.last_serial,
            pid: nix::unistd::Pid::from_raw(0),
            outer_pid: 0,
            start_ticks: 0,
            spawned_at_ns: monotonic_ns(),
            privileged: false,
            log_path: order.log.clone(),
            is_summoned: true,
            life: Life::Asleep,
            dozes: false,
            trouble,
        };
        self.children.add(&order.id, child, None);
        self.stirs(&order.id);
        Ok(())
    }

    pub(super) fn stirs(&mut self, id: &str) {
        self.stirred.push(id.to_owned());
        self.stirred_due_ns.get_or_insert_with(|| monotonic_ns() + TELL_LATER_NS);
    }
}
