//! The tender of one virtual machine: starts the hypervisor, tells the guest who it is once it has booted, and carries
//! frames between the guest and its tap.
//!
//! A guest may boot long before anybody knows who it is to be (a warm pool). And the hypervisor takes frames off its
//! network as soon as it sees them, also when there is no guest yet; so the tap is ours, and what is for a guest that
//! boots, or is about to sleep, stays in it.

mod console;
mod frames;
mod hypervisor;

use crate::arguments::Options;
use crate::failure::{Context, Failure};
use crate::seqpacket::{self, Received};
use console::{Console, Word};
use frames::Frames;
use hypervisor::Hypervisor;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsString;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::exit;

const CONTROL: i32 = 3;
/// As much as one frame carries [byte].
const LONGEST_IDENTITY: usize = 1500;

/// Tends a virtual machine until it ends, and ends with its status.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    Options::parse(arguments.by_ref().take_while(|word| word != "--"), &[], &[])?;
    // SAFETY: inherited for this purpose.
    let control = unsafe { OwnedFd::from_raw_fd(CONTROL) };
    let (hypervisor, console, network) = Hypervisor::start(arguments)?;
    let mut tender = Tender {
        control: Some(control),
        is_told: false,
        hypervisor,
        console: Console::new(console),
        network,
        frames: None,
        identity: None,
        is_booted: false,
    };
    let status = tender.tend()?;
    exit(status)
}

struct Tender {
    /// Where we are told who the guest is, and say that it has booted; closed after both.
    control: Option<OwnedFd>,
    is_told: bool,
    hypervisor: Hypervisor,
    console: Console,
    network: OwnedFd,
    /// Between the tap and the guest, once there is a tap.
    frames: Option<Frames>,
    identity: Option<Vec<u8>>,
    is_booted: bool,
}

impl Tender {
    fn tend(&mut self) -> Result<i32, Failure> {
        loop {
            let [has_ended, has_printed, is_spoken_to] = self.wait()?;
            if has_printed {
                while let Some(word) = self.console.read() {
                    self.on_word(&word)?;
                }
            }
            if is_spoken_to {
                self.on_control()?;
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

    fn on_word(&mut self, word: &Word) -> Result<(), Failure> {
        match word {
            Word::Ready => {
                self.is_booted = true;
                if let Some(control) = &self.control {
                    // Who has gone meanwhile is noticed when we are spoken to.
                    let _ = seqpacket::send(control.as_fd(), b"ready", &[]);
                }
                self.introduce()
            }
            Word::Idle => {
                if let Some(frames) = &mut self.frames {
                    frames.hold_back(self.network.as_fd());
                }
                frames::tell(self.network.as_fd(), &[]).context("the guest's network")
            }
            Word::Busy => {
                if let Some(frames) = &mut self.frames {
                    frames.let_through();
                }
                Ok(())
            }
        }
    }

    /// Takes who the guest is, with its tap; a pool member that nobody holds any more ends.
    fn on_control(&mut self) -> Result<(), Failure> {
        let Some(control) = &self.control else { return Ok(()) };
        let mut line = vec![0; LONGEST_IDENTITY];
        match seqpacket::receive(control.as_fd(), &mut line) {
            Ok(Received::Packet { bytes, mut descriptors }) if descriptors.len() == 1 => {
                line.truncate(bytes);
                (self.identity, self.is_told) = (Some(line), true);
                self.frames = descriptors.pop().map(Frames::new);
                self.introduce()
            }
            Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            _ => Err(Failure::system("who the guest is to be", "was not told")),
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
