//! Frames between a tap and the hypervisor's socket, one system call each way and frame.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd::{read, write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

const FRAME_BYTES: usize = 4096;
/// As many each way before somebody else gets a turn.
const AT_ONCE: usize = 64;
const TAKEN_WITHIN: Duration = Duration::from_millis(50);

/// Marks our own words among the frames to a guest (IEEE 802, local experimental EtherType 1).
const OUR_HEADER: [u8; 14] = [2, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0x88, 0xb5];

/// Says something to the guest, as a frame of its own kind.
pub fn tell(network: BorrowedFd<'_>, words: &[u8]) -> nix::Result<()> {
    let frame = [&OUR_HEADER, words].concat();
    send(network.as_raw_fd(), &frame, MsgFlags::MSG_NOSIGNAL).map(|_| ())
}

/// Whether a frame of somebody else poses as one of ours.
fn is_ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&OUR_HEADER[12..])
}

pub struct Frames {
    tap: OwnedFd,
    /// Whether what waits in the tap may go to the guest now.
    are_let_through: bool,
    /// One that the hypervisor had no room for yet.
    waiting: Option<Vec<u8>>,
}

impl Frames {
    pub fn new(tap: OwnedFd) -> Self {
        Self { tap, are_let_through: false, waiting: None }
    }

    pub fn let_through(&mut self) {
        self.are_let_through = true;
    }

    /// Leaves in the tap what waits there, and returns once the hypervisor has taken all that went before.
    pub fn hold_back(&mut self, network: BorrowedFd<'_>) {
        self.are_let_through = false;
        let began = Instant::now();
        while (self.waiting.is_some() || is_unread(network)) && began.elapsed() < TAKEN_WITHIN {
            self.send_waiting(network);
            thread::yield_now();
        }
    }

    /// Waits until a frame is in the tap, or `other` can be read.
    pub fn wait_for_one(&self, other: BorrowedFd<'_>) -> nix::Result<()> {
        let mut waited = [self.tap.as_fd(), other].map(|one| PollFd::new(one, PollFlags::POLLIN));
        loop {
            match poll(&mut waited, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                done => return done.map(|_| ()),
            }
        }
    }

    /// What to wait for.
    pub fn interests<'a>(&'a self, network: BorrowedFd<'a>) -> [PollFd<'a>; 2] {
        let has_room = if self.waiting.is_some() { PollFlags::POLLOUT } else { PollFlags::empty() };
        let may_read = self.are_let_through && self.waiting.is_none();
        let from_tap = if may_read { PollFlags::POLLIN } else { PollFlags::empty() };
        [PollFd::new(self.tap.as_fd(), from_tap), PollFd::new(network, PollFlags::POLLIN | has_room)]
    }

    /// Carries what can be carried now.
    pub fn carry(&mut self, network: BorrowedFd<'_>) {
        let mut frame = [0; FRAME_BYTES];
        for _ in 0..AT_ONCE {
            match recv(network.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                // A full tap loses the frame, as any Ethernet may.
                Ok(length) if length > 0 => _ = write(&self.tap, &frame[..length]),
                _ => break,
            }
        }
        self.send_waiting(network);
        for _ in 0..AT_ONCE {
            if !self.are_let_through || self.waiting.is_some() {
                return;
            }
            match read(&self.tap, &mut frame) {
                Ok(length) if is_ours(&frame[..length]) => {}
                Ok(length) => self.send(network, &frame[..length]),
                Err(_) => return,
            }
        }
    }

    fn send_waiting(&mut self, network: BorrowedFd<'_>) {
        if let Some(frame) = self.waiting.take() {
            self.send(network, &frame);
        }
    }

    fn send(&mut self, network: BorrowedFd<'_>, frame: &[u8]) {
        if send(network.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) == Err(Errno::EAGAIN) {
            self.waiting = Some(frame.to_vec());
        }
    }
}

/// Whether the other end has not yet read all that we sent.
fn is_unread(network: BorrowedFd<'_>) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: writes one number.
    unsafe { libc::ioctl(network.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) == 0 && bytes > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_NONBLOCK).unwrap()
    }

    fn take(socket: &OwnedFd) -> Option<Vec<u8>> {
        let mut frame = [0; 100];
        recv(socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT).ok().map(|length| frame[..length].to_vec())
    }

    #[test]
    fn what_waits_in_the_tap_stays_there_until_it_is_let_through() {
        let ((wire, tap), (network, guest)) = (pair(), pair());
        let mut frames = Frames::new(tap);
        write(&wire, b"first").unwrap();
        frames.carry(network.as_fd());
        assert_eq!(take(&guest), None);
        frames.let_through();
        write(&guest, b"answer").unwrap();
        frames.carry(network.as_fd());
        assert_eq!(take(&guest).unwrap(), b"first");
        assert_eq!(take(&wire).unwrap(), b"answer");
        frames.hold_back(network.as_fd());
        write(&wire, b"second").unwrap();
        frames.carry(network.as_fd());
        assert_eq!(take(&guest), None);
    }

    #[test]
    fn none_is_lost_and_none_overtakes_when_the_guest_takes_its_time() {
        let ((wire, tap), (network, guest)) = (pair(), pair());
        let mut frames = Frames::new(tap);
        frames.let_through();
        let mut taken = vec![];
        for number in 0..100_u8 {
            while write(&wire, &[number]) == Err(Errno::EAGAIN) {
                frames.carry(network.as_fd());
                taken.extend(take(&guest));
            }
        }
        while taken.len() < 100 {
            frames.carry(network.as_fd());
            taken.extend(take(&guest));
        }
        assert_eq!(taken.concat(), (0..100).collect::<Vec<u8>>());
    }
}
