//! The target `microvm`: a kernel of its own on QEMU's `microvm` machine.
#![allow(unsafe_code)]

mod boot;
mod clock;
mod firmware;
mod interrupt;
mod network;
mod start_info;
mod tender;

pub use clock::now;
pub use firmware::confidential;
pub use network::{NetDevice, device};
pub use tender::{rest, told};

use super::heap;
use crate::content::CONTENT_ADDRESS;
use core::arch::asm;
use smoltcp::time::Instant;

const SERIAL: u16 = 0x3f8;
const DEBUG_EXIT: u16 = 0x501;
const LONGEST_TIMER_NS: i64 = 4_000_000_000;
const LARGE_PAGE: u64 = 2 << 20;

static mut LINE: &str = "";

unsafe extern "Rust" {
    /// The role's own beginning; each image has one.
    fn guest_main() -> !;
    /// How much content was appended; each image tells.
    fn content_bytes() -> u64;
}

/// The first Rust that runs.
extern "C" fn begin(start_info: u32) -> ! {
    interrupt::begin();
    // SAFETY: the loader left this address; the functions are in every image; the heap gets memory that holds nothing.
    unsafe {
        let Some(told) = start_info::read(start_info, CONTENT_ADDRESS) else {
            super::exit(format_args!("bad-config: the loader is not PVH, or gives less than 8 MiB"));
        };
        LINE = told.line;
        let content = content_bytes();
        let heap_start = (CONTENT_ADDRESS + content).next_multiple_of(LARGE_PAGE);
        if heap_start + LARGE_PAGE > told.memory_end {
            super::exit(format_args!("out-of-memory: {content} bytes of content leave no heap; give the instance more memory"));
        }
        boot::protect_content(content);
        heap::give(heap_start as *mut u8, (told.memory_end - heap_start) as usize);
        clock::begin();
        guest_main()
    }
}

/// The command line, with what the hypervisor appended.
pub fn configuration() -> &'static str {
    // SAFETY: written once, before any reader.
    unsafe { LINE }
}

/// A virtual machine is sealed by its walls; there is nothing to do.
pub fn seal() {}

pub fn random_seed() -> u64 {
    clock::seed()
}

/// Sleeps until the card or the timer interrupts, unless a frame waits already.
pub fn wait(device: &mut NetDevice, until: Option<Instant>) {
    if device.has_frame() {
        return;
    }
    if let Some(at) = until {
        let left_ns = (at.total_micros() - now().total_micros()).saturating_mul(1_000);
        if left_ns <= 0 {
            return;
        }
        interrupt::set_timer(left_ns.min(LONGEST_TIMER_NS) as u32);
    }
    interrupt::halt();
    interrupt::set_timer(0);
}

pub fn write(bytes: &[u8]) {
    for byte in bytes {
        out(SERIAL, *byte);
    }
}

/// Ends the virtual machine.
pub fn leave() -> ! {
    leave_with(1)
}

fn leave_with(value: u8) -> ! {
    loop {
        out(DEBUG_EXIT, value);
    }
}

fn out(port: u16, value: u8) {
    // SAFETY: the serial port and the exit device take any byte.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}
