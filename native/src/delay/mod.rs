//! Delay, jitter and loss of links, without netem.
//!
//! A rule at the receiving end of a link (`mangle PREROUTING -i DEV -j NFQUEUE --queue-num N --queue-bypass`) hands
//! packets over; this program lets them go on when their time has come. They stay in the kernel meanwhile. One
//! process serves all links of a cloud; it is controlled over descriptor 3 (see `control`) and ends when nobody has
//! the other side of that.
//!
//! Why at the receiving end: a packet waiting there no longer counts against its sender's socket, which would slow a
//! local TCP sender down to two packets per round trip; and the kernel can say when it arrived, so that it does not
//! matter how late we hear of it.
//!
//! A line keeps its network namespace alive: remove it before the namespace is to go. A segment that the sender has
//! left to the interface to cut up (GSO) counts as one packet, also for loss.

mod control;
mod line;
mod lines;
mod queue;

use crate::failure::{Context, Failure};
use crate::seqpacket::{self, MAX_PACKET_BYTES, Received};
use crate::time::monotonic_ns;
use control::{Answer, Declared, Order, Refusal, Request, Tagged};
use lines::Lines;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use nix::sys::stat::fstat;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use serde::Serialize;
use std::ffi::OsString;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::Duration;

const CONTROL_DESCRIPTOR: i32 = 3;
const CONTROL: u64 = 0;
const TIMER: u64 = 1;
/// The most by which the timer is set early, and so the longest that one wake-up keeps a processor busy [ns].
const MAX_LEAD_NS: u64 = 200_000;

/// Runs the delay lines until their controlling side is closed.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    if let Some(argument) = arguments.next() {
        return Err(Failure::usage(format!("unknown option {argument:?}; this program has none")));
    }
    // SAFETY: inherited for this purpose; fstat refuses a number that is not open.
    let control = unsafe { OwnedFd::from_raw_fd(CONTROL_DESCRIPTOR) };
    fstat(&control).map_err(|_| Failure::usage("descriptor 3 must be a SOCK_SEQPACKET socket"))?;
    crate::limits::raise_open_files()?;
    ask_for_short_slices();
    Server::new(control)?.run()
}

/// Asks the scheduler for short slices, which come sooner; kernels before 6.12 ignore it.
fn ask_for_short_slices() {
    #[repr(C)]
    #[derive(Default)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        slice_ns: u64,
        deadline: u64,
        period: u64,
    }
    // SAFETY: plain system calls; the attributes outlive the second.
    unsafe {
        let nice = libc::getpriority(libc::PRIO_PROCESS, 0);
        let size = size_of::<Attributes>() as u32;
        let attributes = Attributes { size, nice, slice_ns: 100_000, ..Default::default() };
        libc::syscall(libc::SYS_sched_setattr, 0, &attributes, 0);
    }
}

/// Has the kernel note when packets arrive, in every namespace, while the given socket is open.
fn stamp_arrivals() -> Result<OwnedFd, Failure> {
    let any = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).context("socket")?;
    setsockopt(&any, sockopt::ReceiveTimestamp, &true).context("SO_TIMESTAMP")?;
    Ok(any)
}

struct Server {
    epoll: Epoll,
    control: OwnedFd,
    timer: TimerFd,
    /// What the timer is set to.
    armed_ns: Option<u64>,
    /// How late the timer has woken us lately [ns]. It is set that much early; and packets go on that much before
    /// they are due, since whoever waits for them sleeps as we did and wakes up as late.
    lead_ns: u64,
    /// While it is open, the kernel notes when packets arrive.
    _stamping: OwnedFd,
    lines: Lines,
    buffer: Vec<u8>,
}

impl Server {
    fn new(control: OwnedFd) -> Result<Self, Failure> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("timerfd")?;
        epoll.add(&control, EpollEvent::new(EpollFlags::EPOLLIN, CONTROL)).context("descriptor 3")?;
        // Told once per expiration, so that nobody has to read it.
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER)).context("epoll")?;
        let buffer = vec![0; MAX_PACKET_BYTES];
        Ok(Self {
            epoll,
            control,
            timer,
            armed_ns: None,
            lead_ns: 0,
            _stamping: stamp_arrivals()?,
            lines: Lines::new(TIMER)?,
            buffer,
        })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                other => other.context("epoll")?,
            };
            for event in &events[..count] {
                match event.data() {
                    CONTROL if !self.obey() => return Ok(()),
                    CONTROL => {}
                    TIMER => self.on_timer(),
                    token => self.lines.receive(token),
                }
            }
            self.lines.release(monotonic_ns() + self.lead_ns);
            self.arm().context("timerfd")?;
        }
    }

    /// Waits out what is left of the lead: a processor that slept wakes up late, and by how much varies.
    fn on_timer(&mut self) {
        let Some(armed_ns) = self.armed_ns.take() else { return };
        let mut now_ns = monotonic_ns();
        let late_ns = now_ns.saturating_sub(armed_ns).min(MAX_LEAD_NS);
        self.lead_ns = self.lead_ns - self.lead_ns / 8 + late_ns / 8;
        let Some(due_ns) = self.release_ns() else { return };
        while now_ns < due_ns && due_ns <= now_ns + MAX_LEAD_NS {
            std::hint::spin_loop();
            now_ns = monotonic_ns();
        }
    }

    /// When to let the next packet go on [ns].
    fn release_ns(&self) -> Option<u64> {
        self.lines.due_ns().map(|due_ns| due_ns.saturating_sub(self.lead_ns))
    }

    /// Sets the timer to shortly before something is to go on.
    fn arm(&mut self) -> nix::Result<()> {
        let due_ns = self.release_ns().map(|release_ns| release_ns.saturating_sub(self.lead_ns));
        if due_ns == self.armed_ns {
            return Ok(());
        }
        self.armed_ns = due_ns;
        let Some(due_ns) = due_ns else { return self.timer.unset() };
        let at = TimeSpec::from_duration(Duration::from_nanos(due_ns));
        self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
    }

    /// Does what one control packet asks; `false` when there will be no more.
    fn obey(&mut self) -> bool {
        let (bytes, descriptors) = match seqpacket::receive(self.control.as_fd(), &mut self.buffer) {
            Ok(Received::Packet { bytes, descriptors }) => (bytes, descriptors),
            Ok(Received::Closed) => return false,
            Ok(Received::TooLarge) => {
                self.refuse(0, "a packet or its descriptors do not fit".into());
                return true;
            }
            Err(_) => return true,
        };
        match serde_json::from_slice::<Request>(&self.buffer[..bytes]) {
            Err(why) => {
                let tagged = serde_json::from_slice::<Tagged>(&self.buffer[..bytes]);
                self.refuse(tagged.map_or(0, |one| one.tag), format!("not a request: {why}"));
            }
            Ok(Request { tag, order }) => self.perform(tag, order, &descriptors),
        }
        true
    }

    fn perform(&mut self, tag: u64, order: Order, descriptors: &[OwnedFd]) {
        match order {
            Order::Set { queues } => match queues.iter().try_for_each(|one| self.set(one, descriptors)) {
                Ok(()) => self.answer(tag, &()),
                Err(sentence) => self.refuse(tag, sentence),
            },
            Order::Remove { ids } => {
                ids.iter().for_each(|id| self.lines.remove(id));
                self.answer(tag, &());
            }
            Order::Stats { after } => self.answer(tag, &self.lines.stats(&after)),
        }
    }

    fn set(&mut self, declared: &Declared, descriptors: &[OwnedFd]) -> Result<(), String> {
        let missing = || format!("link direction {:?}: its descriptor was not passed", declared.id);
        let netns = declared.netns.map(|index| descriptors.get(index).ok_or_else(missing)).transpose()?;
        self.lines.set(declared, netns, &self.epoll)
    }

    fn answer(&self, tag: u64, body: &impl Serialize) {
        self.send(&Answer { tag, ok: true, body });
    }

    fn refuse(&self, tag: u64, error: String) {
        self.send(&Answer { tag, ok: false, body: Refusal { error } });
    }

    fn send(&self, answer: &impl Serialize) {
        let bytes = serde_json::to_vec(answer).expect("these values have string keys and no foreign code");
        // A controller that has gone, or does not read, has no use for the answer.
        let _ = seqpacket::send(self.control.as_fd(), &bytes, &[]);
    }
}
