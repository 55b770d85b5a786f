//! All lines of a cloud: which there are, and which of them has something due.

use super::control::{Declared, Row, Stats};
use super::line::{Fate, LATE_BOUNDS_US, Line, Shape};
use super::queue::{Arrival, Buffers, Queue};
use crate::failure::{Context, Failure};
use crate::time::{monotonic_ns, real_ns};
use nix::sched::{CloneFlags, setns};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::stat::fstat;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::ops::Bound;
use std::os::fd::OwnedFd;

const MAX_LINES: usize = 8_192;
/// Rows of one answer, so that it fits a packet.
const MAX_ROWS: usize = 300;
const MAX_ID_BYTES: usize = 128;
/// The longest that a packet may have waited for us to hear of it [ns].
const MAX_AGE_NS: u64 = 200_000_000;
/// Batches read from one queue before the others get their turn.
const ROUNDS: usize = 8;
/// Packets that have arrived and were not yet read count in the kernel only: room for them beside what waits.
const UNREAD_PACKETS: u32 = 4_096;

/// A line and the queue that feeds it.
struct Fed {
    line: Line,
    queue: Queue,
    number: u16,
    netns_inode: u64,
}

impl Fed {
    /// Lets go on what is due.
    fn release(&mut self, now_ns: u64) {
        if let Some(last) = self.line.release(now_ns) {
            self.queue.accept_through(last);
        }
    }
}

impl Drop for Fed {
    /// What waits goes on at once: closing the queue would drop it.
    fn drop(&mut self) {
        if let Some(last) = self.line.release_all() {
            self.queue.accept_through(last);
        }
    }
}

pub struct Lines {
    /// The network namespace to come back to.
    home: File,
    lines: HashMap<u64, Fed>,
    tokens: BTreeMap<String, u64>,
    /// (when [ns], line) of every line in which something waits.
    due: BTreeSet<(u64, u64)>,
    last_token: u64,
    buffers: Buffers,
}

impl Lines {
    /// Tokens of lines are above `first_token`.
    pub fn new(first_token: u64) -> Result<Self, Failure> {
        Ok(Self {
            home: File::open("/proc/self/ns/net").context("cannot open /proc/self/ns/net")?,
            lines: HashMap::new(),
            tokens: BTreeMap::new(),
            due: BTreeSet::new(),
            last_token: first_token,
            buffers: Buffers::new(),
        })
    }

    /// Makes the line as declared: new, reshaped, or bound anew when its queue or namespace is another one.
    pub fn set(&mut self, declared: &Declared, netns: Option<&OwnedFd>, epoll: &Epoll) -> Result<(), String> {
        let complain = |why: String| format!("link direction {:?}: {why}", declared.id);
        let shape = declared.shape.check().map_err(complain)?;
        let inode = netns.map(|netns| fstat(netns).map(|status| status.st_ino)).transpose();
        let inode = inode.map_err(|why| complain(why.to_string()))?;
        if let Some(fed) = self.tokens.get(&declared.id).and_then(|token| self.lines.get_mut(token))
            && fed.number == declared.queue
            && inode.is_none_or(|inode| inode == fed.netns_inode)
        {
            fed.line.reshape(shape);
            return fed.queue.set_max_packets(max_packets(shape)).map_err(|why| complain(why.to_string()));
        }
        self.add(declared, shape, netns.zip(inode), epoll).map_err(complain)
    }

    fn add(
        &mut self,
        declared: &Declared,
        shape: Shape,
        netns: Option<(&OwnedFd, u64)>,
        epoll: &Epoll,
    ) -> Result<(), String> {
        let (netns, netns_inode) = netns.ok_or("it is new, so its network namespace must be passed")?;
        if self.lines.len() >= MAX_LINES || declared.id.is_empty() || declared.id.len() > MAX_ID_BYTES {
            return Err(format!("at most {MAX_LINES} lines, each with an id of 1 to {MAX_ID_BYTES} bytes"));
        }
        self.remove(&declared.id);
        let queue = self.open_queue(netns, declared.queue, max_packets(shape))?;
        self.last_token += 1;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, self.last_token);
        epoll.add(queue.descriptor(), event).map_err(|why| why.to_string())?;
        let fed = Fed { line: Line::new(shape), queue, number: declared.queue, netns_inode };
        self.lines.insert(self.last_token, fed);
        self.tokens.insert(declared.id.clone(), self.last_token);
        Ok(())
    }

    fn open_queue(&self, netns: &OwnedFd, number: u16, max_packets: u32) -> Result<Queue, String> {
        setns(netns, CloneFlags::CLONE_NEWNET).map_err(|why| format!("cannot enter its namespace: {why}"))?;
        let queue = Queue::open(number, max_packets);
        // Staying would keep the namespace alive for as long as we live.
        setns(&self.home, CloneFlags::CLONE_NEWNET).map_err(|why| format!("cannot come back: {why}"))?;
        queue.map_err(|why| format!("cannot bind queue {number}: {why}"))
    }

    /// Drops a line; what waits in it goes on at once. An unknown one is ignored.
    pub fn remove(&mut self, id: &str) {
        let Some(token) = self.tokens.remove(id) else { return };
        let Some(fed) = self.lines.remove(&token) else { return };
        if let Some(due_ns) = fed.line.due_ns() {
            self.due.remove(&(due_ns, token));
        }
    }

    /// Rows in order of id, those behind `after` only.
    pub fn stats(&self, after: &str) -> Stats<'_> {
        let mut behind = self.tokens.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let rows = behind.by_ref().take(MAX_ROWS).map(|(id, token)| {
            let line = &self.lines[token].line;
            Row::new(id, line.waiting(), &line.counts)
        });
        let queues = rows.collect();
        Stats { late_bounds_us: LATE_BOUNDS_US, queues, more: behind.next().is_some() }
    }

    /// Takes what arrived on one queue.
    pub fn receive(&mut self, token: u64) {
        let Some(Fed { line, queue, .. }) = self.lines.get_mut(&token) else { return };
        let before = line.due_ns();
        for _ in 0..ROUNDS {
            let read = ReadAt::now();
            let more = queue.receive(&mut self.buffers, |arrival| {
                if line.arrive(arrival.packet, read.arrived_ns(arrival)) == Fate::Dropped {
                    queue.drop_packet(arrival.packet);
                }
            });
            if !more {
                break;
            }
        }
        self.settle(token, before, monotonic_ns());
    }

    /// Lets go on whatever is due.
    pub fn release(&mut self, now_ns: u64) {
        while let Some((due_ns, token)) = self.due.first().copied()
            && due_ns <= now_ns
        {
            self.settle(token, Some(due_ns), now_ns);
        }
    }

    /// When `release` is to be called again [ns].
    pub fn due_ns(&self) -> Option<u64> {
        self.due.first().map(|(due_ns, _)| *due_ns)
    }

    /// Releases from one line and notes when it is due next; `before` is what was noted until now.
    fn settle(&mut self, token: u64, before: Option<u64>, now_ns: u64) {
        let Some(fed) = self.lines.get_mut(&token) else { return };
        fed.release(now_ns);
        let after = fed.line.due_ns();
        if before != after {
            before.map(|due_ns| self.due.remove(&(due_ns, token)));
            after.map(|due_ns| self.due.insert((due_ns, token)));
        }
    }
}

/// The moment at which a queue was read, on both clocks.
struct ReadAt {
    monotonic_ns: u64,
    real_ns: u64,
}

impl ReadAt {
    fn now() -> Self {
        Self { monotonic_ns: monotonic_ns(), real_ns: real_ns() }
    }

    /// When a packet arrived. However late we are to hear of it, it is not delayed for longer.
    fn arrived_ns(&self, arrival: Arrival) -> u64 {
        let age_ns = arrival.at_real_ns.map_or(0, |at_ns| self.real_ns.saturating_sub(at_ns));
        // Older than this means that somebody has set the machine's clock.
        if age_ns > MAX_AGE_NS { self.monotonic_ns } else { self.monotonic_ns - age_ns }
    }
}

fn max_packets(shape: Shape) -> u32 {
    shape.limit_packets as u32 + UNREAD_PACKETS
}
