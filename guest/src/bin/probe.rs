//! The image `probe`: seals itself as every image does, then tries what a seal must stop. It proves the seal.
#![no_std]
#![no_main]

use wisp_guest::config::Config;
use wisp_guest::hal;
use wisp_guest::hal::syscall;

const OPEN: usize = 2;
const SOCKET: usize = 41;
const CLONE: usize = 56;
const EXECVE: usize = 59;
const MMAP: usize = 9;
/// Faults instead of calls.
const FAULTS: [&str; 3] = ["fault", "overflow", "illegal"];
const AF_INET: usize = 2;
const SOCK_STREAM: usize = 1;

#[unsafe(no_mangle)]
fn guest_main() -> ! {
    let wanted = Config::parse(&[hal::configuration()]).ok();
    let wanted = wanted.as_ref().and_then(|config| config.get("try")).unwrap_or("nothing");
    let path = c"/bin/true".as_ptr() as usize;
    let (number, arguments) = match wanted {
        "open" => (OPEN, [path, 0, 0, 0, 0]),
        "socket" => (SOCKET, [AF_INET, SOCK_STREAM, 0, 0, 0]),
        "execve" => (EXECVE, [path, 0, 0, 0, 0]),
        "clone" => (CLONE, [0; 5]),
        "mmap" => (MMAP, [0, 4096, 3, 0x22, usize::MAX]),
        _ if FAULTS.contains(&wanted) => (0, [0; 5]),
        "nothing" => hal::exit(format_args!("halt")),
        _ => hal::exit(format_args!("bad-config: try: is not a call this image knows")),
    };
    hal::seal();
    if FAULTS.contains(&wanted) {
        fault(wanted);
    }
    // SAFETY: every argument list is one the kernel takes; the seal ends the process before it does.
    let result = unsafe { syscall::call(number, arguments) };
    hal::exit(format_args!("sealed: {wanted} was let through and gave {result}"))
}

/// Does what the processor refuses.
fn fault(wanted: &str) {
    match wanted {
        // SAFETY: none; the page is nobody's.
        "fault" => unsafe { core::ptr::write_volatile(core::ptr::without_provenance_mut::<u8>(0x10), 1) },
        "overflow" => drop(deeper(core::hint::black_box(1))),
        // SAFETY: it only ends the process.
        _ => unsafe { core::arch::asm!("ud2") },
    }
}

#[allow(unconditional_recursion)]
fn deeper(number: u64) -> u64 {
    let room = core::hint::black_box([number; 64]);
    deeper(room[0] + 1) + room[63]
}

#[unsafe(no_mangle)]
fn content_bytes() -> u64 {
    0
}
