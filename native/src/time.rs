//! The clock that all times of a cloud are read from.

/// `CLOCK_MONOTONIC` [ns].
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// `CLOCK_REALTIME` [ns]; only for what the kernel stamps with it.
pub fn real_ns() -> u64 {
    read(libc::CLOCK_REALTIME)
}

/// `CLOCK_BOOTTIME` [ms]: goes on while the machine sleeps, and is never set.
pub fn boottime_ms() -> u64 {
    read(libc::CLOCK_BOOTTIME) / 1_000_000
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into `time`.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
