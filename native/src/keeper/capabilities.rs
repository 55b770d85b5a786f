//! Which capabilities the keeper's children can have at all.
//!
//! Clearing the bounding set takes one system call for each capability, which would be half of the time that a
//! child's start takes. The keeper therefore clears its own once, and passes capabilities on to privileged children
//! through the inheritable set: an exec as uid 0 then gives exactly these, and without them nothing.

use crate::failure::{Context, Failure};
use std::io;

pub const NONE: u64 = 0;

/// Leaves this process as it is, and an exec of a child nothing but the inheritable set.
pub fn bequeath() -> Result<(), Failure> {
    let own = permitted().context("capget")?;
    if set(own, own) < 0 {
        return Err(Failure::system("capset", io::Error::last_os_error()));
    }
    for capability in 0..u64::BITS as libc::c_ulong {
        // SAFETY: plain system call; the first number the kernel does not know ends the list.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } < 0 {
            break;
        }
    }
    Ok(())
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

const VERSION_3: u32 = 0x2008_0522;

/// One half of the numbers, as the kernel wants them.
#[repr(C)]
#[derive(Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets effective and permitted to `own`, inheritable to `inheritable`; only a system call, negative on failure.
pub fn set(own: u64, inheritable: u64) -> libc::c_int {
    let half = |shift: u32| {
        let own = (own >> shift) as u32;
        Half { effective: own, permitted: own, inheritable: (inheritable >> shift) as u32 }
    };
    let (header, halves) = (Header { version: VERSION_3, pid: 0 }, [half(0), half(32)]);
    // SAFETY: both are what the call reads.
    unsafe { libc::syscall(libc::SYS_capset, &header, &halves) as libc::c_int }
}

fn permitted() -> io::Result<u64> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(), Half::default()];
    // SAFETY: both are what the call writes.
    match unsafe { libc::syscall(libc::SYS_capget, &mut header, &mut halves) } {
        0 => Ok(u64::from(halves[0].permitted) | u64::from(halves[1].permitted) << 32),
        _ => Err(io::Error::last_os_error()),
    }
}
