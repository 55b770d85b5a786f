//! One container: makes its root file system, has an OCI runtime start its program in it, and then is the `init` of
//! all that runs there.
//!
//! Everything is made inside a pid and a mount namespace of its own: whoever ends this process ends the container
//! whole, and of its files nothing is left.

mod place;

use crate::arguments::Options;
use crate::failure::{Context, Failure};
use crate::keeper::capabilities;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, Stdio, exit};

/// Where the configuration can be read that the runtime shall get.
const CONFIGURATION: i32 = 3;

/// Runs a container until its program ends, and ends with its status.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let named = ["--tree", "--room-bytes", "--name"];
    let options = Options::parse(arguments.by_ref().take_while(|word| word != "--"), &named, &[])?;
    let runtime: Vec<_> = arguments.collect();
    let [program, words @ ..] = runtime.as_slice() else {
        return Err(Failure::usage("after `--` comes a runtime's command line"));
    };
    let room_bytes = options.parsed("--room-bytes")?.ok_or_else(|| Failure::usage("--room-bytes is missing"))?;
    // SAFETY: inherited for this purpose.
    let configuration = unsafe { OwnedFd::from_raw_fd(CONFIGURATION) };
    let signals = awaited_signals()?;
    unshare(CloneFlags::CLONE_NEWPID).context("a pid namespace")?;
    // SAFETY: there is one thread.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => {
            drop(configuration);
            give_up_privileges()?;
            exit(until_end_of(child, &signals)?)
        }
        ForkResult::Child => {
            die_with_parent()?;
            place::make(options.text("--tree")?.as_ref(), room_bytes, configuration)?;
            let container = start(Command::new(program).args(words), options.text("--name")?)?;
            give_up_privileges()?;
            exit(until_end_of(container, &signals)?)
        }
    }
}

/// Has the runtime start the container's program, whose parent we become.
fn start(runtime: &mut Command, name: &OsString) -> Result<Pid, Failure> {
    runtime.args(["--root", place::STATE, "--log", place::LOG, "--log-format", "json"]);
    runtime.args(["run", "--detach", "--pid-file", place::PID_FILE, "--bundle", place::BUNDLE]);
    let status = runtime.arg(name).stdin(Stdio::null()).status().context("cannot start the container runtime")?;
    if !status.success() {
        let log = fs::read_to_string(place::LOG).unwrap_or_default();
        return Err(Failure::system("the container runtime", last_message(&log).unwrap_or_else(|| status.to_string())));
    }
    let written = fs::read_to_string(place::PID_FILE).context(place::PID_FILE)?;
    written.trim().parse().map(Pid::from_raw).context(place::PID_FILE)
}

/// What a runtime said last in its log, a JSON object a line.
fn last_message(log: &str) -> Option<String> {
    let entry: serde_json::Value = serde_json::from_str(log.lines().last()?).ok()?;
    entry.get("msg")?.as_str().map(str::to_owned)
}

/// Passes on the request to end, reaps whatever ends, and gives the status of `process` as a shell would say it.
fn until_end_of(process: Pid, signals: &SigSet) -> Result<i32, Failure> {
    loop {
        while let Some(ended) = reaped()? {
            match ended {
                WaitStatus::Exited(pid, status) if pid == process => return Ok(status),
                WaitStatus::Signaled(pid, signal, _) if pid == process => return Ok(128 + signal as i32),
                _ => {}
            }
        }
        if signals.wait().context("sigwait")? == Signal::SIGTERM {
            // It may have ended just now; then we are about to reap it.
            let _ = kill(process, Signal::SIGTERM);
        }
    }
}

fn reaped() -> Result<Option<WaitStatus>, Failure> {
    match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) => Ok(None),
        Ok(ended) => Ok(Some(ended)),
        Err(why) => Err(Failure::system("wait", why)),
    }
}

/// Blocks the signals that are waited for, so that none gets lost in between.
fn awaited_signals() -> Result<SigSet, Failure> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGCHLD]);
    signals.thread_block().context("signal mask")?;
    Ok(signals)
}

fn die_with_parent() -> Result<(), Failure> {
    // SAFETY: plain system call.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(Failure::system("parent death signal", io::Error::last_os_error())),
    }
}

/// From here on we only wait; what runs in the container can neither trace us nor see our files.
fn give_up_privileges() -> Result<(), Failure> {
    // SAFETY: plain system calls.
    let done = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) | libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if done != 0 || capabilities::set(capabilities::NONE, capabilities::NONE) != 0 {
        return Err(Failure::system("giving up privileges", io::Error::last_os_error()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtime_s_last_words_are_found() {
        let log = "{\"level\":\"warning\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"no such program\"}\n";
        assert_eq!(last_message(log).unwrap(), "no such program");
        for other in ["", "no JSON", "{}", "{\"msg\":1}"] {
            assert_eq!(last_message(other), None);
        }
    }
}
