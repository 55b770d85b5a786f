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
/// For how long we were put away, while the counter stood still.
static mut SLEPT_US: i64 = 0;

/// Measures the counter.
pub fn begin() {
    let khz = measured_khz();
    // SAFETY: one thread, written once.
    unsafe {
        START = _rdtsc();
        SCALE = (1_000 << SHIFT) / khz;
    }
}

/// Both clocks at one moment; the counter is read before and after the timer, and `width` is what lies between.
struct Reading {
    ticks: u64,
    width: u64,
    left_ns: u32,
}

impl Reading {
    fn take() -> Self {
        // SAFETY: reads a counter.
        let before = unsafe { _rdtsc() };
        let left_ns = interrupt::timer_left();
        // SAFETY: reads a counter.
        let width = unsafe { _rdtsc() } - before;
        Self { ticks: before + width / 2, width, left_ns }
    }
}

/// The measurement with the tightest readings is the truest: being preempted in a reading widens it, and between two does no harm.
fn measured_khz() -> u64 {
    (0..SAMPLES).map(|_| measure()).min_by_key(|(width, _)| *width).map_or(1_000_000, |(_, khz)| khz)
}

/// Width of the readings, and the rate [kHz].
fn measure() -> (u64, u64) {
    interrupt::set_timer(u32::MAX);
    let first = Reading::take();
    let mut last = Reading::take();
    while first.left_ns - last.left_ns < SAMPLE_NS {
        last = Reading::take();
    }
    interrupt::set_timer(0);
    let khz = (last.ticks - first.ticks) * 1_000_000 / u64::from(first.left_ns - last.left_ns);
    (first.width + last.width, khz.max(1))
}

pub fn now() -> Instant {
    // SAFETY: one thread; reads a counter.
    let (ticks, scale, slept_us) = unsafe { (_rdtsc() - START, SCALE, SLEPT_US) };
    Instant::from_micros(((u128::from(ticks) * u128::from(scale)) >> SHIFT) as i64 + slept_us)
}

/// Counts time that passed while the counter stood still.
pub fn put_forward(ms: u64) {
    // SAFETY: one thread.
    unsafe { SLEPT_US += ms as i64 * 1_000 };
}

pub fn seed() -> u64 {
    // SAFETY: reads a counter.
    unsafe { _rdtsc() }.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
