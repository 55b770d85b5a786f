//! The hypervisor's process, which ends with its tender.

use crate::failure::{Context, Failure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};

/// The hypervisor's own numbers of its descriptors: its command line names them.
const CONSOLE: RawFd = 4;
const NETWORK: RawFd = 5;
/// Named by the words that we add.
const MONITOR: RawFd = 6;
const MONITOR_WORDS: [&str; 4] = ["-chardev", "socket,id=monitor,fd=6", "-mon", "chardev=monitor,mode=control"];
/// Above all that is placed.
const ASIDE: RawFd = 100;

pub struct Hypervisor {
    process: Child,
    pidfd: OwnedFd,
}

/// Our ends of what the hypervisor is born with.
pub struct Sockets {
    /// A stream.
    pub console: OwnedFd,
    /// A datagram for each frame.
    pub network: OwnedFd,
    /// A stream.
    pub monitor: Option<OwnedFd>,
}

impl Hypervisor {
    /// Starts it, with a monitor where one may be needed.
    pub fn start(command: &[OsString], more: &[&str], has_monitor: bool) -> Result<(Self, Sockets), Failure> {
        let (program, words) =
            command.split_first().ok_or_else(|| Failure::usage("after `--` comes a hypervisor's command line"))?;
        let (console, its_console) = pair(SockType::Stream)?;
        let (network, its_network) = pair(SockType::Datagram)?;
        let (monitor, its_monitor) = has_monitor.then(|| pair(SockType::Stream)).transpose()?.unzip();
        let mut given = vec![(its_console.as_raw_fd(), CONSOLE), (its_network.as_raw_fd(), NETWORK)];
        given.extend(its_monitor.as_ref().map(|socket| (socket.as_raw_fd(), MONITOR)));
        let mut process = Command::new(program);
        process.args(words).args(more).stdin(Stdio::null());
        if has_monitor {
            process.args(MONITOR_WORDS);
        }
        // SAFETY: system calls only, on what was prepared before the fork.
        unsafe { process.pre_exec(move || prepare(&given)) };
        let process = process.spawn().context(format!("cannot start {}", program.to_string_lossy()))?;
        let pidfd = pidfd_of(&process).context("pidfd")?;
        Ok((Self { process, pidfd }, Sockets { console, network, monitor }))
    }

    /// Has it stand still, or go on.
    pub fn stand_still(&self, still: bool) {
        let signal = if still { libc::SIGSTOP } else { libc::SIGCONT };
        // SAFETY: our own child, which nobody has waited for.
        unsafe { libc::kill(self.process.id() as libc::pid_t, signal) };
    }

    /// Becomes readable when the process ends.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended, as a shell would say.
    pub fn status(&mut self) -> Result<i32, Failure> {
        let status = self.process.wait().context("the hypervisor")?;
        Ok(status.code().unwrap_or(128 + status.signal().unwrap_or(0)))
    }
}

impl Drop for Hypervisor {
    fn drop(&mut self) {
        // One that has ended already is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn pair(kind: SockType) -> Result<(OwnedFd, OwnedFd), Failure> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socketpair(AddressFamily::Unix, kind, None, flags).context("socketpair")
}

fn prepare(given: &[(RawFd, RawFd)]) -> io::Result<()> {
    let check = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    // SAFETY: plain system calls.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        let mut aside = [0; 3];
        for (place, (source, _)) in given.iter().enumerate() {
            aside[place] = check(libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, ASIDE))?;
        }
        for (source, (_, target)) in aside.iter().zip(given) {
            check(libc::dup2(*source, *target))?;
        }
    }
    Ok(())
}

fn pidfd_of(process: &Child) -> io::Result<OwnedFd> {
    // SAFETY: plain system call on our own child, which nobody has waited for.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, process.id(), 0) };
    match descriptor {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just made it for us.
        _ => Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) }),
    }
}
