//! The system calls a guest makes, and no others.

use core::arch::asm;

const READ: usize = 0;
const WRITE: usize = 1;
const PREAD: usize = 17;
const CLOCK_GETTIME: usize = 228;
const EXIT_GROUP: usize = 231;
const PPOLL: usize = 271;
pub(super) const RT_SIGACTION: usize = 13;
pub(super) const SIGALTSTACK: usize = 131;
pub(super) const PRCTL: usize = 157;
pub(super) const SECCOMP: usize = 317;
/// What the seal lets through.
pub(super) const ALLOWED: [u32; 5] = [READ as u32, WRITE as u32, PPOLL as u32, CLOCK_GETTIME as u32, EXIT_GROUP as u32];

const CLOCK_MONOTONIC: usize = 1;
const POLLIN: i16 = 1;

#[repr(C)]
#[derive(Default)]
pub struct Timespec {
    pub seconds: i64,
    pub nanoseconds: i64,
}

#[repr(C)]
struct PollFd {
    descriptor: i32,
    events: i16,
    found: i16,
}

/// Reads a frame; `None` when there is none.
pub fn read(descriptor: i32, bytes: &mut [u8]) -> Option<usize> {
    // SAFETY: the kernel writes at most `bytes.len()` bytes to a slice we own.
    let count = unsafe { call(READ, [descriptor as usize, bytes.as_mut_ptr() as usize, bytes.len(), 0, 0]) };
    usize::try_from(count).ok().filter(|count| *count > 0)
}

/// Reads a file from its beginning, wherever others who have it open have got to; `None` when there is nothing.
pub fn read_from_start(descriptor: i32, bytes: &mut [u8]) -> Option<usize> {
    // SAFETY: the kernel writes at most `bytes.len()` bytes to a slice we own.
    let count = unsafe { call(PREAD, [descriptor as usize, bytes.as_mut_ptr() as usize, bytes.len(), 0, 0]) };
    usize::try_from(count).ok().filter(|count| *count > 0)
}

pub fn write(descriptor: i32, bytes: &[u8]) {
    // SAFETY: the kernel only reads the slice.
    unsafe { call(WRITE, [descriptor as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0]) };
}

pub fn clock_gettime() -> Timespec {
    let mut time = Timespec::default();
    // SAFETY: the kernel writes one `timespec`.
    unsafe { call(CLOCK_GETTIME, [CLOCK_MONOTONIC, &raw mut time as usize, 0, 0, 0]) };
    time
}

/// Sleeps until the descriptor can be read or the time is over.
pub fn ppoll(descriptor: i32, timeout: Option<&Timespec>) {
    let mut waited = PollFd { descriptor, events: POLLIN, found: 0 };
    // The kernel may write the time that is left.
    let mut left = timeout.map(|time| Timespec { seconds: time.seconds, nanoseconds: time.nanoseconds });
    let pointer = left.as_mut().map_or(0, |time| core::ptr::from_mut(time) as usize);
    // SAFETY: one `pollfd`, one `timespec` or none, no signal mask.
    unsafe { call(PPOLL, [&raw mut waited as usize, 1, pointer, 0, 8]) };
}

pub fn exit_group(status: usize) -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { call(EXIT_GROUP, [status, 0, 0, 0, 0]) };
    }
}

/// Any call at all; for the seal, and for the image that proves the seal.
///
/// # Safety
/// The arguments must be what the kernel expects for this call.
pub unsafe fn call(number: usize, arguments: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: the caller's arguments fit; the kernel changes only rax, rcx and r11.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") arguments[0], in("rsi") arguments[1],
            in("rdx") arguments[2], in("r10") arguments[3], in("r8") arguments[4], lateout("rcx") _, lateout("r11") _,
            options(nostack));
    }
    result
}

/// Where the stack lies, which the kernel chooses anew for each start.
pub fn stack_address() -> u64 {
    let here = 0_u8;
    &raw const here as u64
}
