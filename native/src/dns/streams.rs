//! Clients over TCP: each message has its length before it (RFC 1035, 4.2.2; RFC 7766).

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

const MOST_STREAMS: usize = 64;
const IDLE_NS: u64 = 10_000_000_000;
const READ_BYTES: usize = 4096;
/// Unsent answers of one client; one that asks on without reading is cut off.
const MOST_UNSENT_BYTES: usize = 256 * 1024;

pub struct Stream {
    pub socket: TcpStream,
    pub site: usize,
    pub address: SocketAddr,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    touched_ns: u64,
}

/// Open connections by token.
#[derive(Default)]
pub struct Streams(HashMap<u64, Stream>);

impl Streams {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one more of this site may come.
    pub fn have_room(&self, site: usize) -> bool {
        self.0.values().filter(|stream| stream.site == site).count() < MOST_STREAMS
    }

    pub fn add(&mut self, token: u64, socket: TcpStream, address: SocketAddr, site: usize, now_ns: u64) -> &Stream {
        let stream = Stream { socket, site, address, inbox: vec![], outbox: vec![], touched_ns: now_ns };
        self.0.entry(token).or_insert(stream)
    }

    /// The site and address of a client, and the messages that have come whole; `None` when it has gone.
    pub fn read(&mut self, token: u64, now_ns: u64) -> Option<(usize, SocketAddr, Vec<Vec<u8>>)> {
        let stream = self.0.get_mut(&token)?;
        let mut bytes = [0; READ_BYTES];
        match stream.socket.read(&mut bytes) {
            Ok(count) if count > 0 => stream.inbox.extend(&bytes[..count]),
            Err(why) if why.kind() == ErrorKind::WouldBlock => {}
            _ => {
                self.0.remove(&token);
                return None;
            }
        }
        stream.touched_ns = now_ns;
        Some((stream.site, stream.address, take_whole(&mut stream.inbox)))
    }

    /// Sends an answer; what does not fit now goes with the next.
    pub fn send(&mut self, token: u64, message: &[u8]) {
        let Some(stream) = self.0.get_mut(&token) else { return };
        stream.outbox.extend((message.len() as u16).to_be_bytes());
        stream.outbox.extend(message);
        self.flush(token);
    }

    pub fn flush(&mut self, token: u64) {
        let Some(stream) = self.0.get_mut(&token) else { return };
        let is_lost = match stream.socket.write(&stream.outbox) {
            Ok(count) => {
                stream.outbox.drain(..count);
                false
            }
            Err(why) => why.kind() != ErrorKind::WouldBlock,
        };
        if is_lost || stream.outbox.len() > MOST_UNSENT_BYTES {
            self.0.remove(&token);
        }
    }

    /// Sends on what waits, and closes those that have been silent for long.
    pub fn tidy(&mut self, now_ns: u64) {
        self.0.retain(|_, stream| now_ns.saturating_sub(stream.touched_ns) < IDLE_NS);
        let waiting: Vec<u64> =
            self.0.iter().filter(|(_, one)| !one.outbox.is_empty()).map(|(token, _)| *token).collect();
        waiting.into_iter().for_each(|token| self.flush(token));
    }
}

/// Takes the messages off that are whole.
fn take_whole(inbox: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut messages = vec![];
    loop {
        let [high, low, rest @ ..] = inbox.as_slice() else { return messages };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(message) = rest.get(..length) else { return messages };
        messages.push(message.to_vec());
        inbox.drain(..2 + length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_wherever_they_are_cut() {
        let sent: Vec<u8> = [&[0, 3][..], b"one", &[0, 0, 0, 3], b"two", &[0, 9], b"part"].concat();
        for cut in 0..sent.len() {
            let mut inbox = sent[..cut].to_vec();
            let mut messages = take_whole(&mut inbox);
            inbox.extend(&sent[cut..]);
            messages.extend(take_whole(&mut inbox));
            assert_eq!(messages, [b"one".to_vec(), vec![], b"two".to_vec()]);
        }
    }
}
