//! The files of one container, in its own mount namespace: what it writes goes into memory, and away with it.

use crate::failure::{Context, Failure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Ours alone; the machine's own `/run` is out of sight behind it.
pub const BUNDLE: &str = "/run";
pub const STATE: &str = "/run/state";
pub const PID_FILE: &str = "/run/pid";
pub const LOG: &str = "/run/log";
const CONFIGURATION: &str = "/run/config.json";
const ROOT: &str = "/run/rootfs";
const WRITTEN: &str = "/run/written";
const WORK: &str = "/run/work";
const CGROUPS: &CStr = c"/sys/fs/cgroup";

/// Lays a writable root over `tree`, which others share, and the runtime's configuration beside it.
pub fn make(tree: &Path, room_bytes: u64, configuration: OwnedFd) -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).context("private mounts")?;
    // Only now: an overlay wants what is mounted in its own namespace. And before the machine's `/run` is covered.
    let tree = File::open(tree).context(format!("the image's files in {}", tree.display()))?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), quiet, nothing).context("cannot mount /proc")?;
    protect_cgroups()?;
    let size = format!("mode=0755,size={room_bytes}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), BUNDLE, Some("tmpfs"), flags, Some(size.as_str())).context("cannot mount a tmpfs")?;
    for folder in [ROOT, WRITTEN, WORK] {
        fs::create_dir(folder).context(folder)?;
    }
    let mut file = File::create(CONFIGURATION).context(CONFIGURATION)?;
    io::copy(&mut File::from(configuration), &mut file).context(CONFIGURATION)?;
    overlay(&tree)
}

/// Control groups are not ours to make: without this, root's runtime would leave some behind, and where others did, an
/// ordinary user's would fail.
fn protect_cgroups() -> Result<(), Failure> {
    let read_only = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let (size, flags) = (size_of_val(&read_only), libc::AT_RECURSIVE);
    // SAFETY: reads the path and the attributes.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, CGROUPS.as_ptr(), flags, &raw const read_only, size)
    };
    match Errno::result(done) {
        // There are none here, or not as a mount.
        Ok(_) | Err(Errno::ENOENT | Errno::EINVAL) => Ok(()),
        Err(why) => Err(Failure::system("cannot protect /sys/fs/cgroup", why)),
    }
}

fn overlay(tree: &File) -> Result<(), Failure> {
    // By number: a path may hold signs that mean something to the file system.
    let lower = format!("/proc/self/fd/{}", tree.as_raw_fd());
    let options = format!("lowerdir={lower},upperdir={WRITTEN},workdir={WORK},userxattr");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("overlay"), ROOT, Some("overlay"), flags, Some(options.as_str()))
        .context("cannot lay a writable root over the image's files (needs overlayfs, Linux 5.12 or newer)")
}
