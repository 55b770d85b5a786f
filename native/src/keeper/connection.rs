//! One peer of the keeper: what it asked and what it has not yet read.

use super::children::MAX_CHILDREN;
use crate::seqpacket;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// A packet on its way to the peer.
pub struct Packet {
    pub bytes: Vec<u8>,
    pub descriptors: Vec<Rc<OwnedFd>>,
}

impl From<Vec<u8>> for Packet {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, descriptors: Vec::new() }
    }
}

/// A peer. While it has something unread it is not asked for more, so that what is kept for it stays bounded: one
/// answer, or one id per child whose state changed.
pub struct Connection {
    socket: OwnedFd,
    answer: Option<Packet>,
    /// Ids of children that a watcher has not been told of; `None` for a peer that does not watch.
    untold: Option<VecDeque<String>>,
    /// Whether it may ask for `wake` and nothing else.
    pub only_wakes: bool,
    /// What epoll was last told to wait for.
    pub waits_for_room: bool,
}

impl Connection {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, answer: None, untold: None, only_wakes: false, waits_for_room: false }
    }

    /// The connection of a child that may only wake others.
    pub fn of_waker(socket: OwnedFd) -> Self {
        Self { only_wakes: true, ..Self::new(socket) }
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub fn watches(&self) -> bool {
        self.untold.is_some()
    }

    pub fn watch(&mut self, worth_telling: impl Iterator<Item = String>) {
        self.untold = Some(worth_telling.collect());
    }

    pub fn answer(&mut self, packet: Packet) {
        self.answer = Some(packet);
    }

    /// Notes that `id` changed; an error when this watcher has not read for far too long.
    pub fn tell(&mut self, id: &str) -> io::Result<()> {
        match &mut self.untold {
            Some(untold) if untold.len() >= 2 * MAX_CHILDREN => Err(io::Error::other("a watcher that does not read")),
            Some(untold) => {
                untold.push_back(id.to_owned());
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub fn has_unsent(&self) -> bool {
        self.answer.is_some() || self.untold.as_ref().is_some_and(|untold| !untold.is_empty())
    }

    /// Sends what the peer takes now; `event` gives the packet of an ended child, `None` if it is forgotten.
    pub fn flush(&mut self, event: impl Fn(&str) -> Option<Vec<u8>>) -> io::Result<()> {
        if let Some(packet) = &self.answer {
            if !self.send(&packet.bytes, &packet.descriptors)? {
                return Ok(());
            }
            self.answer = None;
        }
        while let Some(id) = self.untold.as_ref().and_then(VecDeque::front) {
            if let Some(bytes) = event(id)
                && !self.send(&bytes, &[])?
            {
                return Ok(());
            }
            self.untold.as_mut().map(VecDeque::pop_front);
        }
        Ok(())
    }

    /// `false` when the peer has no room now.
    fn send(&self, bytes: &[u8], descriptors: &[Rc<OwnedFd>]) -> io::Result<bool> {
        let descriptors: Vec<_> = descriptors.iter().map(|shared| shared.as_fd()).collect();
        match seqpacket::send(self.socket(), bytes, &descriptors) {
            Ok(()) => Ok(true),
            Err(why) if why.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(why) => Err(why),
        }
    }
}
