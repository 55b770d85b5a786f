//! Children that sleep until they are wanted: what wakes them, and whose memory they may take.
//!
//! The descriptor that a child sleeps on is only looked at, never read: what made it readable waits there for the child.

use super::protocol::{Share, SpawnOrder};
use crate::seqpacket::{self, Received};
use crate::tender::told as tender;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

const AT_ONCE: usize = 256;
const LONGEST_NEWS: usize = 1024;
/// So many guests boot at a time for each processor: more would only be slower, each and all.
const BOOTING_PER_PROCESSOR: usize = 2;

/// What happened to a sleeper.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// Something waits for it.
    Wanted(String),
    /// Its tender has said something, or is gone.
    Said(String),
}

/// Memory that the children of one name share [byte].
#[derive(Default)]
struct Budget {
    bytes: u64,
    used_bytes: u64,
}

pub struct Sleepers {
    epoll: Epoll,
    /// A second hand on what each sleeps on, so that it can be taken off the list whoever let go of it meanwhile.
    armed: BTreeMap<String, (u64, Rc<OwnedFd>)>,
    ids: HashMap<u64, String>,
    last_token: u64,
    budgets: BTreeMap<String, Budget>,
    /// Budget and bytes of those awake.
    taken: HashMap<String, (String, u64)>,
    /// Where tenders say how their guests are.
    tenders: HashMap<String, (u64, OwnedFd)>,
    /// Those of them whose guests have not booted yet.
    booting: HashSet<String>,
    /// Those that are wanted and must wait until others have booted.
    waiting: HashSet<String>,
    /// Their turns; whoever does not wait any more is passed over.
    turns: VecDeque<String>,
    most_booting: usize,
}

impl Sleepers {
    pub fn new() -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let (armed, budgets) = (BTreeMap::new(), BTreeMap::new());
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            epoll,
            armed,
            ids: HashMap::new(),
            last_token: 0,
            budgets,
            taken: HashMap::new(),
            tenders: HashMap::new(),
            booting: HashSet::new(),
            waiting: HashSet::new(),
            turns: VecDeque::new(),
            most_booting: BOOTING_PER_PROCESSOR * processors,
        })
    }

    /// Becomes readable when one of the sleepers is wanted.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Has `id` woken as soon as `descriptor` can be read.
    pub fn arm(&mut self, id: &str, descriptor: &Rc<OwnedFd>) -> Result<(), String> {
        self.disarm(id);
        self.last_token += 1;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, self.last_token);
        self.epoll.add(descriptor.as_ref(), event).map_err(|why| match why {
            Errno::EEXIST => "another child sleeps on the same descriptor".into(),
            other => format!("cannot wait for its descriptor: {other}"),
        })?;
        self.ids.insert(self.last_token, id.to_owned());
        self.armed.insert(id.to_owned(), (self.last_token, Rc::clone(descriptor)));
        Ok(())
    }

    /// Waits for `id` no longer, nor does it for its turn; one that is not armed is fine.
    pub fn disarm(&mut self, id: &str) {
        self.waiting.remove(id);
        self.look_away(id);
    }

    fn look_away(&mut self, id: &str) {
        if let Some((token, descriptor)) = self.armed.remove(id) {
            let _ = self.epoll.delete(descriptor.as_ref());
            self.ids.remove(&token);
        }
    }

    /// What has happened.
    pub fn news(&mut self) -> Vec<News> {
        let mut events = [EpollEvent::empty(); AT_ONCE];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let news = |event: &EpollEvent| {
            let id = self.ids.get(&event.data())?;
            let is_tender = self.tenders.get(id).is_some_and(|(token, _)| *token == event.data());
            Some(if is_tender { News::Said(id.clone()) } else { News::Wanted(id.clone()) })
        };
        events[..count].iter().filter_map(news).collect()
    }

    /// Whether one more guest may boot now.
    pub fn may_boot(&self) -> bool {
        self.booting.len() < self.most_booting
    }

    /// Notes that a guest boots; its tender says something on `control`, or closes it, when it has.
    pub fn boots(&mut self, id: &str, control: OwnedFd) {
        self.tends(id, control);
        if self.tenders.contains_key(id) {
            self.booting.insert(id.to_owned());
        }
    }

    /// Listens to the tender of a guest.
    pub fn tends(&mut self, id: &str, control: OwnedFd) {
        self.forget_tender(id);
        self.last_token += 1;
        if self.epoll.add(&control, EpollEvent::new(EpollFlags::EPOLLIN, self.last_token)).is_ok() {
            self.ids.insert(self.last_token, id.to_owned());
            self.tenders.insert(id.to_owned(), (self.last_token, control));
        }
    }

    /// Takes what a tender has said; one that is gone is forgotten.
    pub fn hear(&mut self, id: &str) -> Vec<tender::News> {
        let mut said = vec![];
        let mut words = [0; LONGEST_NEWS];
        while let Some((_, control)) = self.tenders.get(id) {
            match seqpacket::receive(control.as_fd(), &mut words) {
                Ok(Received::Packet { bytes, .. }) => said.extend(tender::News::read(&words[..bytes])),
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                _ => self.forget_tender(id),
            }
        }
        if said.contains(&tender::News::Ready) {
            self.booting.remove(id);
        }
        said
    }

    /// Listens to the tender of `id` no longer.
    pub fn forget_tender(&mut self, id: &str) {
        self.booting.remove(id);
        if let Some((token, control)) = self.tenders.remove(id) {
            let _ = self.epoll.delete(&control);
            self.ids.remove(&token);
        }
    }

    /// How many tenders are listened to.
    pub fn tenders(&self) -> usize {
        self.tenders.len()
    }

    /// Takes the one whose turn it is to boot, if there is room for it.
    pub fn next_to_boot(&mut self) -> Option<String> {
        if !self.may_boot() {
            return None;
        }
        while let Some(id) = self.turns.pop_front() {
            if self.waiting.remove(&id) {
                return Some(id);
            }
        }
        None
    }

    /// Has `id` wait for its turn to boot, instead of for being wanted.
    pub fn queue(&mut self, id: &str) {
        self.look_away(id);
        if self.waiting.insert(id.to_owned()) {
            self.turns.push_back(id.to_owned());
        }
    }

    /// Lets the children of `name` take so much memory together [byte].
    pub fn set_budget(&mut self, name: String, bytes: u64) {
        self.budgets.entry(name).or_default().bytes = bytes;
    }

    /// Takes the memory of `order` from its budget, if it has one and there is enough.
    pub fn take_memory(&mut self, order: &SpawnOrder) -> Result<(), String> {
        let Some(Share { budget: name, bytes }) = share(order) else { return Ok(()) };
        let budget = self.budgets.entry(name.clone()).or_default();
        if budget.used_bytes + bytes > budget.bytes {
            return Err(format!(
                "{name} has no memory left for it: {} of {} bytes are in use, it needs {bytes}",
                budget.used_bytes, budget.bytes
            ));
        }
        budget.used_bytes += bytes;
        self.taken.insert(order.id.clone(), (name.clone(), *bytes));
        Ok(())
    }

    pub fn give_memory_back(&mut self, id: &str) {
        if let Some((name, bytes)) = self.taken.remove(id)
            && let Some(budget) = self.budgets.get_mut(&name)
        {
            budget.used_bytes -= bytes;
        }
    }
}

fn share(order: &SpawnOrder) -> Option<&Share> {
    order.summons.as_ref()?.memory.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (Rc<OwnedFd>, OwnedFd) {
        let (left, right) = socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_CLOEXEC).unwrap();
        (Rc::new(left), right)
    }

    fn order(bytes: u64) -> SpawnOrder {
        let summons = format!(r#"{{"held":"x","idle_status":0,"memory":{{"budget":"h1","bytes":{bytes}}}}}"#);
        serde_json::from_str(&format!(r#"{{"id":"x","argv":["/x"],"summons":{summons}}}"#)).unwrap()
    }

    #[test]
    fn one_is_wanted_when_something_waits_for_it_and_nothing_is_read() {
        let mut sleepers = Sleepers::new().unwrap();
        let ((here, there), (other, _end)) = (pair(), pair());
        sleepers.arm("x", &here).unwrap();
        sleepers.arm("y", &other).unwrap();
        assert!(sleepers.news().is_empty());
        nix::unistd::write(&there, b"frame").unwrap();
        assert_eq!(sleepers.news(), [News::Wanted("x".into())]);
        sleepers.disarm("x");
        assert!(sleepers.news().is_empty());
        sleepers.arm("x", &here).unwrap();
        assert_eq!(sleepers.news(), [News::Wanted("x".into())]);
    }

    #[test]
    fn those_beyond_what_may_boot_at_a_time_get_their_turn() {
        let mut sleepers = Sleepers { most_booting: 1, ..Sleepers::new().unwrap() };
        let pair = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap()
        };
        let ((ours, tender), (other, _tender)) = (pair(), pair());
        sleepers.boots("x", ours);
        assert!(!sleepers.may_boot());
        sleepers.queue("y");
        sleepers.queue("y");
        assert!(sleepers.news().is_empty());
        nix::unistd::write(&tender, b"ready").unwrap();
        assert_eq!(sleepers.news(), [News::Said("x".into())]);
        assert_eq!(sleepers.next_to_boot(), None);
        assert_eq!(sleepers.hear("x"), [tender::News::Ready]);
        assert_eq!(sleepers.next_to_boot().as_deref(), Some("y"));
        sleepers.boots("y", other);
        sleepers.queue("z");
        sleepers.forget_tender("y");
        sleepers.disarm("z");
        assert_eq!(sleepers.next_to_boot(), None);
    }

    #[test]
    fn memory_is_shared_and_comes_back() {
        let mut sleepers = Sleepers::new().unwrap();
        sleepers.set_budget("h1".into(), 100);
        sleepers.take_memory(&order(60)).unwrap();
        let refusal = sleepers.take_memory(&order(60)).unwrap_err();
        assert_eq!(refusal, "h1 has no memory left for it: 60 of 100 bytes are in use, it needs 60");
        sleepers.give_memory_back("x");
        sleepers.give_memory_back("x");
        sleepers.take_memory(&order(60)).unwrap();
    }

    #[test]
    fn without_a_budget_of_that_name_there_is_none() {
        assert!(Sleepers::new().unwrap().take_memory(&order(1)).is_err());
    }
}
