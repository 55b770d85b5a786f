//! What our tender tells us, and we it: its words come as frames of their own kind, ours go to the console.

use super::network::NetDevice;
use super::{clock, interrupt, leave_with, write};
use crate::config::slept_ms;
use alloc::string::String;

/// For use among ourselves (IEEE 802, local experimental EtherType 1); the tender lets no such frame of others through.
const ETHERTYPE: [u8; 2] = [0x88, 0xb5];
const HEADER_BYTES: usize = 14;

/// Says that all is ready but for who we are, and sleeps until we are told.
pub fn told(device: &mut NetDevice) -> String {
    write(b"wisp-ready\n");
    listen(device)
}

/// Lets the virtual machine be put away, as nobody wants anything now, unless a frame waits; returns when it goes on.
///
/// The hypervisor takes frames off the tap before we see them; so a tender first holds them back, and then has us
/// look a last time. Without one, what comes just after that look is lost. The tender says what is to become of us:
/// with `look` we are kept as we are until it has us stay, otherwise we end; one that is leaving always ends.
pub fn rest(device: &mut NetDevice, is_leaving: bool) {
    if !device.is_tended() {
        if !device.has_frame() {
            end(device);
        }
        return;
    }
    write(if is_leaving { b"wisp-leaving\n" } else { b"wisp-idle\n" });
    let words = listen(device);
    if !device.has_frame() {
        if words != "look" {
            end(device);
        }
        device.send_all();
        write(b"wisp-still\n");
        clock::put_forward(slept_ms(&listen(device)));
    }
    write(b"wisp-busy\n");
}

fn end(device: &mut NetDevice) -> ! {
    device.send_all();
    leave_with(0)
}

/// Sleeps until the tender says something; frames that come before are kept.
fn listen(device: &mut NetDevice) -> String {
    loop {
        while let Some(frame) = device.take() {
            let bytes = frame.bytes();
            if bytes.get(12..HEADER_BYTES) == Some(&ETHERTYPE) {
                return String::from_utf8(bytes[HEADER_BYTES..].into()).unwrap_or_default();
            }
            device.give(bytes.into());
        }
        if !device.has_arrived() {
            interrupt::halt();
        }
    }
}
