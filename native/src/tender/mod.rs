//! The tender of one virtual machine: starts the hypervisor, tells the guest who it is once it has booted, and carries
//! frames between the guest and its tap.
//!
//! A guest may boot long before anybody knows who it is to be (a warm pool). And the hypervisor takes frames off its
//! network as soon as it sees them, also when there is no guest yet; so the tap is ours, and what is for a guest that
//! boots, or is about to sleep, stays in it.

mod console;
mod frames;
mod hypervisor;
mod monitor;
mod snapshot;

use crate::arguments::Options;
use crate::failure::{Context, Failure};
use crate::seqpacket::{self, Received};
use console::{Console, Word};
use frames::Frames;
use hypervisor::{Hypervisor, Sockets};
use monitor::Monitor;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use snapshot::{Kept, Writing};
use std::ffi::OsString;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::time::SystemTime;

const CONTROL: i32 = 3;
/// As much as one frame carries [byte].
const LONGEST_IDENTITY: usize = 1500;
const LONGEST_PATH: usize = 4096;
/// What a guest that nobody wants ends the hypervisor with.
const IDLE_STATUS: i32 = 1;

/// Tends a virtual machine until it ends, and ends with its status.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    Options::parse(arguments.by_ref().take_while(|word| word != "--"), &[], &[])?;
    let words: Vec<_> = arguments.collect();
    // SAFETY: inherited for this purpose.
    let control = unsafe { OwnedFd::from_raw_fd(CONTROL) };
    // Whoever is not of a pool has been told before it was started.
    let guest = told(&control)?;
    let mut tender = match guest.as_ref().and_then(|guest| guest.taken_up(&words)) {
        Some((hypervisor, sockets, slept)) => Tender::new(control, hypervisor, sockets, Some(slept)),
        None => {
            let (hypervisor, sockets) = Hypervisor::start(&words, false)?;
            Tender::new(control, hypervisor, sockets, None)
        }
    };
    if let Some(guest) = guest {
        tender.take(guest)?;
    }
    exit(tender.tend()?)
}

/// Who the guest is.
struct Guest {
    /// The line it is told.
    identity: Vec<u8>,
    tap: OwnedFd,
    /// Where it is kept while nobody wants it; without that it ends.
    snapshot: Option<PathBuf>,
}

/// Takes what we are told on `control` so far; a pool member that nobody holds any more ends.
fn told(control: &OwnedFd) -> Result<Option<Guest>, Failure> {
    let mut line = vec![0; LONGEST_IDENTITY + LONGEST_PATH];
    match seqpacket::receive(control.as_fd(), &mut line) {
        Ok(Received::Packet { bytes, mut descriptors }) if descriptors.len() == 1 => {
            line.truncate(bytes);
            let mut parts = line.splitn(2, |byte| *byte == b'\n');
            let identity = parts.next().unwrap_or_default().to_vec();
            let snapshot = parts.next().map(|path| PathBuf::from(String::from_utf8_lossy(path).into_owned()));
            Ok(descriptors.pop().map(|tap| Guest { identity, tap, snapshot }))
        }
        Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
        _ => Err(Failure::system("who the guest is to be", "was not told")),
    }
}

impl Guest {
    /// Has the guest go on from its snapshot, if there is one that does; why another does not is said.
    fn taken_up(&self, words: &[OsString]) -> Option<(Hypervisor, Sockets, u128)> {
        let kept = snapshot::take(self.snapshot.as_deref()?, SystemTime::now())?;
        let slept_us = kept.as_ref().map_or(0, |kept| kept.slept.as_micros());
        match kept.and_then(|kept| resumed(words, &kept)) {
            Ok((hypervisor, sockets)) => Some((hypervisor, sockets, slept_us)),
            Err(why) => {
                println!("wisp: its snapshot is thrown away, and it boots instead: {}", why.sentence);
                None
            }
        }
    }
}

fn resumed(words: &[OsString], kept: &Kept) -> Result<(Hypervisor, Sockets), Failure> {
    let (mut hypervisor, mut sockets) = Hypervisor::start(words, true)?;
    match sockets.monitor.load(kept.file.as_fd()) {
        Ok(()) => Ok((hypervisor, sockets)),
        Err(why) => {
            hypervisor.end();
            Err(why)
        }
    }
}

struct Tender {
    /// Where we are told who the guest is, and say that it has booted; closed after both.
    control: Option<OwnedFd>,
    is_told: bool,
    hypervisor: Hypervisor,
    console: Console,
    network: OwnedFd,
    monitor: Monitor,
    /// Between the tap and the guest, once there is a tap.
    frames: Option<Frames>,
    identity: Option<Vec<u8>>,
    is_booted: bool,
    /// For a guest that was kept: how long [us].
    slept_us: Option<u128>,
    snapshot: Option<PathBuf>,
}

impl Tender {
    fn new(control: OwnedFd, hypervisor: Hypervisor, sockets: Sockets, slept_us: Option<u128>) -> Self {
        Self {
            control: Some(control),
            is_told: false,
            hypervisor,
            console: Console::new(sockets.console),
            network: sockets.network,
            monitor: sockets.monitor,
            frames: None,
            identity: None,
            is_booted: false,
            slept_us,
            snapshot: None,
        }
    }

    fn tend(&mut self) -> Result<i32, Failure> {
        loop {
            let [has_ended, has_printed, is_spoken_to] = self.wait()?;
            if has_printed {
                while let Some(word) = self.console.read() {
                    if self.on_word(&word)? {
                        return Ok(IDLE_STATUS);
                    }
                }
            }
            if is_spoken_to && let Some(guest) = self.control.as_ref().map(told).transpose()?.flatten() {
                self.take(guest)?;
            }
            if let Some(frames) = &mut self.frames {
                frames.carry(self.network.as_fd());
            }
            if has_ended {
                return self.hypervisor.status();
            }
        }
    }

    /// Sleeps until something happens: the hypervisor ended, the console has text, or somebody speaks to us.
    fn wait(&self) -> Result<[bool; 3], Failure> {
        let mut waited = vec![
            PollFd::new(self.hypervisor.pidfd(), PollFlags::POLLIN),
            PollFd::new(
                self.console.socket(),
                if self.console.is_open { PollFlags::POLLIN } else { PollFlags::empty() },
            ),
        ];
        if let Some(frames) = &self.frames {
            waited.extend(frames.interests(self.network.as_fd()));
        }
        let control = self.control.as_ref().filter(|_| !self.is_told);
        if let Some(control) = control {
            waited.push(PollFd::new(control.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut waited, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(why) => return Err(Failure::system("poll", why)),
        }
        let has_news = |one: Option<&PollFd>| one.and_then(PollFd::any).unwrap_or(false);
        let spoken_to = control.is_some() && has_news(waited.last());
        Ok([has_news(waited.first()), has_news(waited.get(1)), spoken_to])
    }

    /// Does what a word of the guest asks for; says whether it is kept now, and we are done.
    fn on_word(&mut self, word: &Word) -> Result<bool, Failure> {
        match word {
            Word::Ready => {
                self.is_booted = true;
                self.say_ready();
                self.introduce()?;
            }
            Word::Idle => {
                if let Some(frames) = &mut self.frames {
                    frames.hold_back(self.network.as_fd());
                }
                let order: &[u8] = if self.snapshot.is_some() { b"keep" } else { b"" };
                frames::tell(self.network.as_fd(), order).context("the guest's network")?;
            }
            Word::Busy => {
                if let Some(frames) = &mut self.frames {
                    frames.let_through();
                }
            }
            Word::Asleep => {
                self.keep();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the guest's state down and ends it; when that fails it ends all the same, and boots next time.
    fn keep(&mut self) {
        if let Some(place) = self.snapshot.take()
            && let Err(why) = written(&place, &mut self.monitor)
        {
            println!("wisp: no snapshot of it could be taken, it will boot next time: {}", why.sentence);
        }
        self.hypervisor.end();
    }

    /// Has the guest be who we are told, once it has booted; one that was kept knows.
    fn take(&mut self, guest: Guest) -> Result<(), Failure> {
        (self.identity, self.snapshot, self.is_told) = (Some(guest.identity), guest.snapshot, true);
        let mut frames = Frames::new(guest.tap);
        let Some(slept_us) = self.slept_us.take() else {
            self.frames = Some(frames);
            return self.introduce();
        };
        frames::tell(self.network.as_fd(), slept_us.to_string().as_bytes()).context("the guest's network")?;
        frames.let_through();
        self.frames = Some(frames);
        self.say_ready();
        self.control = None;
        Ok(())
    }

    fn say_ready(&self) {
        if let Some(control) = &self.control {
            // Who has gone meanwhile is noticed when we are spoken to.
            let _ = seqpacket::send(control.as_fd(), b"ready", &[]);
        }
    }

    /// Tells a guest that has booted who it is.
    fn introduce(&mut self) -> Result<(), Failure> {
        if !self.is_booted {
            return Ok(());
        }
        let Some(identity) = self.identity.take() else { return Ok(()) };
        self.control = None;
        frames::tell(self.network.as_fd(), &identity).context("the guest's network")?;
        if let Some(frames) = &mut self.frames {
            frames.let_through();
        }
        Ok(())
    }
}

fn written(place: &Path, monitor: &mut Monitor) -> Result<(), Failure> {
    let writing = Writing::begin(place)?;
    monitor.save(writing.file().as_fd())?;
    writing.finish(SystemTime::now())
}
