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
        "nothing" => hal::exit(format_args!("halt")),
        _ => hal::exit(format_args!("bad-config: try: is not a call this image knows")),
    };
    hal::seal();
    // SAFETY: every argument list is one the kernel takes; the seal ends the process before it does.
    let result = unsafe { syscall::call(number, arguments) };
    hal::exit(format_args!("sealed: {wanted} was let through and gave {result}"))
}

#[unsafe(no_mangle)]
fn content_bytes() -> u64 {
    0
}
