//! What one direction of a link does to packets; knows neither kernel nor clock.

use std::collections::VecDeque;

/// A packet due within this time goes now [ns]: waking again for it would cost more than it is early.
const EARLY_NS: u64 = 10_000;
/// What the way from our word to the receiver's socket takes [ns]; the delay is declared from end to end.
const ONWARD_NS: u64 = 25_000;
/// Upper ends of the lateness classes [us]; one more class holds everything above.
pub const LATE_BOUNDS_US: [u64; 7] = [50, 100, 200, 500, 1_000, 2_000, 5_000];

/// What a line is declared to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub delay_us: u64,
    /// Uniform on both sides of the delay [us]; packets keep their order.
    pub jitter_us: u64,
    /// Packets lost of a million.
    pub loss_ppm: u32,
    /// Packets that may wait; more are dropped.
    pub limit_packets: usize,
    pub seed: u64,
}

/// What became of an arrived packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Waits,
    Dropped,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub delayed: u64,
    pub lost: u64,
    pub overflowed: u64,
    /// Packets by how late they went, in the classes of `LATE_BOUNDS_US`.
    pub late: [u64; LATE_BOUNDS_US.len() + 1],
}

pub struct Line {
    shape: Shape,
    random: u64,
    /// (packet, when it is due [ns]), in order of both.
    waiting: VecDeque<(u32, u64)>,
    last_due_ns: u64,
    pub counts: Counts,
}

impl Line {
    pub fn new(shape: Shape) -> Self {
        Self { shape, random: shape.seed, waiting: VecDeque::new(), last_due_ns: 0, counts: Counts::default() }
    }

    /// Changes what happens to packets from now on; the same shape again changes nothing.
    pub fn reshape(&mut self, shape: Shape) {
        if shape.seed != self.shape.seed {
            self.random = shape.seed;
        }
        self.shape = shape;
    }

    pub fn arrive(&mut self, packet: u32, now_ns: u64) -> Fate {
        if self.chance(1_000_000) < u64::from(self.shape.loss_ppm) {
            self.counts.lost += 1;
            return Fate::Dropped;
        }
        if self.waiting.len() >= self.shape.limit_packets {
            self.counts.overflowed += 1;
            return Fate::Dropped;
        }
        self.last_due_ns = self.last_due_ns.max((now_ns + self.wait_ns()).saturating_sub(ONWARD_NS));
        self.waiting.push_back((packet, self.last_due_ns));
        Fate::Waits
    }

    /// When to call `release` again [ns]; `None` while nothing waits.
    pub fn due_ns(&self) -> Option<u64> {
        self.waiting.front().map(|(_, due_ns)| *due_ns)
    }

    /// The last packet that goes now, with all before it.
    pub fn release(&mut self, now_ns: u64) -> Option<u32> {
        let mut last = None;
        while let Some((packet, due_ns)) = self.waiting.front().copied()
            && due_ns <= now_ns + EARLY_NS
        {
            self.waiting.pop_front();
            self.counts.delayed += 1;
            self.counts.late[class_of(now_ns.saturating_sub(due_ns))] += 1;
            last = Some(packet);
        }
        last
    }

    /// The last packet that waits at all; nothing waits afterwards.
    pub fn release_all(&mut self) -> Option<u32> {
        let last = self.waiting.back().map(|(packet, _)| *packet);
        self.waiting.clear();
        last
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn wait_ns(&mut self) -> u64 {
        let Shape { delay_us, jitter_us, .. } = self.shape;
        let base_ns = delay_us * 1_000;
        if jitter_us == 0 {
            return base_ns;
        }
        let jitter_ns = jitter_us * 1_000;
        (base_ns + self.chance(2 * jitter_ns + 1)).saturating_sub(jitter_ns)
    }

    /// A number below `bound` (splitmix64, then scaled).
    fn chance(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        ((u128::from(mixed) * u128::from(bound)) >> 64) as u64
    }
}

fn class_of(late_ns: u64) -> usize {
    let late_us = late_ns / 1_000;
    LATE_BOUNDS_US.iter().position(|bound| late_us < *bound).unwrap_or(LATE_BOUNDS_US.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Shape = Shape { delay_us: 1_000, jitter_us: 0, loss_ppm: 0, limit_packets: 10, seed: 1 };

    #[test]
    fn packets_wait_their_time_and_leave_together() {
        let mut line = Line::new(PLAIN);
        assert_eq!(line.due_ns(), None);
        line.arrive(1, 0);
        line.arrive(2, 10_000);
        line.arrive(3, 500_000);
        assert_eq!(line.due_ns(), Some(1_000_000 - ONWARD_NS));
        assert_eq!(line.release(900_000), None);
        assert_eq!(line.release(1_000_000 - ONWARD_NS), Some(2));
        assert_eq!(line.due_ns(), Some(1_500_000 - ONWARD_NS));
        assert_eq!(line.release(2_700_000), Some(3));
        assert_eq!(line.counts.delayed, 3);
        assert_eq!(line.counts.late, [2, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_full_line_drops() {
        let mut line = Line::new(Shape { limit_packets: 2, ..PLAIN });
        let fates: Vec<_> = (0..3).map(|packet| line.arrive(packet, 0)).collect();
        assert_eq!(fates, [Fate::Waits, Fate::Waits, Fate::Dropped]);
        assert_eq!(line.counts.overflowed, 1);
    }

    #[test]
    fn loss_is_as_declared_and_repeats_with_the_seed() {
        let run = |seed| {
            let mut line = Line::new(Shape { loss_ppm: 10_000, seed, ..PLAIN });
            let mut arrive = |packet| {
                line.release_all();
                line.arrive(packet, 0)
            };
            let fates: Vec<_> = (0..1_000_000).map(&mut arrive).collect();
            (line.counts.lost, fates)
        };
        let (lost, fates) = run(7);
        assert!((9_700..=10_300).contains(&lost), "{lost}");
        assert!(run(7).1 == fates && run(8).1 != fates);
    }

    #[test]
    fn jitter_spreads_but_never_reorders() {
        let mut line = Line::new(Shape { jitter_us: 400, limit_packets: 100_000, ..PLAIN });
        let mut waits = Vec::new();
        for packet in 0..1_000 {
            let now_ns = u64::from(packet + 1) * 10_000_000;
            line.arrive(packet, now_ns);
            waits.push(line.due_ns().unwrap() + ONWARD_NS - now_ns);
            assert_eq!(line.release_all(), Some(packet));
        }
        assert!(waits.iter().all(|wait| (600_000..=1_400_000).contains(wait)));
        let mean = waits.iter().sum::<u64>() / 1_000;
        assert!((970_000..=1_030_000).contains(&mean), "{mean}");
        for packet in 0..1_000 {
            line.arrive(packet, 20_000_000_000 + u64::from(packet));
        }
        assert!(line.waiting.iter().zip(line.waiting.iter().skip(1)).all(|(one, next)| one.1 <= next.1));
    }

    #[test]
    fn reshaping_to_the_same_keeps_the_dice() {
        let mut one = Line::new(Shape { loss_ppm: 500_000, limit_packets: 9_999, ..PLAIN });
        let mut two = Line::new(one.shape);
        for packet in 0..1_000 {
            two.reshape(two.shape);
            assert_eq!(one.arrive(packet, 0), two.arrive(packet, 0));
        }
    }
}
