//! Files that the hypervisor hands over (QEMU's `fw_cfg`): options that must not stand on the command line.

use alloc::string::String;
use alloc::vec::Vec;
use core::arch::asm;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
const SIGNATURE: u16 = 0;
const DIRECTORY: u16 = 0x19;
const FILE: &[u8] = b"opt/wisp/confidential";
const LONGEST_LINE: usize = 2048;

/// The line of options that nobody else shall see.
pub fn confidential() -> Option<String> {
    select(SIGNATURE);
    if bytes::<4>() != *b"QEMU" {
        return None;
    }
    select(DIRECTORY);
    let count = u32::from_be_bytes(bytes());
    let (size, key) = (0..count).map(|_| entry()).find_map(|(size, key, name)| named(&name).then_some((size, key)))?;
    if size > LONGEST_LINE {
        return None;
    }
    select(key);
    String::from_utf8((0..size).map(|_| byte()).collect::<Vec<_>>()).ok()
}

/// Size, key and name of the next file of the directory.
fn entry() -> (usize, u16, [u8; 56]) {
    let size = u32::from_be_bytes(bytes()) as usize;
    let key = u16::from_be_bytes(bytes());
    let _reserved = bytes::<2>();
    (size, key, bytes())
}

fn named(name: &[u8; 56]) -> bool {
    name.starts_with(FILE) && name[FILE.len()] == 0
}

fn bytes<const COUNT: usize>() -> [u8; COUNT] {
    core::array::from_fn(|_| byte())
}

fn select(key: u16) {
    // SAFETY: chooses what the data port gives, and nothing else.
    unsafe { asm!("out dx, ax", in("dx") SELECTOR, in("ax") key, options(nomem, nostack, preserves_flags)) };
}

fn byte() -> u8 {
    let value: u8;
    // SAFETY: the data port gives one byte after the other.
    unsafe { asm!("in al, dx", in("dx") DATA, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}
