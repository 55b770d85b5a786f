//! What the loader tells (PVH start info): the command line, and how much memory there is.

use core::ffi::CStr;

const MAGIC: u32 = 0x336e_c578;
const MEMORY: u32 = 1;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct MapEntry {
    address: u64,
    bytes: u64,
    kind: u32,
    reserved: u32,
}

/// The command line, and the end of the memory that holds `inside`.
pub struct Told {
    pub line: &'static str,
    pub memory_end: u64,
}

/// Reads the loader's table.
///
/// # Safety
/// `address` is what the loader left in the register.
pub unsafe fn read(address: u32, inside: u64) -> Option<Told> {
    // SAFETY: the loader put the table there; the magic says so.
    let info = unsafe { &*(address as usize as *const StartInfo) };
    if info.magic != MAGIC {
        return None;
    }
    // SAFETY: a C string that the loader made, or none.
    let line = match info.command_line {
        0 => "",
        text => unsafe { CStr::from_ptr(text as *const core::ffi::c_char) }.to_str().unwrap_or(""),
    };
    // SAFETY: the loader made so many entries.
    let map = unsafe { core::slice::from_raw_parts(info.memory_map as *const MapEntry, info.memory_map_entries as usize) };
    let holds = |entry: &&MapEntry| entry.kind == MEMORY && entry.address <= inside && inside < entry.address + entry.bytes;
    let memory_end = map.iter().find(holds).map(|entry| entry.address + entry.bytes)?;
    Some(Told { line, memory_end })
}
