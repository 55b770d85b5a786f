//! Namespaces and mounts of a cloud, the same for root and for an ordinary user.

use crate::failure::{Context, FORBIDDEN, Failure};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{getgid, getuid};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;

/// Moves this process into new user, mount and network namespaces; its next child gets the new pid namespace.
pub fn enter() -> Result<(), Failure> {
    let (user, group) = (getuid(), getgid());
    let flags =
        CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    unshare(flags).map_err(|why| forbidden("unshare", why))?;
    write_map("setgroups", "deny")?;
    write_map("uid_map", &format!("0 {user} 1"))?;
    write_map("gid_map", &format!("0 {group} 1"))
}

/// Mounts of the new namespaces: nothing done here shows outside.
///
/// `/run` is ours to write (the xtables lock and `ip netns` live there), with what it held still in place. Gives the
/// mount namespace for controllers, who live outside of our pid namespace and need the outer `/proc`; this process
/// and its children get one more, with a `/proc` that shows the cloud only.
///
/// Where `resolver` is a file, it takes the place of the machine's `/etc/resolv.conf`.
pub fn arrange_mounts(resolver: &Path) -> Result<File, Failure> {
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)
        .map_err(|why| forbidden("mount", why))?;
    private_run()?;
    if resolver.is_file() {
        // A machine without that file has nobody who reads it.
        let _ = mount(Some(resolver), "/etc/resolv.conf", nothing, MsFlags::MS_BIND, nothing);
    }
    let for_controllers = File::open("/proc/self/ns/mnt").context("cannot open /proc/self/ns/mnt")?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|why| forbidden("unshare", why))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // A container with parts of its /proc covered forbids this; children then see the outer /proc, which also works.
    let _ = mount(Some("proc"), "/proc", Some("proc"), flags, nothing);
    Ok(for_controllers)
}

fn private_run() -> Result<(), Failure> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut before = Dir::open("/run", flags, Mode::empty()).context("cannot open /run")?;
    let options = Some("mode=0755,size=16m");
    let tmpfs = Some("tmpfs");
    mount(tmpfs, "/run", tmpfs, MsFlags::MS_NOSUID | MsFlags::MS_NODEV, options).context("cannot mount on /run")?;
    for name in directories(&mut before) {
        let place = format!("/run/{name}");
        let source = format!("/proc/self/fd/{}/{name}", before.as_raw_fd());
        fs::create_dir(&place).context(format!("cannot make {place}"))?;
        let nothing: Option<&str> = None;
        if mount(Some(source.as_str()), place.as_str(), nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing).is_err() {
            // Not ours to see: an empty directory in its place would only mislead.
            let _ = fs::remove_dir(&place);
        }
    }
    Ok(())
}

/// The directories of `/run` worth keeping; named network namespaces of the machine are not the cloud's.
fn directories(run: &mut Dir) -> Vec<String> {
    let names: Vec<_> = run.iter().flatten().map(|entry| entry.file_name().to_owned()).collect();
    let is_directory = |name: &std::ffi::CString| {
        fstatat(&*run, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
            .is_ok_and(|status| status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
    };
    let kept = names.into_iter().filter(is_directory).filter_map(|name| name.into_string().ok());
    kept.filter(|name| !matches!(name.as_str(), "." | ".." | "netns")).collect()
}

fn write_map(file: &str, text: &str) -> Result<(), Failure> {
    fs::write(format!("/proc/self/{file}"), text).map_err(|why| {
        let errno = Errno::from_raw(why.raw_os_error().unwrap_or(0));
        forbidden(&format!("/proc/self/{file}"), errno)
    })
}

/// Says which setting of the machine stands in the way, and what to do about it.
fn forbidden(step: &str, why: Errno) -> Failure {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let remedy = remedy(read).unwrap_or_else(|| {
        "no setting of the kernel explains it: a container's or a service's own filter may forbid namespaces; \
         run Wisp outside of it, or allow it user namespaces"
            .into()
    });
    Failure::new(FORBIDDEN, format!("cannot make the cloud's namespaces ({step}: {why}): {remedy}"))
}

const SWITCHES: [(&str, &str, &str); 3] = [
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel.apparmor_restrict_unprivileged_unconfined", "1", "0"),
];
const COUNTERS: [&str; 4] =
    ["user.max_user_namespaces", "user.max_mnt_namespaces", "user.max_net_namespaces", "user.max_pid_namespaces"];

fn remedy(read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let value = |name: &str| read(&format!("/proc/sys/{}", name.replace('.', "/")));
    for name in COUNTERS {
        if value(name).as_deref() == Some("0") {
            return Some(format!("the setting {name} is 0; as root: sysctl -w {name}=10000"));
        }
    }
    for (name, bad, good) in SWITCHES {
        if value(name).as_deref() == Some(bad) {
            return Some(format!("the setting {name} is {bad}; as root: sysctl -w {name}={good}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy_for(path: &'static str, text: &'static str) -> Option<String> {
        remedy(|asked| (asked == path).then(|| text.to_owned()))
    }

    #[test]
    fn names_the_setting_and_the_line_that_mends_it() {
        let cases = [
            ("/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"),
            ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
            (
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1",
                "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ),
        ];
        for (path, text, line) in cases {
            assert!(remedy_for(path, text).unwrap().ends_with(line));
        }
        assert_eq!(remedy_for("/proc/sys/kernel/unprivileged_userns_clone", "1"), None);
    }
}
