//! Descriptors with low numbers, kept for what the next child needs.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

const COUNT: usize = 24;

/// Open on `/dev/null` while nobody needs them, so that nothing else gets their numbers.
pub struct Slots {
    null: OwnedFd,
    slots: Vec<OwnedFd>,
    first_unneeded: RawFd,
}

impl Slots {
    /// Takes the lowest free numbers; so it is made before anything that there will be many of.
    pub fn new(null: &File) -> std::io::Result<Self> {
        let slots = (0..COUNT).map(|_| Ok(null.try_clone()?.into())).collect::<std::io::Result<Vec<OwnedFd>>>()?;
        let first_unneeded = slots.iter().map(|slot| slot.as_raw_fd() + 1).max().unwrap_or(0);
        Ok(Self { null: null.try_clone()?.into(), slots, first_unneeded })
    }

    pub fn lend(&self) -> Lent<'_> {
        Lent { slots: self, used: 0, all_fit: true }
    }
}

/// Copies of descriptors in slots, for as long as this lives.
pub struct Lent<'a> {
    slots: &'a Slots,
    used: usize,
    all_fit: bool,
}

impl Lent<'_> {
    /// Gives the low number of a copy of `source`, or its own number when all slots are taken.
    pub fn low(&mut self, source: BorrowedFd<'_>) -> RawFd {
        let slot = self.slots.slots.get(self.used).map(AsRawFd::as_raw_fd);
        match slot.filter(|slot| replace(source.as_raw_fd(), *slot)) {
            Some(slot) => {
                self.used += 1;
                slot
            }
            None => {
                self.all_fit = false;
                source.as_raw_fd()
            }
        }
    }

    /// From where on a child needs none of our descriptors; `None` when it needs some with high numbers.
    pub fn first_unneeded(&self) -> Option<RawFd> {
        self.all_fit.then_some(self.slots.first_unneeded)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        for slot in &self.slots.slots[..self.used] {
            replace(self.slots.null.as_raw_fd(), slot.as_raw_fd());
        }
    }
}

/// Has `slot` be a copy of `source`.
fn replace(source: RawFd, slot: RawFd) -> bool {
    // SAFETY: both are ours, and `slot` stays open whatever it is a copy of.
    unsafe { libc::dup3(source, slot, libc::O_CLOEXEC) == slot }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_lent_has_low_numbers_and_is_given_back() {
        let null = File::open("/dev/null").unwrap();
        let slots = Slots::new(&null).unwrap();
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let mut lent = slots.lend();
        let low = lent.low(writer.as_fd());
        assert!(low < lent.first_unneeded().unwrap());
        drop(writer);
        drop(lent);
        let mut byte = [0];
        assert_eq!(nix::unistd::read(&reader, &mut byte), Ok(0), "the last writing end is closed");
    }

    #[test]
    fn more_than_there_are_slots_keep_their_own_numbers() {
        let null = File::open("/dev/null").unwrap();
        let slots = Slots::new(&null).unwrap();
        let mut lent = slots.lend();
        for _ in 0..COUNT {
            assert_ne!(lent.low(null.as_fd()), null.as_raw_fd());
        }
        assert!(lent.first_unneeded().is_some());
        assert_eq!(lent.low(null.as_fd()), null.as_raw_fd());
        assert!(lent.first_unneeded().is_none());
    }
}
