//! One NFQUEUE: packets stay in the kernel, we hear their numbers and say when they go on.
//!
//! The messages are those of `linux/netfilter/nfnetlink_queue.h`.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const MSG_PACKET: u16 = SUBSYSTEM;
const MSG_VERDICT: u16 = SUBSYSTEM | 1;
const MSG_CONFIG: u16 = SUBSYSTEM | 2;
const MSG_VERDICT_BATCH: u16 = SUBSYSTEM | 3;
const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_QUEUE as u16) << 8;

const CFG_CMD: u16 = 1;
const CFG_PARAMS: u16 = 2;
const CFG_QUEUE_MAXLEN: u16 = 3;
const CFG_MASK: u16 = 4;
const CFG_FLAGS: u16 = 5;
const COMMAND_BIND: u8 = 1;
const COPY_META: u8 = 1;
/// Do not cut large segments up before queueing them.
const FLAG_GSO: u32 = 1 << 2;

const ATTRIBUTE_PACKET_HEADER: u16 = 1;
const ATTRIBUTE_VERDICT: u16 = 2;
const ATTRIBUTE_TIMESTAMP: u16 = 4;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;

const RECEIVE_BUFFER_BYTES: libc::c_int = 8 * 1024 * 1024;
const BATCH: usize = 64;
const MESSAGE_BYTES: usize = 512;
const HEADER_BYTES: usize = 20;

/// A queue of the network namespace this thread was in when it was opened.
pub struct Queue {
    socket: OwnedFd,
    number: u16,
}

impl Queue {
    /// Binds queue `number`, which holds at most `max_packets`.
    pub fn open(number: u16, max_packets: u32) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain system call; the descriptor is new and ours.
        let socket = match unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_NETFILTER) } {
            -1 => return Err(io::Error::last_os_error()),
            number => unsafe { OwnedFd::from_raw_fd(number) },
        };
        let queue = Self { socket, number };
        queue.enlarge();
        queue.bind(max_packets)?;
        Ok(queue)
    }

    /// Packets only flow once the copy mode is set, so the answer to the first message is the first thing we hear.
    fn bind(&self, max_packets: u32) -> io::Result<()> {
        let mut message = Message::new(MSG_CONFIG, libc::NLM_F_ACK, self.number);
        message.attribute(CFG_CMD, &[COMMAND_BIND, 0, 0, 0]);
        message.attribute(CFG_QUEUE_MAXLEN, &max_packets.to_be_bytes());
        message.attribute(CFG_FLAGS, &FLAG_GSO.to_be_bytes());
        message.attribute(CFG_MASK, &FLAG_GSO.to_be_bytes());
        message.send(&self.socket)?;
        self.acknowledged()?;
        let mut message = Message::new(MSG_CONFIG, 0, self.number);
        message.attribute(CFG_PARAMS, &[0, 0, 0, 0, COPY_META]);
        message.send(&self.socket)
    }

    fn acknowledged(&self) -> io::Result<()> {
        let mut answer = [0u8; MESSAGE_BYTES];
        let room = answer.len();
        // SAFETY: `answer` outlives the call.
        let count = unsafe { libc::recv(self.socket.as_raw_fd(), answer.as_mut_ptr().cast(), room, 0) };
        if count < HEADER_BYTES as isize {
            return Err(io::Error::last_os_error());
        }
        match i32::from_ne_bytes(answer[16..20].try_into().expect("four bytes")) {
            0 => Ok(()),
            negative => Err(io::Error::from_raw_os_error(-negative)),
        }
    }

    /// Changes how many packets the kernel holds for us.
    pub fn set_max_packets(&self, max_packets: u32) -> io::Result<()> {
        let mut message = Message::new(MSG_CONFIG, 0, self.number);
        message.attribute(CFG_QUEUE_MAXLEN, &max_packets.to_be_bytes());
        message.send(&self.socket)
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hands newly arrived packets to `each`; `false` when there are no more for now.
    pub fn receive(&self, buffers: &mut Buffers, mut each: impl FnMut(Arrival)) -> bool {
        let count = buffers.fill(&self.socket);
        for index in 0..count {
            for_each_packet(buffers.message(index), &mut each);
        }
        count == BATCH
    }

    /// Drops one packet.
    pub fn drop_packet(&self, packet: u32) {
        self.verdict(MSG_VERDICT, DROP, packet);
    }

    /// Lets `packet` and all before it go on.
    pub fn accept_through(&self, packet: u32) {
        self.verdict(MSG_VERDICT_BATCH, ACCEPT, packet);
    }

    fn verdict(&self, kind: u16, verdict: u32, packet: u32) {
        let mut body = [0; 8];
        body[..4].copy_from_slice(&verdict.to_be_bytes());
        body[4..].copy_from_slice(&packet.to_be_bytes());
        let mut message = Message::new(kind, 0, self.number);
        message.attribute(ATTRIBUTE_VERDICT, &body);
        // It fails only when the packet is gone already, with its interface for example.
        let _ = message.send(&self.socket);
    }

    /// Room for bursts; without it the kernel drops packets whenever we are late.
    fn enlarge(&self) {
        let one: libc::c_int = 1;
        let set = |level, name, value: &libc::c_int| {
            let length = mem::size_of::<libc::c_int>() as libc::socklen_t;
            // SAFETY: `value` outlives the call.
            unsafe { libc::setsockopt(self.socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) }
        };
        // Beyond the machine's limit only with privilege over the whole machine; up to it without.
        if set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER_BYTES) < 0 {
            set(libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BUFFER_BYTES);
        }
        set(libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, &one);
    }
}

/// A netlink message under construction.
struct Message {
    bytes: [u8; 64],
    length: usize,
}

impl Message {
    fn new(kind: u16, flags: libc::c_int, queue: u16) -> Self {
        let mut message = Self { bytes: [0; 64], length: HEADER_BYTES };
        message.bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.bytes[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
        message.bytes[18..20].copy_from_slice(&queue.to_be_bytes());
        message
    }

    fn attribute(&mut self, kind: u16, body: &[u8]) {
        let start = self.length;
        let length = 4 + body.len();
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        self.bytes[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.bytes[start + 4..start + length].copy_from_slice(body);
        self.length += length.next_multiple_of(4);
    }

    fn send(&mut self, socket: &OwnedFd) -> io::Result<()> {
        self.bytes[..4].copy_from_slice(&(self.length as u32).to_ne_bytes());
        // SAFETY: `bytes` outlives the call; an unconnected netlink socket sends to the kernel.
        match unsafe { libc::send(socket.as_raw_fd(), self.bytes.as_ptr().cast(), self.length, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

/// Where received messages are put; one for all queues.
pub struct Buffers {
    bytes: Vec<[u8; MESSAGE_BYTES]>,
    lengths: [usize; BATCH],
}

impl Buffers {
    pub fn new() -> Self {
        Self { bytes: vec![[0; MESSAGE_BYTES]; BATCH], lengths: [0; BATCH] }
    }

    fn message(&self, index: usize) -> &[u8] {
        &self.bytes[index][..self.lengths[index].min(MESSAGE_BYTES)]
    }

    fn fill(&mut self, socket: &OwnedFd) -> usize {
        // SAFETY: all-zero is a valid value of both; every pointer set below outlives the call.
        let mut parts: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        for ((part, header), bytes) in parts.iter_mut().zip(&mut headers).zip(&mut self.bytes) {
            *part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: MESSAGE_BYTES };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
        }
        let (list, flags) = (headers.as_mut_ptr(), libc::MSG_DONTWAIT);
        let none = std::ptr::null_mut();
        // SAFETY: see above.
        let count = unsafe { libc::recvmmsg(socket.as_raw_fd(), list, BATCH as u32, flags, none) }.max(0) as usize;
        for (length, header) in self.lengths.iter_mut().zip(&headers[..count]) {
            *length = header.msg_len as usize;
        }
        count
    }
}

/// A packet that the kernel holds for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival {
    pub packet: u32,
    /// `CLOCK_REALTIME` when its interface took it [ns]; only packets that come in from an interface have it.
    pub at_real_ns: Option<u64>,
}

/// Calls `each` with every packet told in one datagram.
fn for_each_packet(mut datagram: &[u8], each: &mut impl FnMut(Arrival)) {
    while datagram.len() >= HEADER_BYTES {
        let length = u32::from_ne_bytes(datagram[..4].try_into().expect("four bytes")) as usize;
        if length < HEADER_BYTES || length > datagram.len() {
            return;
        }
        let kind = u16::from_ne_bytes(datagram[4..6].try_into().expect("two bytes"));
        if kind == MSG_PACKET
            && let Some(arrival) = read_arrival(&datagram[HEADER_BYTES..length])
        {
            each(arrival);
        }
        datagram = &datagram[length.next_multiple_of(4).min(datagram.len())..];
    }
}

fn read_arrival(mut attributes: &[u8]) -> Option<Arrival> {
    let (mut packet, mut at_real_ns) = (None, None);
    while attributes.len() >= 8 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]);
        match (kind, attributes.get(4..length)) {
            (ATTRIBUTE_PACKET_HEADER, Some(body)) => {
                packet = body.first_chunk().map(|number| u32::from_be_bytes(*number))
            }
            (ATTRIBUTE_TIMESTAMP, Some(body)) => at_real_ns = read_time(body),
            _ => {}
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    packet.map(|packet| Arrival { packet, at_real_ns })
}

/// Seconds and microseconds, each of eight bytes.
fn read_time(body: &[u8]) -> Option<u64> {
    let (seconds, rest) = body.split_first_chunk()?;
    let (seconds, micros) = (u64::from_be_bytes(*seconds), u64::from_be_bytes(*rest.first_chunk()?));
    seconds.checked_mul(1_000_000_000)?.checked_add(micros.checked_mul(1_000)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(datagram: &[u8]) -> Vec<u32> {
        let mut packets = Vec::new();
        for_each_packet(datagram, &mut |arrival| packets.push(arrival.packet));
        packets
    }

    fn packet(number: u32) -> Vec<u8> {
        let mut message = Message::new(MSG_PACKET, 0, 7);
        message.attribute(9, &[1, 2, 3]);
        message.attribute(ATTRIBUTE_PACKET_HEADER, &[&number.to_be_bytes()[..], &[8, 0, 4]].concat());
        let mut bytes = message.bytes[..message.length].to_vec();
        bytes[..4].copy_from_slice(&(message.length as u32).to_ne_bytes());
        bytes
    }

    #[test]
    fn reads_packet_numbers() {
        assert_eq!(told(&packet(1234)), [1234]);
        assert_eq!(told(&[packet(1), packet(2)].concat()), [1, 2]);
    }

    #[test]
    fn reads_the_time_of_arrival() {
        let mut message = Message::new(MSG_PACKET, 0, 7);
        message.attribute(ATTRIBUTE_TIMESTAMP, &[3u64.to_be_bytes(), 7u64.to_be_bytes()].concat());
        message.attribute(ATTRIBUTE_PACKET_HEADER, &[0, 0, 0, 9, 8, 0, 4]);
        let arrival = read_arrival(&message.bytes[HEADER_BYTES..message.length]);
        assert_eq!(arrival, Some(Arrival { packet: 9, at_real_ns: Some(3_000_007_000) }));
    }

    #[test]
    fn survives_any_bytes() {
        let whole = packet(5);
        for end in 0..whole.len() {
            told(&whole[..end]);
        }
        for place in 0..whole.len() {
            for value in [0, 1, 3, 127, 255] {
                let mut bent = whole.clone();
                bent[place] = value;
                told(&bent);
            }
        }
    }
}
