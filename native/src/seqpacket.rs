//! One packet with its descriptors, in and out of a `SOCK_SEQPACKET` unix socket.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The most descriptors the kernel carries with one packet (`SCM_MAX_FD`).
pub const MAX_DESCRIPTORS: usize = 253;
/// The longest packet either side may send [byte].
pub const MAX_PACKET_BYTES: usize = 128 * 1024;

const CONTROL_WORDS: usize = (MAX_DESCRIPTORS * mem::size_of::<RawFd>() + 64) / mem::size_of::<u64>();

/// What one receive gave.
pub enum Received {
    /// `bytes` of the buffer are filled; all descriptors of the packet are here.
    Packet { bytes: usize, descriptors: Vec<OwnedFd> },
    /// The packet or its descriptors did not fit; what arrived of it is dropped.
    TooLarge,
    /// The peer is gone.
    Closed,
}

/// Receives one packet into `buffer` without waiting.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut message = header(&mut part, &mut control, CONTROL_WORDS * 8);
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: `message` points at `part`, `buffer` and `control`, which outlive the call.
    let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut message, flags) };
    if count < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptors = take_descriptors(&message);
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Ok(Received::TooLarge);
    }
    if count == 0 && descriptors.is_empty() {
        return Ok(Received::Closed);
    }
    Ok(Received::Packet { bytes: count as usize, descriptors })
}

/// Sends one packet without waiting; either all of it goes or an error is given.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let payload = mem::size_of_val(descriptors);
    // SAFETY: pure arithmetic.
    let space = if payload == 0 { 0 } else { unsafe { libc::CMSG_SPACE(payload as u32) as usize } };
    let message = header(&mut part, &mut control, space);
    if payload > 0 {
        put_descriptors(&message, descriptors, payload);
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: `message` points at `part`, `bytes` and `control`, which outlive the call.
    match unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn header(part: &mut libc::iovec, control: &mut [u64], control_bytes: usize) -> libc::msghdr {
    // SAFETY: an all-zero msghdr is a valid empty one.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    if control_bytes > 0 {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control_bytes;
    }
    message
}

fn put_descriptors(message: &libc::msghdr, descriptors: &[BorrowedFd<'_>], payload: usize) {
    assert!(descriptors.len() <= MAX_DESCRIPTORS);
    // SAFETY: the control buffer holds MAX_DESCRIPTORS and is aligned for a cmsghdr.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(message);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(payload as u32) as usize;
        // `BorrowedFd` is `repr(transparent)` over `RawFd`.
        ptr::copy_nonoverlapping(descriptors.as_ptr().cast::<u8>(), libc::CMSG_DATA(first), payload);
    }
}

fn take_descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the kernel filled the control buffer; the descriptors in it are new and ours alone.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let payload = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..payload / mem::size_of::<RawFd>() {
                    descriptors.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    descriptors
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
    }

    #[test]
    fn carries_bytes_and_descriptors() {
        let (left, right) = pair();
        let (sent, other) = pair();
        send(left.as_fd(), b"hello", &[sent.as_fd(), other.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let Received::Packet { bytes, descriptors } = receive(right.as_fd(), &mut buffer).unwrap() else {
            panic!("no packet");
        };
        assert_eq!((&buffer[..bytes], descriptors.len()), (&b"hello"[..], 2));
    }

    #[test]
    fn says_when_a_packet_does_not_fit_or_the_peer_is_gone() {
        let (left, right) = pair();
        send(left.as_fd(), &[7; 20], &[left.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        assert!(matches!(receive(right.as_fd(), &mut buffer).unwrap(), Received::TooLarge));
        drop(left);
        assert!(matches!(receive(right.as_fd(), &mut buffer).unwrap(), Received::Closed));
    }
}
