//! The target `spt`: a static program that owns one inherited tap and seals itself.
#![allow(unsafe_code)]

mod fault;
mod seal;
pub mod syscall;

pub use seal::seal;

use super::heap;
use crate::config::{Config, ConfigError};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::ffi::CStr;
use smoltcp::phy::{self, Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;
use syscall::Timespec;

const TAP: i32 = 3;
const CONFIDENTIAL: i32 = 4;
const CONSOLE: i32 = 2;
const LONGEST_LINE: usize = 2048;
const FRAME_BYTES: usize = 1514;
const MEMORY_BYTES: usize = 1600 * 1024;

struct Memory(UnsafeCell<[u8; MEMORY_BYTES]>);

// SAFETY: handed to the heap once, and touched by nothing else.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; MEMORY_BYTES]));
static mut LINE: &str = "";
static mut START_US: i64 = 0;

core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {begin}",
    begin = sym begin,
);

unsafe extern "Rust" {
    /// The role's own beginning; each image has one.
    fn guest_main() -> !;
}

/// The first Rust that runs.
///
/// # Safety
/// `stack` is the stack as the kernel left it for a new program.
unsafe extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: the heap's memory is given once; the kernel put argc and argv here; `guest_main` is in every image.
    unsafe {
        START_US = monotonic_us();
        heap::give(MEMORY.0.get().cast(), MEMORY_BYTES);
        if *stack > 1 {
            let line = CStr::from_ptr(*stack.add(2) as *const core::ffi::c_char);
            LINE = line.to_str().unwrap_or("");
        }
        fault::catch();
        guest_main()
    }
}

/// The configuration line: the first argument.
pub fn configuration() -> &'static str {
    // SAFETY: written once, before any reader.
    unsafe { LINE }
}

/// The line of options that nobody else shall see; it can be read before the seal.
pub fn confidential() -> Option<String> {
    let mut bytes = vec![0; LONGEST_LINE];
    let length = syscall::read_from_start(CONFIDENTIAL, &mut bytes)?;
    bytes.truncate(length);
    String::from_utf8(bytes).ok()
}

/// Time since the start.
pub fn now() -> Instant {
    // SAFETY: written once, before any reader.
    Instant::from_micros(monotonic_us() - unsafe { START_US })
}

fn monotonic_us() -> i64 {
    let time = syscall::clock_gettime();
    time.seconds * 1_000_000 + time.nanoseconds / 1_000
}

/// A number that differs from start to start.
pub fn random_seed() -> u64 {
    let time = syscall::clock_gettime();
    (time.seconds as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (time.nanoseconds as u64) << 20 ^ syscall::stack_address()
}

pub fn write(bytes: &[u8]) {
    syscall::write(CONSOLE, bytes);
}

/// Ends, as nobody wants anything now; what comes after the last look waits in the tap, and starts us again.
pub fn rest(_device: &mut NetDevice, _is_leaving: bool) {
    syscall::exit_group(0)
}

pub fn leave() -> ! {
    syscall::exit_group(1)
}

/// Sleeps until a frame waits or the time has come.
pub fn wait(_device: &mut NetDevice, until: Option<Instant>) {
    let timeout = until.map(|at| {
        // Not `at - now()`, which is never negative: what is due already would be waited for.
        let left = (at.total_micros() - now().total_micros()).max(0);
        Timespec { seconds: left / 1_000_000, nanoseconds: left % 1_000_000 * 1_000 }
    });
    syscall::ppoll(TAP, timeout.as_ref());
}

/// The tap.
pub struct NetDevice {
    frame: [u8; FRAME_BYTES],
    /// Frames to receive before all others.
    given: Vec<Vec<u8>>,
    is_told_to_leave: bool,
}

pub fn device(_config: &Config) -> Result<NetDevice, ConfigError> {
    Ok(NetDevice { frame: [0; FRAME_BYTES], given: Vec::new(), is_told_to_leave: false })
}

impl NetDevice {
    /// A tap has no address of the guest's own: it comes from the configuration.
    pub fn mac(&self) -> Option<EthernetAddress> {
        None
    }

    /// Has a frame be received before all others.
    pub fn give(&mut self, frame: Vec<u8>) {
        self.given.push(frame);
    }

    pub fn is_told_to_leave(&self) -> bool {
        self.is_told_to_leave
    }
}

impl Device for NetDevice {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Free;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Free)> {
        let length = match self.given.pop() {
            Some(given) => {
                self.frame[..given.len()].copy_from_slice(&given);
                given.len()
            }
            None => syscall::read(TAP, &mut self.frame)?,
        };
        let frame = &self.frame[..length];
        self.is_told_to_leave |= super::is_farewell(frame);
        Some((Received(frame), Free))
    }

    fn transmit(&mut self, _: Instant) -> Option<Free> {
        Some(Free)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES;
        capabilities.checksum.ipv4 = Checksum::Both;
        capabilities
    }
}

pub struct Received<'a>(&'a [u8]);

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

/// Room for one frame to send.
pub struct Free;

impl phy::TxToken for Free {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = [0; FRAME_BYTES];
        let result = fill(&mut frame[..length]);
        // A full tap loses the frame, as any Ethernet may.
        syscall::write(TAP, &frame[..length]);
        result
    }
}
