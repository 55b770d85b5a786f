//! Time from the processor's counter, measured once against the timer, which counts nanoseconds.

use super::interrupt;
use core::arch::x86_64::_rdtsc;
use smoltcp::time::Instant;

const SAMPLES: usize = 3;
const SAMPLE_NS: u32 = 100_000;
const SHIFT: u32 = 24;

static mut START: u64 = 0;
/// Microseconds per tick, times 2 to the power of `SHIFT`.
static mut SCALE: u64 = 0;

/// Measures the counter; a rate given in the configuration [kHz] saves the time.
pub fn begin(given_khz: Option<u64>) {
    let khz = given_khz.filter(|khz| *khz > 0).unwrap_or_else(measured_khz);
    // SAFETY: one thread, written once.
    unsafe {
        START = _rdtsc();
        SCALE = (1_000 << SHIFT) / khz;
    }
}

/// The slowest of some short measurements is the truest: being preempted only adds ticks.
fn measured_khz() -> u64 {
    (0..SAMPLES).map(|_| measure()).min().unwrap_or(1_000_000)
}

fn measure() -> u64 {
    interrupt::set_timer(u32::MAX);
    let before = interrupt::timer_left();
    // SAFETY: reads a counter.
    let start = unsafe { _rdtsc() };
    loop {
        let passed = before - interrupt::timer_left();
        if passed >= SAMPLE_NS {
            // SAFETY: reads a counter.
            let ticks = unsafe { _rdtsc() } - start;
            interrupt::set_timer(0);
            return (ticks * 1_000_000 / u64::from(passed)).max(1);
        }
    }
}

pub fn now() -> Instant {
    // SAFETY: one thread; reads a counter.
    let (ticks, scale) = unsafe { (_rdtsc() - START, SCALE) };
    Instant::from_micros(((u128::from(ticks) * u128::from(scale)) >> SHIFT) as i64)
}

pub fn seed() -> u64 {
    // SAFETY: reads a counter.
    unsafe { _rdtsc() }.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
