//! The pid numbers that people outside see.
//!
//! A descriptor of the `/proc` that was mounted when the keeper started shows the world of the caller, whatever is
//! mounted over it later.

use crate::failure::{Context, Failure};
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

pub struct OuterProc {
    directory: OwnedFd,
}

impl OuterProc {
    pub fn open() -> Result<Self, Failure> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self { directory: open("/proc", flags, Mode::empty()).context("cannot open /proc")? })
    }

    /// Our own pid.
    pub fn own_pid(&self) -> Result<i32, Failure> {
        let target = readlinkat(&self.directory, "self").context("cannot read /proc/self")?;
        target.to_string_lossy().parse().context("/proc/self")
    }

    /// A namespace of this process, as a descriptor.
    pub fn own_namespace(&self, kind: &str) -> Result<OwnedFd, Failure> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let path = format!("self/ns/{kind}");
        openat(&self.directory, path.as_str(), flags, Mode::empty()).context(format!("cannot open /proc/{path}"))
    }

    /// The pid behind a pidfd of ours.
    pub fn pid(&self, pidfd: BorrowedFd<'_>) -> io::Result<i32> {
        let text = self.read(&format!("self/fdinfo/{}", pidfd.as_raw_fd()))?;
        let number = text.lines().find_map(|line| line.strip_prefix("Pid:"));
        number.and_then(|number| number.trim().parse().ok()).ok_or_else(|| io::Error::other("no Pid in fdinfo"))
    }

    /// When a process started [clock ticks since boot]; with the pid it names a process for ever.
    pub fn start_ticks(&self, pid: i32) -> io::Result<u64> {
        start_ticks_of(&self.read(&format!("{pid}/stat"))?).ok_or_else(|| io::Error::other("no start time in stat"))
    }

    fn read(&self, path: &str) -> io::Result<String> {
        let descriptor = openat(&self.directory, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut text = String::with_capacity(512);
        File::from(descriptor).read_to_string(&mut text)?;
        Ok(text)
    }
}

/// Field 22 of a `stat` line; the second field is a name in brackets that may hold anything.
fn start_ticks_of(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_start_time_behind_a_hostile_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1000 10";
        assert_eq!(start_ticks_of(stat), Some(12345));
        assert_eq!(start_ticks_of("nonsense"), None);
    }

    #[test]
    fn knows_this_process() {
        let outer = OuterProc::open().unwrap();
        assert_eq!(outer.own_pid().unwrap(), std::process::id() as i32);
        assert!(outer.start_ticks(outer.own_pid().unwrap()).unwrap() > 0);
    }
}
