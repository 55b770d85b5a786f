//! CoAP as a server needs it: messages read from and written to bytes (RFC 7252), and duplicates told apart.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use smoltcp::wire::IpEndpoint;

pub const GET: u8 = 0x01;
pub const POST: u8 = 0x02;
pub const PUT: u8 = 0x03;
pub const CHANGED: u8 = 0x44;
pub const CONTENT: u8 = 0x45;
pub const BAD_REQUEST: u8 = 0x80;
pub const BAD_OPTION: u8 = 0x82;
pub const NOT_FOUND: u8 = 0x84;
pub const METHOD_NOT_ALLOWED: u8 = 0x85;
pub const NOT_IMPLEMENTED: u8 = 0xa1;
pub const SERVICE_UNAVAILABLE: u8 = 0xa3;
pub const JSON: u8 = 50;
pub const LINK_FORMAT: u8 = 40;

const VERSION: u8 = 1;
const URI_HOST: u32 = 3;
const URI_PORT: u32 = 7;
const URI_PATH: u32 = 11;
const CONTENT_FORMAT: u32 = 12;
const URI_QUERY: u32 = 15;
const ACCEPT: u32 = 17;
const LONGEST_PATH: usize = 8;
/// What surely fits one packet (RFC 7252, 4.6). Answers are remembered, so this bounds memory too.
const LONGEST_PAYLOAD_BYTES: usize = 1024;
const TOO_LONG: &[u8] = b"too long for one message; ask over HTTP";
/// Exchanges are remembered so long that a client which repeats itself gets the same answer (RFC 7252, 4.8.2).
const EXCHANGE_LIFETIME_MS: u64 = 247_000;
const MOST_EXCHANGES: usize = 128;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Confirmable = 0,
    NonConfirmable = 1,
    Acknowledgement = 2,
    Reset = 3,
}

/// A message as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: Kind,
    pub code: u8,
    pub id: u16,
    pub token: &'a [u8],
    pub path: Vec<&'a str>,
    /// Whether it has a critical option that we do not know.
    pub bad_option: bool,
    pub payload: &'a [u8],
}

/// Why bytes are no message.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Say nothing.
    Ignore,
    /// Answer a confirmable one with a reset.
    Reset(u16),
}

pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let [first, code, high, low, rest @ ..] = bytes else { return Err(Malformed::Ignore) };
    if first >> 6 != VERSION {
        return Err(Malformed::Ignore);
    }
    let id = u16::from_be_bytes([*high, *low]);
    let kind = [Kind::Confirmable, Kind::NonConfirmable, Kind::Acknowledgement, Kind::Reset][usize::from(first >> 4 & 3)];
    let wrong = || if kind == Kind::Confirmable { Malformed::Reset(id) } else { Malformed::Ignore };
    let token_bytes = usize::from(first & 15);
    // An empty confirmable message is a ping; its answer is a reset.
    if token_bytes > 8 || rest.len() < token_bytes || *code == 0 {
        return Err(wrong());
    }
    let (token, options) = rest.split_at(token_bytes);
    let mut message = Message { kind, code: *code, id, token, path: Vec::new(), bad_option: false, payload: &[] };
    read_options(options, &mut message).ok_or_else(wrong)?;
    Ok(message)
}

fn read_options<'a>(mut bytes: &'a [u8], message: &mut Message<'a>) -> Option<()> {
    let mut number = 0_u32;
    while let [first, rest @ ..] = bytes {
        if *first == 0xff {
            // A marker without a payload is an error.
            message.payload = Some(rest).filter(|payload| !payload.is_empty())?;
            return Some(());
        }
        let (delta, rest) = extended(first >> 4, rest)?;
        let (length, rest) = extended(first & 15, rest)?;
        let value = rest.get(..length as usize)?;
        bytes = &rest[length as usize..];
        number = number.checked_add(delta)?;
        take_option(number, value, message)?;
    }
    Some(())
}

fn extended(nibble: u8, bytes: &[u8]) -> Option<(u32, &[u8])> {
    match nibble {
        13 => bytes.split_first().map(|(byte, rest)| (u32::from(*byte) + 13, rest)),
        14 => bytes.get(..2).map(|two| (u32::from(u16::from_be_bytes([two[0], two[1]])) + 269, &bytes[2..])),
        15 => None,
        small => Some((u32::from(small), bytes)),
    }
}

fn take_option<'a>(number: u32, value: &'a [u8], message: &mut Message<'a>) -> Option<()> {
    match number {
        URI_PATH if message.path.len() < LONGEST_PATH => message.path.push(core::str::from_utf8(value).ok()?),
        URI_HOST | URI_PORT | URI_QUERY | CONTENT_FORMAT | ACCEPT => {}
        // Odd numbers are critical (RFC 7252, 5.4.6).
        _ if number % 2 == 1 => message.bad_option = true,
        _ => {}
    }
    Some(())
}

/// What a role says to a request.
#[derive(Debug)]
pub struct Reply {
    pub code: u8,
    pub format: Option<u8>,
    pub payload: Vec<u8>,
}

impl Reply {
    pub fn code(code: u8) -> Self {
        Self { code, format: None, payload: Vec::new() }
    }
}

/// The bytes of a reply: piggybacked on the acknowledgement, or non-confirmable as the request was.
pub fn reply(request: &Message<'_>, reply: &Reply, own_id: u16) -> Vec<u8> {
    let (kind, id) = match request.kind {
        Kind::Confirmable => (Kind::Acknowledgement, request.id),
        _ => (Kind::NonConfirmable, own_id),
    };
    let mut bytes = alloc::vec![VERSION << 6 | (kind as u8) << 4 | request.token.len() as u8, reply.code];
    bytes.extend(id.to_be_bytes());
    bytes.extend(request.token);
    if reply.payload.len() > LONGEST_PAYLOAD_BYTES {
        bytes[1] = NOT_IMPLEMENTED;
        bytes.push(0xff);
        bytes.extend(TOO_LONG);
        return bytes;
    }
    if let Some(format) = reply.format {
        bytes.extend([(CONTENT_FORMAT as u8) << 4 | 1, format]);
    }
    if !reply.payload.is_empty() {
        bytes.push(0xff);
        bytes.extend(&reply.payload);
    }
    bytes
}

pub fn reset(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    alloc::vec![VERSION << 6 | (Kind::Reset as u8) << 4, 0, high, low]
}

/// Remembers answers by client and message id, so that a repeated request is answered but not done twice.
#[derive(Default)]
pub struct Exchanges {
    kept: VecDeque<(IpEndpoint, u16, u64, Vec<u8>)>,
}

impl Exchanges {
    pub fn find(&self, from: IpEndpoint, id: u16, now_ms: u64) -> Option<&[u8]> {
        let is_it =
            |kept: &&(IpEndpoint, u16, u64, Vec<u8>)| kept.0 == from && kept.1 == id && now_ms - kept.2 < EXCHANGE_LIFETIME_MS;
        self.kept.iter().find(is_it).map(|kept| kept.3.as_slice())
    }

    pub fn keep(&mut self, from: IpEndpoint, id: u16, now_ms: u64, answer: &[u8]) {
        if self.kept.len() == MOST_EXCHANGES {
            self.kept.pop_front();
        }
        self.kept.push_back((from, id, now_ms, answer.to_vec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::wire::IpAddress;

    /// CON POST /m/t, token 0xaa, payload 21.5.
    const REQUEST: &[u8] = b"\x41\x02\x12\x34\xaa\xb1m\x01t\xff21.5";

    #[test]
    fn a_request_is_read() {
        let message = parse(REQUEST).unwrap();
        assert_eq!((message.kind, message.code, message.id), (Kind::Confirmable, POST, 0x1234));
        assert_eq!((message.token, message.payload), (&b"\xaa"[..], &b"21.5"[..]));
        assert_eq!(message.path, ["m", "t"]);
    }

    #[test]
    fn a_reply_is_piggybacked() {
        let bytes = reply(&parse(REQUEST).unwrap(), &Reply::code(CHANGED), 7);
        assert_eq!(bytes, b"\x61\x44\x12\x34\xaa");
        let content = Reply { code: CONTENT, format: Some(JSON), payload: b"{}".to_vec() };
        assert_eq!(reply(&parse(REQUEST).unwrap(), &content, 7), b"\x61\x45\x12\x34\xaa\xc1\x32\xff{}");
    }

    #[test]
    fn what_does_not_fit_one_message_is_refused() {
        let content = |bytes| Reply { code: CONTENT, format: Some(JSON), payload: alloc::vec![b'x'; bytes] };
        let answer = |bytes| reply(&parse(REQUEST).unwrap(), &content(bytes), 7);
        assert_eq!(answer(LONGEST_PAYLOAD_BYTES)[1], CONTENT);
        assert_eq!(answer(LONGEST_PAYLOAD_BYTES + 1)[..6], *b"\x61\xa1\x12\x34\xaa\xff");
    }

    #[test]
    fn what_is_malformed_is_reset_or_ignored() {
        assert_eq!(parse(b"\x40\x00\x00\x09"), Err(Malformed::Reset(9)), "ping");
        assert_eq!(parse(b"\x49\x01\x00\x09"), Err(Malformed::Reset(9)), "token too long");
        assert_eq!(parse(b"\x40\x01\x00\x09\xff"), Err(Malformed::Reset(9)), "marker without payload");
        assert_eq!(parse(b"\x50\x01\x00\x09\xff"), Err(Malformed::Ignore), "not confirmable");
        assert_eq!(parse(b"\x80\x01\x00\x09"), Err(Malformed::Ignore), "other version");
        assert_eq!(parse(b"\x40"), Err(Malformed::Ignore));
        assert!(parse(b"\x40\x01\x00\x09\x90").unwrap().bad_option, "option 9 is critical and not ours");
    }

    #[test]
    fn repeated_requests_get_the_same_answer() {
        let endpoint = |last| IpEndpoint::new(IpAddress::v4(10, 0, 0, last), 1);
        let (from, other) = (endpoint(1), endpoint(2));
        let mut exchanges = Exchanges::default();
        exchanges.keep(from, 5, 1_000, b"answer");
        assert_eq!(exchanges.find(from, 5, 2_000), Some(&b"answer"[..]));
        assert_eq!(exchanges.find(other, 5, 2_000), None);
        assert_eq!(exchanges.find(from, 5, 1_000 + EXCHANGE_LIFETIME_MS), None);
        for id in 0..300 {
            exchanges.keep(from, id, 2_000, b"");
        }
        assert_eq!(exchanges.kept.len(), MOST_EXCHANGES);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 11_u32;
        for round in 0..20_000 {
            let mut bytes = REQUEST.to_vec();
            for _ in 0..1 + round % 4 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let place = (seed >> 8) as usize % bytes.len();
                bytes[place] = seed as u8;
                bytes.truncate(1 + (seed >> 20) as usize % bytes.len().max(1));
            }
            let _ = parse(&bytes);
        }
    }
}
