//! HTTP/1.1 as a server needs it: requests read from bytes, answers written to bytes (RFC 9110, RFC 9112).

use crate::app::cache::Contents;
use crate::app::later::Takes;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

pub const LONGEST_HEAD_BYTES: usize = 4096;
pub const LONGEST_BODY_BYTES: usize = 64 * 1024;

/// A request's head.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Path without query, percent-encoding left as it came.
    pub path: &'a str,
    /// Path with query.
    pub target: &'a str,
    /// Header lines, without the last line's end.
    pub head: &'a str,
    pub keep_alive: bool,
    pub body_bytes: usize,
}

impl<'a> Request<'a> {
    /// The value of a header, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        header(self.head, name)
    }
}

/// What the bytes so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// More bytes are needed.
    Partial,
    /// A request, with the length of its head.
    Complete(Request<'a>, usize),
    /// Not HTTP we speak; answer with this status and close.
    Bad(Status),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    PartialContent,
    NotModified,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    ContentTooLarge,
    RangeNotSatisfiable,
    HeadTooLarge,
    NotImplemented,
    BadGateway,
    ServiceUnavailable,
    GatewayTimeout,
    VersionNotSupported,
    /// Whatever an origin said.
    Passed(u16),
}

impl Status {
    fn said(self) -> (u16, &'static str) {
        match self {
            Self::Ok => (200, "OK"),
            Self::PartialContent => (206, "Partial Content"),
            Self::NotModified => (304, "Not Modified"),
            Self::BadRequest => (400, "Bad Request"),
            Self::NotFound => (404, "Not Found"),
            Self::MethodNotAllowed => (405, "Method Not Allowed"),
            Self::RequestTimeout => (408, "Request Timeout"),
            Self::ContentTooLarge => (413, "Content Too Large"),
            Self::RangeNotSatisfiable => (416, "Range Not Satisfiable"),
            Self::HeadTooLarge => (431, "Request Header Fields Too Large"),
            Self::NotImplemented => (501, "Not Implemented"),
            Self::BadGateway => (502, "Bad Gateway"),
            Self::ServiceUnavailable => (503, "Service Unavailable"),
            Self::GatewayTimeout => (504, "Gateway Timeout"),
            Self::VersionNotSupported => (505, "HTTP Version Not Supported"),
            Self::Passed(code) => (code, ""),
        }
    }
}

/// A body that is there already, was made for this answer, or comes bit by bit.
#[derive(Debug)]
pub enum Body {
    Static(&'static [u8]),
    Made(Vec<u8>),
    /// From one byte up to another of something stored.
    Stored(Rc<Contents>, usize, usize),
    Piped(Takes),
}

impl Body {
    /// `None` when it is not known before the end.
    pub fn length(&self) -> Option<usize> {
        match self {
            Self::Static(bytes) => Some(bytes.len()),
            Self::Made(bytes) => Some(bytes.len()),
            Self::Stored(_, from, to) => Some(to - from),
            Self::Piped(takes) => takes.length(),
        }
    }

    /// What lies in one piece from `at` on; nothing at the end, and of what is piped.
    pub fn piece(&self, at: usize) -> &[u8] {
        match self {
            Self::Static(bytes) => &bytes[at..],
            Self::Made(bytes) => &bytes[at..],
            Self::Stored(contents, from, to) => contents.piece(from + at, *to),
            Self::Piped(_) => &[],
        }
    }
}

/// An answer; `headers` are whole lines.
#[derive(Debug)]
pub struct Response {
    pub status: Status,
    pub headers: String,
    pub body: Body,
}

impl Response {
    pub fn new(status: Status, content_type: &str, body: Body) -> Self {
        Self { status, headers: format!("Content-Type: {content_type}\r\n"), body }
    }

    /// A short answer in words.
    pub fn plain(status: Status) -> Self {
        Self::told(status, "")
    }

    /// A short answer in words, with a reason.
    pub fn told(status: Status, reason: &str) -> Self {
        let ((code, words), colon) = (status.said(), if reason.is_empty() { "" } else { ": " });
        let text = format!("{code} {words}{colon}{reason}\n");
        Self::new(status, "text/plain; charset=utf-8", Body::Made(text.into_bytes()))
    }

    pub fn json(text: String) -> Self {
        Self::new(Status::Ok, "application/json", Body::Made(text.into_bytes()))
    }

    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Status line and headers; the length stands there also where the body is left out (HEAD).
    pub fn head(&self, keep_alive: bool) -> Vec<u8> {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let (code, words) = self.status.said();
        let length = match self.body.length() {
            Some(length) if !matches!(code, 204 | 304) => format!("Content-Length: {length}\r\n"),
            _ => String::new(),
        };
        let mut head = String::with_capacity(self.headers.len() + 128);
        // Writing to a string does not fail.
        let _ = write!(head, "HTTP/1.1 {code} {words}\r\n{}{length}Connection: {connection}\r\n\r\n", self.headers);
        head.into_bytes()
    }
}

/// Reads the head of a request from the start of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        let too_long = bytes.len() > LONGEST_HEAD_BYTES;
        return if too_long { Parsed::Bad(Status::HeadTooLarge) } else { Parsed::Partial };
    };
    if end > LONGEST_HEAD_BYTES {
        return Parsed::Bad(Status::HeadTooLarge);
    }
    let head = core::str::from_utf8(&bytes[..end]).ok();
    match head.ok_or(Status::BadRequest).and_then(request) {
        Ok(request) => Parsed::Complete(request, end + 4),
        Err(status) => Parsed::Bad(status),
    }
}

fn request(head: &str) -> Result<Request<'_>, Status> {
    let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(Status::BadRequest);
    };
    let is_token = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let target = origin_form(target).ok_or(Status::BadRequest)?;
    if !is_token || headers.split("\r\n").any(|line| !line.is_empty() && !line.contains(':')) {
        return Err(Status::BadRequest);
    }
    let keep_alive = match version {
        "HTTP/1.1" if count(headers, "host") != 1 => return Err(Status::BadRequest),
        "HTTP/1.1" => !has_word(headers, "connection", "close"),
        "HTTP/1.0" => has_word(headers, "connection", "keep-alive"),
        text if text.starts_with("HTTP/") => return Err(Status::VersionNotSupported),
        _ => return Err(Status::BadRequest),
    };
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    Ok(Request { method, path, target, head: headers, keep_alive, body_bytes: body_bytes(headers)? })
}

/// Path and query of a target, which proxies are sent with scheme and authority (RFC 9112, 3.2.2).
fn origin_form(target: &str) -> Option<&str> {
    if target.starts_with('/') {
        return Some(target);
    }
    let rest = target.strip_prefix("http://")?;
    Some(rest.find('/').map_or("/", |slash| &rest[slash..]))
}

fn body_bytes(headers: &str) -> Result<usize, Status> {
    if header(headers, "transfer-encoding").is_some() {
        return Err(Status::NotImplemented);
    }
    let Some(text) = header(headers, "content-length") else { return Ok(0) };
    if count(headers, "content-length") > 1 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Status::BadRequest);
    }
    match text.parse() {
        Ok(length) if length <= LONGEST_BODY_BYTES => Ok(length),
        Ok(_) => Err(Status::ContentTooLarge),
        Err(_) => Err(Status::BadRequest),
    }
}

pub fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    headers.split("\r\n").find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// How many lines a header has.
pub fn count(headers: &str, name: &str) -> usize {
    headers.split("\r\n").filter(|line| line.split_once(':').is_some_and(|(key, _)| key.eq_ignore_ascii_case(name))).count()
}

fn has_word(headers: &str, name: &str, word: &str) -> bool {
    header(headers, name).is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
}

/// One byte range of a body of `length` bytes (RFC 9110, 14.1.2).
#[derive(Debug, PartialEq, Eq)]
pub enum Range {
    /// No range, or one of a form we may ignore: send the whole.
    Whole,
    /// First byte and the byte behind the last.
    Part(usize, usize),
    /// Nothing of it is there.
    Unsatisfiable,
}

pub fn range(value: Option<&str>, length: usize) -> Range {
    let Some((first, last)) = value.and_then(|text| text.strip_prefix("bytes=")).and_then(|text| text.split_once('-')) else {
        return Range::Whole;
    };
    match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
        (Ok(from), Ok(to)) if from <= to && from < length => Range::Part(from, to.saturating_add(1).min(length)),
        (Ok(from), Ok(to)) if from <= to => Range::Unsatisfiable,
        (Ok(from), Err(_)) if last.trim().is_empty() && from < length => Range::Part(from, length),
        (Ok(_), Err(_)) if last.trim().is_empty() => Range::Unsatisfiable,
        (Err(_), Ok(count)) if first.trim().is_empty() && count.min(length) == 0 => Range::Unsatisfiable,
        (Err(_), Ok(count)) if first.trim().is_empty() => Range::Part(length.saturating_sub(count), length),
        _ => Range::Whole,
    }
}

/// Decodes `%XX` of a path; `None` when it is broken or leaves ASCII-safe UTF-8.
pub fn decoded_path(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let (high, low) = (rest.next()? as char, rest.next()? as char);
            bytes.push((high.to_digit(16)? << 4 | low.to_digit(16)?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> Request<'_> {
        match parse(text.as_bytes()) {
            Parsed::Complete(request, _) => request,
            other => panic!("{other:?}"),
        }
    }

    fn bad(text: &str) -> Status {
        match parse(text.as_bytes()) {
            Parsed::Bad(status) => status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_read() {
        let request = complete("GET /a/b?x=1 HTTP/1.1\r\nHost: h\r\nRange:  bytes=0-1 \r\n\r\n");
        assert_eq!((request.method, request.path), ("GET", "/a/b"));
        assert_eq!(request.header("RANGE"), Some("bytes=0-1"));
        assert_eq!(complete("GET http://h:80/a?b HTTP/1.1\r\nHost: h\r\n\r\n").path, "/a");
        assert_eq!(complete("GET http://h HTTP/1.1\r\nHost: h\r\n\r\n").path, "/");
        assert!(request.keep_alive);
    }

    #[test]
    fn the_connection_is_kept_as_asked() {
        assert!(!complete("GET / HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n").keep_alive);
        assert!(!complete("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(complete("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").keep_alive);
    }

    #[test]
    fn what_is_not_ours_has_a_status() {
        assert_eq!(bad("GET / HTTP/1.1\r\n\r\n"), Status::BadRequest, "no host");
        assert_eq!(bad("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Status::BadRequest, "two hosts");
        assert_eq!(bad("GET /\r\n\r\n"), Status::BadRequest);
        assert_eq!(bad("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\n"), Status::BadRequest);
        assert_eq!(bad("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"), Status::BadRequest);
        assert_eq!(bad("GET x HTTP/1.1\r\nHost: h\r\n\r\n"), Status::BadRequest);
        assert_eq!(bad("GET / HTTP/2.0\r\n\r\n"), Status::VersionNotSupported);
        assert_eq!(bad("GET / HTTP/1.1\r\nHost: h\r\nnonsense\r\n\r\n"), Status::BadRequest);
        assert_eq!(bad("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n"), Status::BadRequest);
        assert_eq!(bad("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n"), Status::ContentTooLarge);
        assert_eq!(bad("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"), Status::NotImplemented);
        assert_eq!(bad(&"a".repeat(LONGEST_HEAD_BYTES + 1)), Status::HeadTooLarge);
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Parsed::Partial);
    }

    #[test]
    fn ranges_follow_the_standard() {
        for (text, expected) in [
            ("bytes=0-1", Range::Part(0, 2)),
            ("bytes=2-", Range::Part(2, 10)),
            ("bytes=-3", Range::Part(7, 10)),
            ("bytes=-30", Range::Part(0, 10)),
            ("bytes=5-999", Range::Part(5, 10)),
            ("bytes=10-", Range::Unsatisfiable),
            ("bytes=10-11", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=3-1", Range::Whole),
            ("bytes=0-1,3-4", Range::Whole),
            ("lines=1-2", Range::Whole),
        ] {
            assert_eq!(range(Some(text), 10), expected, "{text}");
        }
        assert_eq!(range(None, 10), Range::Whole);
        assert_eq!(range(Some("bytes=-3"), 0), Range::Unsatisfiable);
        assert_eq!(range(Some("bytes=0-"), 0), Range::Unsatisfiable);
    }

    #[test]
    fn paths_are_decoded() {
        assert_eq!(decoded_path("/a%20b").as_deref(), Some("/a b"));
        assert_eq!(decoded_path("/a%2"), None);
        assert_eq!(decoded_path("/%ff"), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 3_u32;
        let words: [&[u8]; 12] =
            [b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"Host: h", b":", b"\r\n\r\n", b"\xff", b"Range: bytes=", b"-", b"9"];
        for length in 0..5_000 {
            let mut bytes = Vec::new();
            for _ in 0..length % 20 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                bytes.extend(words[(seed >> 16) as usize % words.len()]);
            }
            if let Parsed::Complete(request, _) = parse(&bytes) {
                let _ = range(request.header("range"), 10);
                let _ = decoded_path(request.path);
            }
        }
    }
}
