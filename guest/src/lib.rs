//! Wisp's unikernel guest: a library operating system and the roles built on it.
//!
//! One source, two targets (`hal`): `microvm`, a kernel of its own in a virtual machine, and `spt`, a static
//! program that seals itself in a seccomp filter. `net` polls, `app` answers, `config` reads the one line of
//! options, `content` what was baked in. Time is an argument everywhere but in `hal`.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod app;
pub mod config;
pub mod content;
#[cfg(any(feature = "microvm", feature = "spt"))]
pub mod hal;
#[cfg(any(feature = "microvm", feature = "spt"))]
pub mod net;
#[cfg(feature = "microvm")]
mod rehearsal;

/// Makes a program an image: its header, and its beginning with the function that makes its role.
#[cfg(any(feature = "microvm", feature = "spt"))]
#[macro_export]
macro_rules! image {
    ($make:ident) => {
        #[used]
        #[unsafe(link_section = ".wisp.header")]
        static HEADER: $crate::content::ImageHeader = $crate::content::ImageHeader {
            magic: $crate::content::MAGIC,
            content_address: $crate::content::CONTENT_ADDRESS,
            options_bytes: 0,
            archive_bytes: 0,
            reserved: [0; 4],
        };

        #[unsafe(no_mangle)]
        fn guest_main() -> ! {
            $crate::net::run(&HEADER, $make)
        }

        #[unsafe(no_mangle)]
        fn content_bytes() -> u64 {
            HEADER.content_bytes()
        }
    };
}
