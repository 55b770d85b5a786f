//! HTTP/1.1 as a client needs it: an origin's answer read from bytes (RFC 9112). It trusts nothing it reads.

use crate::app::http::{count, header};
use alloc::string::String;

pub const LONGEST_HEAD_BYTES: usize = 4096;
/// The line with a chunk's size and extensions, and all trailers together.
const LONGEST_LINE_BYTES: usize = 512;

/// How the end of a body is known (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// An answer's head.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    pub status: u16,
    pub headers: &'a str,
    pub framing: Framing,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// More bytes are needed.
    Partial,
    /// A head, with its length.
    Complete(Head<'a>, usize),
    /// An interim answer (1xx) of this length.
    Interim(usize),
    Malformed,
}

/// Bytes that are no answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// Reads the head of an answer to GET from the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() >= LONGEST_HEAD_BYTES { Parsed::Malformed } else { Parsed::Partial };
    };
    match core::str::from_utf8(&bytes[..end]).ok().and_then(head) {
        _ if end + 4 > LONGEST_HEAD_BYTES => Parsed::Malformed,
        Some(head) if (102..200).contains(&head.status) || head.status == 100 => Parsed::Interim(end + 4),
        Some(head) if head.status >= 200 => Parsed::Complete(head, end + 4),
        _ => Parsed::Malformed,
    }
}

fn head(text: &str) -> Option<Head<'_>> {
    let (line, headers) = text.split_once("\r\n").unwrap_or((text, ""));
    let rest = line.strip_prefix("HTTP/1.")?;
    let (minor, rest) = rest.split_at_checked(1)?;
    let digits = rest.strip_prefix(' ')?.get(..3)?;
    let is_status = digits.bytes().all(|byte| byte.is_ascii_digit()) && matches!(rest.as_bytes().get(4), None | Some(b' '));
    if !matches!(minor, "0" | "1") || !is_status || !headers.split("\r\n").all(is_header) {
        return None;
    }
    let status = digits.parse().ok().filter(|status| (100..600).contains(status))?;
    Some(Head { status, headers, framing: framing(status, headers)? })
}

/// One line that can be passed on as it is: no folding, no space before the colon, nothing that could end a line.
fn is_header(line: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    line.is_empty()
        || line
            .split_once(':')
            .is_some_and(|(name, value)| !name.is_empty() && name.bytes().all(is_token) && value.bytes().all(is_text))
}

fn framing(status: u16, headers: &str) -> Option<Framing> {
    let coding = header(headers, "transfer-encoding");
    match (coding, header(headers, "content-length")) {
        _ if matches!(status, 100..200 | 204 | 304) => Some(Framing::Length(0)),
        (Some(_), Some(_)) => None,
        (Some(coding), None) => {
            (coding.eq_ignore_ascii_case("chunked") && count(headers, "transfer-encoding") == 1).then_some(Framing::Chunked)
        }
        (None, Some(length)) => {
            let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| is_number && count(headers, "content-length") == 1)?;
            Some(Framing::Length(length))
        }
        (None, None) => Some(Framing::UntilClose),
    }
}

/// The lines that are for everybody behind us, too: not those of this connection, and not those that we write ourselves.
pub fn end_to_end(headers: &str) -> String {
    const OURS: [&str; 12] = [
        "accept-ranges",
        "age",
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-cache",
    ];
    kept(headers, &|name| {
        !OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
            && !values(headers, "connection").any(|named| name.eq_ignore_ascii_case(named))
    })
}

/// The lines whose names are to be kept, each with its end.
pub fn kept(headers: &str, keep: &dyn Fn(&str) -> bool) -> String {
    let mut lines = String::with_capacity(headers.len() + 2);
    for line in headers.split("\r\n").filter(|line| line.split_once(':').is_some_and(|(name, _)| keep(name))) {
        lines.push_str(line);
        lines.push_str("\r\n");
    }
    lines
}

/// Every element of a list that may stand in several lines.
pub fn values<'a>(headers: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let lines = headers.split("\r\n").filter_map(|line| line.split_once(':'));
    let lines = lines.filter(move |(key, _)| key.eq_ignore_ascii_case(name));
    lines.flat_map(|(_, value)| value.split(',').map(str::trim))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of body to come, then the end.
    Body(usize),
    UntilClose,
    /// In the line before a chunk: size so far, digits and bytes read of it, and whether it is still in the digits.
    Size {
        size: usize,
        digits: usize,
        read: usize,
        in_digits: bool,
    },
    Chunk(usize),
    /// Behind a chunk: so many bytes of CR LF have been read.
    ChunkEnd(usize),
    /// Trailers: bytes read of all, and of the line.
    Trailer(usize, usize),
    Done,
}

const NEXT_CHUNK: State = State::Size { size: 0, digits: 0, read: 0, in_digits: true };

/// Takes the body out of its framing.
#[derive(Debug)]
pub struct Reader(State);

impl Reader {
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Body(length),
            Framing::UntilClose => State::UntilClose,
            Framing::Chunked => NEXT_CHUNK,
        })
    }

    pub fn is_done(&self) -> bool {
        self.0 == State::Done
    }

    /// Whether the body is whole when the origin has no more to say.
    pub fn may_end(&self) -> bool {
        matches!(self.0, State::Done | State::UntilClose)
    }

    /// Reads on, handing each piece of body to `sink`, which says how much it took; stops when that is less than all.
    /// Gives how many bytes were used.
    pub fn take(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            let rest = &bytes[at..];
            let left = match self.0 {
                State::Body(left) | State::Chunk(left) => left,
                State::UntilClose => usize::MAX,
                _ => {
                    self.0 = self.0.after(rest[0])?;
                    at += 1;
                    continue;
                }
            };
            let piece = &rest[..left.min(rest.len())];
            let taken = sink(piece).min(piece.len());
            at += taken;
            self.0 = match self.0 {
                State::Body(left) if left == taken => State::Done,
                State::Body(left) => State::Body(left - taken),
                State::Chunk(left) if left == taken => State::ChunkEnd(0),
                State::Chunk(left) => State::Chunk(left - taken),
                other => other,
            };
            if taken < piece.len() {
                break;
            }
        }
        Ok(at)
    }
}

impl State {
    /// The state after one byte of what stands around chunks.
    fn after(self, byte: u8) -> Result<Self, Malformed> {
        match (self, byte) {
            (Self::Size { digits: 1.., size: 0, .. }, b'\n') => Ok(Self::Trailer(0, 0)),
            (Self::Size { digits: 1.., size, .. }, b'\n') => Ok(Self::Chunk(size)),
            (Self::Size { read: LONGEST_LINE_BYTES.., .. }, _) => Err(Malformed),
            (Self::Size { size, digits, read, in_digits: true }, _) if byte.is_ascii_hexdigit() => {
                let digit = (byte as char).to_digit(16).ok_or(Malformed)? as usize;
                let size = size.checked_mul(16).and_then(|size| size.checked_add(digit)).ok_or(Malformed)?;
                Ok(Self::Size { size, digits: digits + 1, read: read + 1, in_digits: true })
            }
            (Self::Size { size, digits: digits @ 1.., read, in_digits }, _) => {
                let may_follow = !in_digits || matches!(byte, b'\r' | b';' | b' ' | b'\t');
                may_follow.then_some(Self::Size { size, digits, read: read + 1, in_digits: false }).ok_or(Malformed)
            }
            (Self::ChunkEnd(0), b'\r') => Ok(Self::ChunkEnd(1)),
            (Self::ChunkEnd(1), b'\n') => Ok(NEXT_CHUNK),
            (Self::Trailer(LONGEST_LINE_BYTES.., _), _) => Err(Malformed),
            (Self::Trailer(_, 0), b'\n') => Ok(Self::Done),
            (Self::Trailer(all, _), b'\n') => Ok(Self::Trailer(all + 1, 0)),
            (Self::Trailer(all, line), b'\r') => Ok(Self::Trailer(all + 1, line)),
            (Self::Trailer(all, line), _) => Ok(Self::Trailer(all + 1, line + 1)),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::vec::Vec;

    fn framing_of(headers: &str) -> Option<Framing> {
        match parse(format!("HTTP/1.1 200 OK\r\n{headers}\r\n").as_bytes()) {
            Parsed::Complete(head, _) => Some(head.framing),
            Parsed::Malformed => None,
            other => panic!("{other:?}"),
        }
    }

    /// The body, however the bytes are cut.
    fn body(framing: Framing, bytes: &[u8], step: usize) -> Result<(Vec<u8>, bool), Malformed> {
        let (mut reader, mut whole) = (Reader::new(framing), Vec::new());
        for piece in bytes.chunks(step) {
            let mut at = 0;
            while at < piece.len() && !reader.is_done() {
                // A sink that takes two bytes at a time.
                at += reader.take(&piece[at..], &mut |data| {
                    whole.extend_from_slice(&data[..data.len().min(2)]);
                    data.len().min(2)
                })?;
            }
        }
        Ok((whole, reader.is_done()))
    }

    #[test]
    fn heads_are_read() {
        let Parsed::Complete(head, used) = parse(b"HTTP/1.0 404 Not Found\r\nETag: \"a\"\r\n\r\nrest") else { panic!() };
        assert_eq!((head.status, used, head.framing), (404, 37, Framing::UntilClose));
        assert_eq!(header(head.headers, "etag"), Some("\"a\""));
        assert_eq!(
            parse(b"HTTP/1.1 200\r\n\r\n"),
            Parsed::Complete(Head { status: 200, headers: "", framing: Framing::UntilClose }, 16)
        );
        assert_eq!(parse(b"HTTP/1.1 100 Continue\r\n\r\n"), Parsed::Interim(25));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nA: b\r\n"), Parsed::Partial);
    }

    #[test]
    fn lengths_are_believed_only_when_they_agree() {
        assert_eq!(framing_of("Content-Length: 5\r\n"), Some(Framing::Length(5)));
        assert_eq!(framing_of("Transfer-Encoding: Chunked\r\n"), Some(Framing::Chunked));
        for bad in [
            "Content-Length: -1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 1x\r\n",
            "Content-Length: 99999999999999999999999\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert_eq!(framing_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            &b"HTTP/2.0 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1 099 OK\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\nSet-Cookie: c\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: \xff\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
        ] {
            assert_eq!(parse(bad), Parsed::Malformed, "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(parse(&[b'a'; LONGEST_HEAD_BYTES]), Parsed::Malformed);
    }

    #[test]
    fn bodies_come_out_of_their_framing() {
        let chunked = b"4;name=value\r\nabcd\r\n00a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nmore";
        for step in 1..chunked.len() {
            assert_eq!(body(Framing::Chunked, chunked, step), Ok((b"abcd0123456789".to_vec(), true)), "{step}");
            assert_eq!(body(Framing::Length(3), b"abcmore", step), Ok((b"abc".to_vec(), true)));
            assert_eq!(body(Framing::UntilClose, b"abc", step), Ok((b"abc".to_vec(), false)));
        }
        assert!(!Reader::new(Framing::Length(1)).may_end());
        assert!(Reader::new(Framing::UntilClose).may_end());
        assert!(Reader::new(Framing::Length(0)).is_done());
    }

    #[test]
    fn bad_chunks_are_refused() {
        let endless_line = [b"1;".to_vec(), [b'a'; 600].to_vec()].concat();
        let endless_trailers = [b"0\r\n".to_vec(), b"A: b\r\n".repeat(200)].concat();
        let too_big = b"ffffffffffffffffffff\r\n".to_vec();
        for bad in [&b"x\r\n"[..], b"\r\n", b"4\r\nabcdef", b"-1\r\n", b"1z\r\n", &endless_line, &endless_trailers, &too_big] {
            assert_eq!(body(Framing::Chunked, bad, 7), Err(Malformed), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn lines_of_the_connection_stay_behind() {
        let headers = "ETag: x\r\nConnection: close, X-Own\r\nX-Own: 1\r\nTransfer-Encoding: chunked\r\nAge: 5\r\nDate: d";
        assert_eq!(end_to_end(headers), "ETag: x\r\nDate: d\r\n");
        assert_eq!(values("A: b, c\r\nD: e\r\na: f", "a").collect::<Vec<_>>(), ["b", "c", "f"]);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let words: [&[u8]; 18] = [
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 ",
            b"304",
            b"\r\n",
            b"\r\n\r\n",
            b"Content-Length: ",
            b"Transfer-Encoding: chunked",
            b"0",
            b"5",
            b"f",
            b":",
            b";",
            b"\xff",
            b"abcde",
            b"\n",
            b"\r",
            b"ffffffffffffffff",
            b"Connection: a,",
        ];
        let mut seed = 5_u32;
        for length in 0..20_000 {
            let mut bytes = b"HTTP/1.1 200 OK\r\n"[..if length % 2 == 0 { 17 } else { 0 }].to_vec();
            for _ in 0..length % 24 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                bytes.extend(words[(seed >> 16) as usize % words.len()]);
            }
            if let Parsed::Complete(head, used) = parse(&bytes) {
                let _ = end_to_end(head.headers);
                let _ = body(head.framing, &bytes[used..], 1 + length % 5);
            }
            let _ = body(Framing::Chunked, &bytes, 3);
        }
    }
}
