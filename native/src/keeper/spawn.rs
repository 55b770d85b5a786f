//! Starting one child: everything is prepared beforehand, so that between the fork and the exec there are only
//! system calls.
//!
//! The child borrows our memory until it execs (`CLONE_VM | CLONE_VFORK`): starting one costs the same however
//! large the keeper is, and the child reports a failed step by writing it where we read. It borrows our descriptors
//! as well, and copies only those with low numbers, where what it needs has been put: with ten thousand taps held,
//! to copy and close them all would take longer than everything else.

use super::capabilities;
use super::descriptors::OpenFiles;
use super::log::MAX_FILE_BYTES;
use super::protocol::SpawnOrder;
use super::slots::Slots;
use crate::time::monotonic_ns;
use nix::fcntl::OFlag;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

const STACK_BYTES: usize = 64 * 1024;
const MAX_TARGET: RawFd = 4095;
const MAX_INHERITED: usize = 2048;

/// `SECBIT_*` of `capabilities(7)`: uid 0 means nothing, and this is locked.
const SECUREBITS: libc::c_ulong = 0b1110_1111;

/// A child that has reached its program.
pub struct Started {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// `CLOCK_MONOTONIC` just before the fork [ns].
    pub spawned_at_ns: u64,
}

/// Makes children; owns the stack they start on.
pub struct Spawner {
    stack: Vec<u128>,
    null: File,
    slots: Slots,
    open_files: OpenFiles,
}

/// Everything a child needs, as the system calls want it.
struct Image {
    argv: Pointers,
    env: Pointers,
    cwd: Option<CString>,
    netns: Option<RawFd>,
    /// The first descriptor that the child does not need; `None` when it takes a copy of all.
    unneeded: Option<RawFd>,
    /// (source, number in the child); sources are replaced while the child moves them out of the way.
    moves: Vec<(RawFd, RawFd)>,
    address_space_bytes: Option<u64>,
    open_files: (u64, u64),
    file_bytes: Option<u64>,
    nice: i32,
    small_pages: bool,
    privileged: bool,
    failed: Option<(&'static str, i32)>,
}

struct Pointers {
    /// Owns what `list` points at.
    _texts: Vec<CString>,
    list: Vec<*const libc::c_char>,
}

impl Pointers {
    fn new(texts: impl Iterator<Item = String>) -> Result<Self, String> {
        let texts: Vec<_> = texts.map(to_c).collect::<Result<_, _>>()?;
        let list = texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Ok(Self { _texts: texts, list })
    }
}

fn to_c(text: String) -> Result<CString, String> {
    CString::new(text).map_err(|why| format!("a NUL byte in {:?}", String::from_utf8_lossy(&why.into_vec())))
}

impl Spawner {
    pub fn new(open_files: OpenFiles) -> std::io::Result<Self> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let slots = Slots::new(&null)?;
        Ok(Self { stack: vec![0; STACK_BYTES / 16], null, slots, open_files })
    }

    /// Starts the program of `order`.
    ///
    /// `inherited` are its descriptors as (ours, number in the child), `output` takes what it prints, `netns` is
    /// where it lives. A step that fails in the child, the exec included, is the error.
    pub fn start(
        &mut self,
        order: &SpawnOrder,
        inherited: &[(BorrowedFd<'_>, RawFd)],
        output: Option<BorrowedFd<'_>>,
        netns: Option<BorrowedFd<'_>>,
    ) -> Result<Started, String> {
        let null = self.null.as_raw_fd();
        let mut lent = self.slots.lend();
        let output = output.map_or(null, |pipe| lent.low(pipe));
        let mut moves = vec![(null, 0), (output, 1), (output, 2)];
        for (source, target) in inherited {
            check_target(*target, &moves)?;
            moves.push((lent.low(*source), *target));
        }
        let mut image = Image {
            argv: Pointers::new(order.argv.iter().cloned())?,
            env: Pointers::new(order.env.iter().map(|(name, value)| format!("{name}={value}")))?,
            cwd: order.cwd.clone().map(to_c).transpose()?,
            netns: netns.map(|netns| lent.low(netns)),
            unneeded: lent.first_unneeded(),
            moves,
            address_space_bytes: order.limits.address_space_bytes,
            open_files: self.open_files.of_child(order.limits.open_files),
            file_bytes: order.own_log.then_some(MAX_FILE_BYTES),
            nice: order.nice,
            small_pages: order.small_pages,
            privileged: order.privileged,
            failed: None,
        };
        clone_into(&mut self.stack, &mut image, &order.argv[0])
    }
}

fn clone_into(stack: &mut [u128], image: &mut Image, program: &str) -> Result<Started, String> {
    let mut pidfd: RawFd = -1;
    let shared = if image.unneeded.is_some() { libc::CLONE_FILES } else { 0 };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | shared;
    let argument = ptr::from_mut(image).cast();
    let spawned_at_ns = monotonic_ns();
    // SAFETY: the stack outlives the child's use of it, because CLONE_VFORK holds us until it execs or exits;
    // `become_program` makes system calls only and touches nothing but `image`.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        libc::clone(become_program, top, flags, argument, &mut pidfd)
    };
    if pid < 0 {
        return Err(format!("cannot start {program:?}: fork: {}", std::io::Error::last_os_error()));
    }
    // SAFETY: the kernel made it for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    match image.failed {
        None => Ok(Started { pid, pidfd, spawned_at_ns }),
        Some((step, errno)) => {
            // SAFETY: reaps the child that has just exited.
            unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
            Err(format!("cannot start {program:?}: {step}: {}", std::io::Error::from_raw_os_error(errno)))
        }
    }
}

fn check_target(target: RawFd, moves: &[(RawFd, RawFd)]) -> Result<(), String> {
    if !(3..=MAX_TARGET).contains(&target) {
        return Err(format!("descriptor number {target} is not between 3 and {MAX_TARGET}"));
    }
    if moves.len() >= MAX_INHERITED {
        return Err(format!("more than {MAX_INHERITED} descriptors for one child"));
    }
    match moves.iter().any(|(_, taken)| *taken == target) {
        true => Err(format!("descriptor number {target} is given twice")),
        false => Ok(()),
    }
}

/// A pipe whose reading end never blocks us and whose writing end blocks the child while we are busy.
pub fn output_pipe() -> std::io::Result<(File, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((File::from(reader), writer))
}

/// Runs in the child, on its own stack, in our memory.
extern "C" fn become_program(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `clone_into` passes an `Image` and waits.
    let image = unsafe { &mut *argument.cast::<Image>() };
    if let Err(step) = prepare(image) {
        // SAFETY: errno of this thread.
        image.failed = Some((step, unsafe { *libc::__errno_location() }));
        // SAFETY: ends the child without running anything of the parent's.
        unsafe { libc::_exit(127) };
    }
    0
}

/// Each step names itself when it fails; on success this does not return.
fn prepare(image: &mut Image) -> Result<(), &'static str> {
    // SAFETY: plain system calls on values prepared before the fork.
    unsafe {
        if let Some(unneeded) = image.unneeded {
            own_descriptors(unneeded)?;
        }
        check(libc::setsid(), "setsid")?;
        if let Some(netns) = image.netns {
            check(libc::setns(netns, libc::CLONE_NEWNET), "entering the network namespace")?;
        }
        if let Some(cwd) = &image.cwd {
            check(libc::chdir(cwd.as_ptr()), "chdir")?;
        }
        if image.nice != 0 {
            check(libc::setpriority(libc::PRIO_PROCESS, 0, image.nice), "nice")?;
        }
        if image.small_pages {
            check(libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0), "small pages")?;
        }
        place_descriptors(&mut image.moves)?;
        default_signals()?;
        if !image.privileged {
            drop_privileges()?;
        }
        set_limits(image)?;
        libc::execve(image.argv.list[0], image.argv.list.as_ptr(), image.env.list.as_ptr());
    }
    Err("exec")
}

fn check(result: libc::c_int, step: &'static str) -> Result<(), &'static str> {
    if result < 0 { Err(step) } else { Ok(()) }
}

/// Gives the child descriptors of its own: those below `unneeded`. Kernels before 5.9 copy all.
unsafe fn own_descriptors(unneeded: RawFd) -> Result<(), &'static str> {
    // SAFETY: plain system calls.
    unsafe {
        let flags = libc::CLOSE_RANGE_UNSHARE;
        if libc::syscall(libc::SYS_close_range, unneeded, libc::c_uint::MAX, flags) == 0 {
            return Ok(());
        }
        check(libc::unshare(libc::CLONE_FILES), "descriptors of its own")
    }
}

/// First copies every source above all targets, so that no target overwrites a source still needed.
unsafe fn place_descriptors(moves: &mut [(RawFd, RawFd)]) -> Result<(), &'static str> {
    let above = moves.iter().map(|(_, target)| target + 1).max().unwrap_or(0);
    for (source, _) in moves.iter_mut() {
        // SAFETY: plain system call.
        *source = unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, above) };
        check(*source, "copying a descriptor")?;
    }
    for (source, target) in moves.iter() {
        // SAFETY: plain system call; `dup2` clears close-on-exec.
        check(unsafe { libc::dup2(*source, *target) }, "placing a descriptor")?;
    }
    Ok(())
}

unsafe fn default_signals() -> Result<(), &'static str> {
    // SAFETY: plain system calls; the handler table is the child's own copy.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        check(libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut()), "signal mask")
    }
}

/// No capability now, none through uid 0, none through a file's attributes.
unsafe fn drop_privileges() -> Result<(), &'static str> {
    // SAFETY: plain system calls.
    unsafe {
        check(libc::prctl(libc::PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0), "securebits")?;
        check(capabilities::set(capabilities::NONE, capabilities::NONE), "capset")?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    }
}

unsafe fn set_limits(image: &Image) -> Result<(), &'static str> {
    let set = |resource, (soft, hard): (u64, u64), step| {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: plain system call.
        check(unsafe { libc::setrlimit(resource, &limit) }, step)
    };
    set(libc::RLIMIT_CORE, (0, 0), "limit of core files")?;
    set(libc::RLIMIT_NOFILE, image.open_files, "limit of open files")?;
    if let Some(bytes) = image.file_bytes {
        set(libc::RLIMIT_FSIZE, (bytes, bytes), "limit of files")?;
    }
    match image.address_space_bytes {
        Some(bytes) => set(libc::RLIMIT_AS, (bytes, bytes), "limit of address space"),
        None => Ok(()),
    }
}
