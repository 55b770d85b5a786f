//! `wisp-native`: the native programs of a Wisp cloud in one binary.
//!
//! * `keeper`: holds what must outlive any controller (see `keeper`).
//! * `delay`: link delay, jitter and loss through NFQUEUE (see `delay`).
//! * `dns`: the cloud's names; who asks for one that sleeps wakes it (see `dns`).
//! * `tender`: one virtual machine, with who it is and what comes over its tap (see `tender`).
//! * `container`: one container, and the first process in it (see `container`).
//! * `relay`: a port bound outside, served by something inside (see `relay`).

mod arguments;
mod container;
mod delay;
mod dns;
mod failure;
mod keeper;
mod limits;
mod relay;
mod seqpacket;
mod tender;
mod time;

use failure::Failure;
use std::process::ExitCode;

const HELP: &str = "usage: wisp-native keeper --dir DIR [--ready-fd N]
       wisp-native delay
       wisp-native dns
       wisp-native tender -- HYPERVISOR ARGUMENTS...
       wisp-native container --tree DIR --room-bytes N --name NAME -- RUNTIME ARGUMENTS...
       wisp-native relay --listen-fd N --to ADDRESS:PORT [--udp]
       wisp-native --version";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("wisp-native: {}", failure.sentence);
            ExitCode::from(failure.status)
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().unwrap_or_default();
    match program.to_str() {
        Some("keeper") => keeper::run(arguments),
        Some("delay") => delay::run(arguments),
        Some("dns") => dns::run(arguments),
        Some("tender") => tender::run(arguments),
        Some("container") => container::run(arguments),
        Some("relay") => relay::run(arguments),
        Some("--version") => {
            println!("wisp-native {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        _ => Err(Failure::usage(format!("unknown program {program:?}\n{HELP}"))),
    }
}
