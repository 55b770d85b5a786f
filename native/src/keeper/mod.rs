//! The keeper: pid 1 of a cloud's own user, mount, network and pid namespaces.
//!
//! It holds descriptors by name, spawns children, writes their output to capped logs and remembers how they
//! ended. Controllers speak to it over `DIR/keeper.sock` (see `protocol`) and may come and go. When it ends, for
//! whatever reason, the kernel ends everything in its pid namespace and frees every descriptor it held.

pub mod capabilities;
mod children;
mod connection;
mod descriptors;
mod isolation;
mod log;
mod outer;
mod pools;
mod protocol;
mod requests;
mod restarts;
mod server;
mod sleepers;
mod slots;
mod spawn;
mod summoning;

use crate::arguments::Options;
use crate::failure::{Context, Failure, TAKEN};
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, setsid};
use outer::OuterProc;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::exit;

const SOCKET: &str = "keeper.sock";
const IDENTITY: &str = "keeper.json";
const RESOLVER: &str = "resolv.conf";

/// The cloud's directory, reachable whatever is mounted later.
pub struct Home {
    descriptor: File,
    /// Where it is, for what must be named as it is mounted now.
    place: PathBuf,
}

impl Home {
    fn open(path: &Path) -> Result<Self, Failure> {
        if !path.exists() {
            DirBuilder::new().mode(0o700).create(path).context(format!("cannot make {}", path.display()))?;
        }
        let flags = (OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).bits();
        let descriptor = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let place = path.canonicalize().context(format!("cannot open {}", path.display()))?;
        Ok(Self { descriptor: descriptor.context(format!("cannot open {}", path.display()))?, place })
    }

    /// A path of `name` in this directory that is short and independent of mounts.
    fn path(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.descriptor.as_raw_fd()).into()
    }

    /// Takes the lock that makes this the only keeper here; held until the keeper ends.
    fn lock(&self) -> Result<Flock<File>, Failure> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.path("keeper.lock"));
        Flock::lock(file.context("cannot open keeper.lock")?, FlockArg::LockExclusiveNonblock).map_err(|(_, why)| {
            let sentence = match why {
                nix::Error::EWOULDBLOCK => "another keeper already serves this directory; use that one".into(),
                other => format!("cannot lock keeper.lock: {other}"),
            };
            Failure::new(TAKEN, sentence)
        })
    }

    fn listen(&self) -> Result<OwnedFd, Failure> {
        let _ = fs::remove_file(self.path(SOCKET));
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).context("socket")?;
        let address = UnixAddr::new(&self.path(SOCKET)).context("socket address")?;
        bind(listener.as_raw_fd(), &address).context(format!("cannot bind {SOCKET}"))?;
        listen(&listener, Backlog::new(256).expect("a legal backlog")).context("listen")?;
        Ok(listener)
    }

    /// Writes `keeper.json` whole or not at all.
    fn write_identity(&self, identity: &protocol::Identity) -> Result<(), Failure> {
        let text = serde_json::to_string(identity).context("keeper.json")?;
        let partial = self.path("keeper.json.partial");
        fs::write(&partial, text + "\n").context("cannot write keeper.json")?;
        fs::rename(&partial, self.path(IDENTITY)).context("cannot write keeper.json")
    }

    fn withdraw(&self) {
        let _ = fs::remove_file(self.path(SOCKET));
        let _ = fs::remove_file(self.path(IDENTITY));
    }
}

/// Starts the keeper and returns once it answers; the keeper itself goes on in the background.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let options = Options::parse(arguments, &["--dir", "--ready-fd"], &[])?;
    let ready_fd = options.parsed::<RawFd>("--ready-fd")?;
    close_inherited(ready_fd);
    let ready_fd = ready_fd.map(adopt).transpose()?;
    let home = Home::open(Path::new(options.text("--dir")?))?;
    let lock = home.lock()?;
    let outer = OuterProc::open()?;
    let (ready, report) = nix::unistd::pipe2(OFlag::O_CLOEXEC).context("pipe")?;
    isolation::enter()?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Parent { child } => {
            drop(report);
            // Dropping it would unlock: the lock belongs to the open file, which the child has too.
            std::mem::forget(lock);
            await_ready(ready, child)
        }
        ForkResult::Child => {
            drop(ready);
            serve(home, lock, outer, Ready { report, ready_fd })
        }
    }
}

/// Where to say that the socket answers.
struct Ready {
    report: OwnedFd,
    ready_fd: Option<OwnedFd>,
}

impl Ready {
    fn say(self) -> Result<(), Failure> {
        for descriptor in [Some(self.report), self.ready_fd].into_iter().flatten() {
            // A caller that no longer listens must not end the keeper.
            let _ = File::from(descriptor).write_all(b"ready\n");
        }
        Ok(())
    }
}

fn serve(home: Home, lock: Flock<File>, outer: OuterProc, ready: Ready) -> Result<(), Failure> {
    setsid().context("setsid")?;
    umask(Mode::from_bits_truncate(0o077));
    block_signals()?;
    let for_controllers = isolation::arrange_mounts(&home.place.join(RESOLVER))?;
    capabilities::bequeath()?;
    let limits = descriptors::OpenFiles::raise()?;
    let identity = protocol::Identity::read(&outer)?;
    let listener = home.listen()?;
    home.write_identity(&identity)?;
    std::env::set_current_dir("/").context("chdir /")?;
    detach(&home)?;
    let cloud = requests::Cloud::new(identity, for_controllers.into(), outer, limits)?;
    let mut server = server::Server::new(listener, cloud)?;
    ready.say()?;
    server.run()?;
    home.withdraw();
    drop(lock);
    // Not a return: nothing may be closed one by one, the kernel frees everything at once.
    exit(0)
}

fn await_ready(ready: OwnedFd, child: Pid) -> Result<(), Failure> {
    let mut word = [0; 1];
    if File::from(ready).read(&mut word).context("the keeper's pipe")? == 1 {
        return Ok(());
    }
    match waitpid(child, None) {
        // It has said why on the standard error it shares with us.
        Ok(WaitStatus::Exited(_, status)) => exit(status),
        other => Err(Failure::system("the keeper ended while starting", format!("{other:?}"))),
    }
}

/// Signals arrive through a descriptor; a blocked signal reaches pid 1 although it has no handler.
fn block_signals() -> Result<(), Failure> {
    handled_signals().thread_block().context("cannot block signals")
}

fn handled_signals() -> SigSet {
    [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Points the standard descriptors away from the terminal; what a panic says goes to `keeper.log`.
fn detach(home: &Home) -> Result<(), Failure> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").context("/dev/null")?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(home.path("keeper.log"));
    let log = log.context("cannot open keeper.log")?;
    nix::unistd::dup2_stdin(null.as_fd()).context("dup2")?;
    nix::unistd::dup2_stdout(null.as_fd()).context("dup2")?;
    nix::unistd::dup2_stderr(log.as_fd()).context("dup2")
}

/// Drops whatever the caller leaked to us: the keeper would hold it as long as the cloud lives.
fn close_inherited(keep: Option<RawFd>) {
    let keep = keep.filter(|descriptor| *descriptor > 2).unwrap_or(2) as u32;
    // SAFETY: nothing in this program has opened a descriptor yet.
    unsafe {
        if keep > 3 {
            libc::close_range(3, keep - 1, 0);
        }
        libc::close_range(keep + 1, u32::MAX, 0);
    }
}

fn adopt(number: RawFd) -> Result<OwnedFd, Failure> {
    // SAFETY: fcntl on any number is harmless.
    if number < 3 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(Failure::usage(format!("--ready-fd {number}: not an open descriptor above 2")));
    }
    // SAFETY: open, and handed to us by the caller.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
