//! HTTP/1.1 as a server needs it: requests read from bytes, answers written to bytes (RFC 9110, RFC 9112).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub const LONGEST_HEAD_BYTES: usize = 4096;
pub const LONGEST_BODY_BYTES: usize = 64 * 1024;

/// A request's head.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Path without query, percent-encoding left as it came.
    pub path: &'a str,
    head: &'a str,
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
    Ok = 200,
    PartialContent = 206,
    NotModified = 304,
    BadRequest = 400,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    ContentTooLarge = 413,
    RangeNotSatisfiable = 416,
    HeadTooLarge = 431,
    NotImplemented = 501,
    VersionNotSupported = 505,
}

impl Status {
    fn words(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::PartialContent => "Partial Content",
            Self::NotModified => "Not Modified",
            Self::BadRequest => "Bad Request",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::RequestTimeout => "Request Timeout",
            Self::ContentTooLarge => "Content Too Large",
            Self::RangeNotSatisfiable => "Range Not Satisfiable",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::NotImplemented => "Not Implemented",
            Self::VersionNotSupported => "HTTP Version Not Supported",
        }
    }
}

/// A body that is there already, or was made for this answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    Static(&'static [u8]),
    Made(Vec<u8>),
}

impl Body {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Made(bytes) => bytes,
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
        let text = format!("{} {}\n", status as u16, status.words());
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
        let length = match self.status {
            Status::NotModified => String::new(),
            _ => format!("Content-Length: {}\r\n", self.body.bytes().len()),
        };
        let (code, words) = (self.status as u16, self.status.words());
        format!("HTTP/1.1 {code} {words}\r\n{}{length}Connection: {connection}\r\n\r\n", self.headers).into_bytes()
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
    Ok(Request { method, path, head: headers, keep_alive, body_bytes: body_bytes(headers)? })
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

fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    headers.split("\r\n").find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// How many lines a header has.
fn count(headers: &str, name: &str) -> usize {
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
        (Err(_), Ok(0)) if first.trim().is_empty() => Range::Unsatisfiable,
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
