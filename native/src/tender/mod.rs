//! The tender of one virtual machine: starts the hypervisor, tells the guest who it is once it has booted, and carries
//! frames between the guest and its tap. When nobody wants the guest any more, it ends, or is kept as its order says.
//!
//! A guest may boot long before anybody knows who it is to be (a warm pool). And the hypervisor takes frames off its
//! network as soon as it sees them, also when there is no guest yet; so the tap is ours, and what is for a guest that
//! boots, or is about to sleep, stays in it.

mod checksum;
mod console;
mod control;
mod frames;
mod hypervisor;
mod machine;
mod qmp;
mod snapshot;
pub mod told;

use crate::arguments::Options;
use crate::failure::{Context, Failure};
use console::Word;
use control::Control;
use frames::Frames;
use machine::Machine;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use snapshot::Snapshot;
use std::ffi::OsString;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::exit;
use told::{News, Told, WhenIdle};

const CONTROL: i32 = 3;
/// What a hypervisor ends with whose guest ended as nobody wanted it.
const IDLE_STATUS: i32 = 1;

/// Tends a virtual machine until it ends, and ends with its status.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    Options::parse(arguments.by_ref().take_while(|word| word != "--"), &[], &[])?;
    // SAFETY: inherited for this purpose.
    let control = Control::new(unsafe { OwnedFd::from_raw_fd(CONTROL) });
    let command: Vec<OsString> = arguments.collect();
    let told = control.hear().context(WHO)?;
    let status = Tender::new(&command, control, told)?.tend()?;
    exit(status)
}

const WHO: &str = "who the guest is to be";

struct Tender {
    control: Control,
    machine: Machine,
    /// Between the tap and the guest, once there is a tap.
    frames: Option<Frames>,
    /// What the guest is still to be told.
    identity: Option<String>,
    when_idle: WhenIdle,
    is_booted: bool,
}

impl Tender {
    /// Starts the machine, with the guest of a snapshot if there is one.
    fn new(command: &[OsString], control: Control, told: Option<(Told, OwnedFd)>) -> Result<Self, Failure> {
        let taken_up = told.as_ref().and_then(|(told, _)| take_up(command, &control, &told.when_idle));
        let goes_on = taken_up.is_some();
        // One that is told later may be any.
        let may_be_kept = told.as_ref().is_none_or(|(told, _)| matches!(told.when_idle, WhenIdle::Snapshotted(_)));
        let machine = taken_up.map_or_else(|| Machine::start(command, may_be_kept), Ok)?;
        let when_idle = WhenIdle::Deleted;
        let mut tender = Self { control, machine, frames: None, identity: None, when_idle, is_booted: false };
        match told {
            Some((told, tap)) if goes_on => {
                tender.tend_to(told.when_idle, tap);
                tender.let_through();
            }
            Some((told, tap)) => tender.on_told(told, tap)?,
            None => {}
        }
        Ok(tender)
    }

    fn tend(&mut self) -> Result<i32, Failure> {
        loop {
            let [has_ended, has_printed, is_spoken_to] = self.wait()?;
            if has_printed {
                while let Some(word) = self.machine.console.read() {
                    if let Some(status) = self.on_word(&word)? {
                        return Ok(status);
                    }
                }
            }
            if is_spoken_to && let Some((told, tap)) = self.control.hear().context(WHO)? {
                self.on_told(told, tap)?;
            }
            self.carry();
            if has_ended {
                return self.machine.hypervisor.status();
            }
        }
    }

    /// Sleeps until something happens: the hypervisor ended, the console has text, or we are told who the guest is.
    ///
    /// A pool member that nobody holds any more is not, and ends.
    fn wait(&self) -> Result<[bool; 3], Failure> {
        let Machine { hypervisor, console, .. } = &self.machine;
        let mut waited = vec![
            PollFd::new(hypervisor.pidfd(), PollFlags::POLLIN),
            PollFd::new(console.socket(), if console.is_open { PollFlags::POLLIN } else { PollFlags::empty() }),
        ];
        match &self.frames {
            Some(frames) => waited.extend(frames.interests(self.machine.network())),
            None => waited.push(PollFd::new(self.control.socket(), PollFlags::POLLIN)),
        }
        match poll(&mut waited, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(why) => return Err(Failure::system("poll", why)),
        }
        let has_news = |one: Option<&PollFd>| one.and_then(PollFd::any).unwrap_or(false);
        let spoken_to = self.frames.is_none() && has_news(waited.last());
        Ok([has_news(waited.first()), has_news(waited.get(1)), spoken_to])
    }

    fn carry(&mut self) {
        if let Some(frames) = &mut self.frames {
            frames.carry(self.machine.network());
        }
    }

    /// Does what the guest's word asks for; gives the status to end with, if that is it.
    fn on_word(&mut self, word: &Word) -> Result<Option<i32>, Failure> {
        match word {
            Word::Ready => {
                self.is_booted = true;
                self.control.tell(&News::Ready);
                self.introduce()?;
            }
            Word::Idle => self.last_look(if matches!(self.when_idle, WhenIdle::Deleted) { "" } else { "look" })?,
            Word::Leaving => self.last_look("")?,
            Word::Busy => self.let_through(),
            Word::Still => return self.put_away(),
        }
        Ok(None)
    }

    /// Holds back what comes from now on, and has the guest look whether something came before.
    fn last_look(&mut self, words: &str) -> Result<(), Failure> {
        if let Some(frames) = &mut self.frames {
            frames.hold_back(self.machine.network());
        }
        self.say(words)
    }

    fn let_through(&mut self) {
        if let Some(frames) = &mut self.frames {
            frames.let_through();
        }
    }

    /// Keeps a guest that waits as it is: nobody wants it, and all that it was sent it has seen.
    fn put_away(&mut self) -> Result<Option<i32>, Failure> {
        self.carry();
        match &self.when_idle {
            WhenIdle::Snapshotted(place) => {
                match self.machine.put_away(place) {
                    Ok(()) => self.control.tell(&News::Asleep),
                    Err(why) => self.control.complain(format!("its snapshot {why}; the guest will start anew")),
                }
                Ok(Some(IDLE_STATUS))
            }
            WhenIdle::Stopped => self.doze().map(|()| None),
            WhenIdle::Deleted => self.say("").map(|()| None),
        }
    }

    /// Stops the hypervisor until a frame waits; the guest's clock goes on meanwhile.
    fn doze(&mut self) -> Result<(), Failure> {
        let Some(frames) = &self.frames else { return Ok(()) };
        self.machine.hypervisor.stand_still(true);
        self.control.tell(&News::Asleep);
        frames.wait_for_one(self.machine.hypervisor.pidfd()).context("poll")?;
        self.machine.hypervisor.stand_still(false);
        self.control.tell(&News::Awake);
        self.machine.say_stay(0).context(NETWORK)
    }

    fn say(&self, words: &str) -> Result<(), Failure> {
        self.machine.say(words).context(NETWORK)
    }

    fn on_told(&mut self, told: Told, tap: OwnedFd) -> Result<(), Failure> {
        self.tend_to(told.when_idle, tap);
        self.identity = Some(told.identity);
        self.introduce()
    }

    fn tend_to(&mut self, when_idle: WhenIdle, tap: OwnedFd) {
        (self.frames, self.when_idle) = (Some(Frames::new(tap)), when_idle);
    }

    /// Tells a guest that has booted who it is.
    fn introduce(&mut self) -> Result<(), Failure> {
        if self.is_booted
            && let Some(identity) = self.identity.take()
        {
            self.say(&identity)?;
            self.let_through();
        }
        Ok(())
    }
}

const NETWORK: &str = "the guest's network";

/// The machine that goes on with the guest of a snapshot; `None` where there is none, or none that can be taken up.
fn take_up(command: &[OsString], control: &Control, when_idle: &WhenIdle) -> Option<Machine> {
    let WhenIdle::Snapshotted(place) = when_idle else { return None };
    let taken = Snapshot::take(place)?;
    let take_up = |snapshot| Machine::take_up(command, &snapshot).map_err(|why| format!("cannot be taken up: {why}"));
    match taken.and_then(take_up) {
        Ok(machine) => {
            control.tell(&News::Ready);
            Some(machine)
        }
        Err(why) => {
            control.complain(format!("its snapshot {why}; it was thrown away, and the guest starts anew"));
            None
        }
    }
}
