//! One virtual machine: the hypervisor with its console, network and monitor.

use super::console::{Console, Word};
use super::frames;
use super::hypervisor::Hypervisor;
use super::qmp::Qmp;
use super::snapshot::{Draft, Snapshot};
use super::told::Place;
use crate::failure::Failure;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Longest time to write a snapshot.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// Longest time to read one, and then for the guest to go on: whoever wants it still waits.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(3);

pub struct Machine {
    pub hypervisor: Hypervisor,
    pub console: Console,
    network: OwnedFd,
    monitor: Option<Qmp>,
}

impl Machine {
    /// Starts one whose guest boots.
    pub fn start(command: &[OsString], has_monitor: bool) -> Result<Self, Failure> {
        Self::start_with(command, &[], has_monitor)
    }

    /// Starts one that goes on with the guest of a snapshot.
    pub fn take_up(command: &[OsString], snapshot: &Snapshot) -> Result<Self, String> {
        let mut machine =
            Self::start_with(command, &["-incoming", "defer"], true).map_err(|failure| failure.sentence)?;
        let monitor = machine.monitor.as_mut().ok_or("QEMU has no monitor")?;
        monitor.load(snapshot.file(), TAKEN_UP_WITHIN)?;
        machine.say_stay(snapshot.slept_ms()).map_err(|why| why.to_string())?;
        machine.console.wait_for(&Word::Busy, TAKEN_UP_WITHIN)?;
        Ok(machine)
    }

    fn start_with(command: &[OsString], more: &[&str], has_monitor: bool) -> Result<Self, Failure> {
        let (hypervisor, sockets) = Hypervisor::start(command, more, has_monitor)?;
        Ok(Self {
            hypervisor,
            console: Console::new(sockets.console),
            network: sockets.network,
            monitor: sockets.monitor.map(Qmp::new),
        })
    }

    pub fn network(&self) -> BorrowedFd<'_> {
        self.network.as_fd()
    }

    /// Says something to the guest.
    pub fn say(&self, words: &str) -> nix::Result<()> {
        frames::tell(self.network(), words.as_bytes())
    }

    /// Has a guest that waits go on, whose clock stood still for so long.
    pub fn say_stay(&self, stood_ms: u64) -> nix::Result<()> {
        self.say(&format!("stay slept_ms={stood_ms}"))
    }

    /// Writes the guest into a file and ends; without that file where it cannot be written.
    pub fn put_away(&mut self, place: &Place) -> Result<(), String> {
        let told =
            |why: String| format!("cannot be written to {}: {why}; see whether there is room", place.path.display());
        self.write(place).map_err(told)
    }

    fn write(&mut self, place: &Place) -> Result<(), String> {
        let monitor = self.monitor.as_mut().ok_or("QEMU has no monitor")?;
        let draft = Draft::new(place).map_err(|why| why.to_string())?;
        monitor.save(draft.file(), WRITTEN_WITHIN)?;
        // What it still had to write, it has written when it has ended.
        self.hypervisor.status().map_err(|failure| failure.sentence)?;
        draft.finish().map_err(|why| why.to_string())
    }
}
