//! What differs between the targets: clock, sleep, console, end, heap, and the network device.
//!
//! Both targets give the same names: `configuration`, `confidential`, `device`, `seal`, `now`, `wait`, `random_seed`, `write`,
//! `rest`, `exit`; `microvm` has `told` as well. Both network devices note when the host tells the guest to leave.

mod heap;
mod memory;

#[cfg(feature = "microvm")]
mod microvm;
#[cfg(feature = "microvm")]
pub use microvm::*;
#[cfg(feature = "spt")]
mod spt;
#[cfg(feature = "spt")]
pub use spt::*;

pub use heap::{fresh, heap_bytes};

use core::fmt;

/// Ends the guest with its reason as the last line of its console.
pub fn exit(reason: fmt::Arguments<'_>) -> ! {
    let mut line = Line { bytes: [0; 256], length: 0 };
    let _ = fmt::write(&mut line, format_args!("wisp-exit: {reason}"));
    line.bytes[line.length] = b'\n';
    write(&line.bytes[..=line.length]);
    leave()
}

/// Whether a frame tells us to finish what we have and leave (IEEE 802, local experimental EtherType 2).
///
/// Nobody but our host can send one: no router leads on what is not IP.
fn is_farewell(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x88, 0xb6])
}

/// A line of bounded length, so that nothing is allocated on the way out.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }) {
            if self.length < self.bytes.len() - 1 {
                self.bytes[self.length] = byte;
                self.length += 1;
            }
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => exit(format_args!("panic: {} at {}:{}", info.message(), place.file(), place.line())),
        None => exit(format_args!("panic: {}", info.message())),
    }
}
