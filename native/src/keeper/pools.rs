//! Guests that have booted ahead and wait until somebody is woken who takes one.

use crate::seqpacket::{self, Received};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

pub struct Member {
    /// The child that tends the guest.
    pub id: String,
    /// Where it is told who its guest is.
    pub control: OwnedFd,
    is_ready: bool,
}

/// Members by pool, oldest first.
#[derive(Default)]
pub struct Pools(BTreeMap<String, Vec<Member>>);

impl Pools {
    pub fn add(&mut self, pool: &str, id: &str, control: OwnedFd) {
        let member = Member { id: id.to_owned(), control, is_ready: false };
        self.0.entry(pool.to_owned()).or_default().push(member);
    }

    /// Whether there is a member whose guest has booted.
    pub fn is_ready(&mut self, pool: &str) -> bool {
        let Some(members) = self.0.get_mut(pool) else { return false };
        members.retain_mut(Member::look);
        members.iter().any(|member| member.is_ready)
    }

    /// Takes the oldest member whose guest has booted; those that have ended are dropped.
    pub fn take(&mut self, pool: &str) -> Option<Member> {
        let members = self.0.get_mut(pool)?;
        members.retain_mut(Member::look);
        let place = members.iter().position(|member| member.is_ready)?;
        Some(members.remove(place))
    }
}

impl Member {
    /// Hears whether the guest has booted; `false` when its tender has ended.
    fn look(&mut self) -> bool {
        let mut word = [0; 16];
        match seqpacket::receive(self.control.as_fd(), &mut word) {
            Ok(Received::Closed) => false,
            Ok(_) => {
                self.is_ready = true;
                true
            }
            Err(why) => why.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap()
    }

    #[test]
    fn the_oldest_that_is_ready_is_taken_once() {
        let mut pools = Pools::default();
        let tenders: Vec<_> = ["a", "b", "c"]
            .map(|id| {
                let (ours, theirs) = pair();
                pools.add("web", id, ours);
                theirs
            })
            .into();
        assert!(pools.take("web").is_none());
        for tender in &tenders[1..] {
            seqpacket::send(tender.as_fd(), b"ready", &[]).unwrap();
        }
        let taken: Vec<_> = std::iter::from_fn(|| pools.take("web").map(|member| member.id)).collect();
        assert_eq!(taken, ["b", "c"]);
        assert!(pools.take("other").is_none());
    }

    #[test]
    fn one_that_has_ended_is_dropped() {
        let mut pools = Pools::default();
        let (ours, theirs) = pair();
        pools.add("web", "a", ours);
        drop(theirs);
        assert!(pools.take("web").is_none());
        assert!(pools.0["web"].is_empty());
    }
}
