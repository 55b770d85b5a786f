//! The role `web`: baked-in static content, and with an origin what that has.

use crate::app::http::{Body, Range, Request, Response, Status, decoded_path, header, range};
use crate::app::later::Answer;
use crate::content::{Archive, File};
use alloc::format;
use alloc::string::String;
use smoltcp::time::Instant;

/// Where what an archive does not have is asked for.
pub trait Beyond {
    fn answer(&mut self, request: &Request<'_>, now: Instant) -> Answer;
}

/// There is nowhere else.
pub enum Nowhere {}

impl Beyond for Nowhere {
    fn answer(&mut self, _: &Request<'_>, _: Instant) -> Answer {
        match *self {}
    }
}

/// Answers from an archive; what is not there, from beyond if there is something. Without either, with a page that
/// tells the instance's name.
pub struct Site<B: Beyond> {
    archive: Archive<'static>,
    name: String,
    pub beyond: Option<B>,
}

impl<B: Beyond> Site<B> {
    pub fn new(archive: Archive<'static>, name: &str, beyond: Option<B>) -> Self {
        Self { archive, name: name.into(), beyond }
    }

    pub fn answer(&mut self, request: &Request<'_>, now: Instant) -> Answer {
        if !matches!(request.method, "GET" | "HEAD") {
            return Response::plain(Status::MethodNotAllowed).with_header("Allow", "GET, HEAD").into();
        }
        let Some(path) = decoded_path(request.path) else { return Response::plain(Status::BadRequest).into() };
        match (self.find(&path), &mut self.beyond) {
            (Some(file), _) => serve_file(file, request).into(),
            _ if path == "/health" => Response::json(format!("{{\"name\":\"{}\",\"status\":\"ok\"}}\n", self.name)).into(),
            (None, Some(beyond)) => beyond.answer(request, now),
            (None, None) if path == "/" && self.archive.is_empty() => self.own_page().into(),
            (None, None) => Response::plain(Status::NotFound).into(),
        }
    }

    /// A file by its path; a folder means its `index.html`.
    fn find(&self, path: &str) -> Option<File<'static>> {
        self.archive.find(path).or_else(|| {
            let slash = if path.ends_with('/') { "" } else { "/" };
            self.archive.find(&format!("{path}{slash}index.html"))
        })
    }

    fn own_page(&self) -> Response {
        let page = format!("<!doctype html><title>{0}</title><h1>{0}</h1><p>A Wisp unikernel.</p>\n", self.name);
        Response::new(Status::Ok, "text/html; charset=utf-8", Body::Made(page.into_bytes()))
    }
}

fn serve_file(file: File<'static>, request: &Request<'_>) -> Response {
    let (etag, last_modified) = (Some(file.etag), Some(file.last_modified));
    let body = |from, to| Body::Static(&file.body[from..to]);
    let resource = Resource { etag, last_modified, length: file.body.len(), body: &body };
    let mut response = serve(&resource, request.method == "GET", request.head);
    if response.status != Status::NotModified {
        response = response.with_header("Content-Type", file.content_type);
    }
    response.with_header("ETag", file.etag).with_header("Last-Modified", file.last_modified)
}

/// What conditions and ranges are about: a body that is here, with its validators.
pub struct Resource<'a> {
    pub etag: Option<&'a str>,
    pub last_modified: Option<&'a str>,
    pub length: usize,
    /// Gives the bytes from one up to another.
    pub body: &'a dyn Fn(usize, usize) -> Body,
}

/// Answers GET, or else HEAD, with the whole, a part, or nothing; validators and type are left to the caller.
pub fn serve(resource: &Resource<'_>, is_get: bool, asked: &str) -> Response {
    let response = |status, body| Response { status, headers: String::from("Accept-Ranges: bytes\r\n"), body };
    if resource.is_unchanged(asked) {
        return response(Status::NotModified, Body::Static(b""));
    }
    // For HEAD a range means nothing (RFC 9110, 14.2).
    let wanted = if is_get && resource.may_use_range(asked) { header(asked, "range") } else { None };
    let length = resource.length;
    match range(wanted, length) {
        Range::Whole => response(Status::Ok, (resource.body)(0, length)),
        Range::Part(from, to) => response(Status::PartialContent, (resource.body)(from, to))
            .with_header("Content-Range", &format!("bytes {from}-{}/{length}", to - 1)),
        Range::Unsatisfiable => {
            response(Status::RangeNotSatisfiable, Body::Static(b"")).with_header("Content-Range", &format!("bytes */{length}"))
        }
    }
}

impl Resource<'_> {
    /// Whether the client's copy is good (RFC 9110, 13.2.2: If-None-Match goes before If-Modified-Since).
    fn is_unchanged(&self, asked: &str) -> bool {
        let opaque = |tag: &'_ str| String::from(tag.trim().trim_start_matches("W/"));
        if let Some(tags) = header(asked, "if-none-match") {
            let own = self.etag.map(opaque);
            return tags.split(',').any(|tag| tag.trim() == "*" || Some(opaque(tag)) == own);
        }
        self.last_modified.is_some_and(|own| header(asked, "if-modified-since") == Some(own))
    }

    /// Whether a range may be answered; a weak tag is not enough (RFC 9110, 13.1.5).
    fn may_use_range(&self, asked: &str) -> bool {
        let strong = self.etag.filter(|tag| !tag.starts_with("W/"));
        header(asked, "if-range").is_none_or(|value| Some(value) == strong || Some(value) == self.last_modified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::http::{Parsed, parse};

    const BODY: &[u8] = b"0123456789";

    fn site() -> Site<Nowhere> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        let texts = ["text/plain", "\"tag\"", "Thu, 01 Jan 1970 00:00:00 GMT"];
        let head: usize = 4 + ["/a", "/d/index.html"].iter().map(|p| 24 + p.len()).sum::<usize>() + 2 * texts.concat().len();
        for path in ["/a", "/d/index.html"] {
            for number in [path.len(), texts[0].len(), texts[1].len(), texts[2].len(), head, BODY.len()] {
                bytes.extend((number as u32).to_le_bytes());
            }
            bytes.extend(path.as_bytes());
            bytes.extend(texts.concat().as_bytes());
        }
        bytes.extend(BODY);
        Site::new(Archive::parse(bytes.leak()).unwrap(), "web-1", None)
    }

    fn now(answer: Answer) -> Response {
        match answer {
            Answer::Now(response) => response,
            Answer::Later(_) => panic!("nobody else is asked"),
        }
    }

    fn get(line: &str, headers: &str) -> Response {
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        match parse(text.as_bytes()) {
            Parsed::Complete(request, _) => now(site().answer(&request, Instant::ZERO)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn content_is_served() {
        assert_eq!(get("GET /a", "").body.piece(0), BODY);
        assert_eq!(get("GET /d", "").body.piece(0), BODY);
        assert_eq!(get("GET /d/", "").status, Status::Ok);
        assert_eq!(get("GET /%61", "").status, Status::Ok);
        assert_eq!(get("GET /none", "").status, Status::NotFound);
        assert_eq!(get("GET /health", "").status, Status::Ok);
        assert_eq!(get("GET /%zz", "").status, Status::BadRequest);
    }

    #[test]
    fn other_methods_are_told_which_are_allowed() {
        let response = get("DELETE /a", "");
        assert_eq!(response.status, Status::MethodNotAllowed);
        assert!(response.headers.contains("Allow: GET, HEAD"));
    }

    #[test]
    fn ranges_and_conditions() {
        let part = get("GET /a", "Range: bytes=2-4\r\n");
        assert_eq!((part.status, part.body.piece(0)), (Status::PartialContent, &b"234"[..]));
        assert!(part.headers.contains("Content-Range: bytes 2-4/10"));
        assert_eq!(get("HEAD /a", "Range: bytes=2-4\r\n").status, Status::Ok);
        let beyond = get("GET /a", "Range: bytes=20-\r\n");
        assert_eq!(beyond.status, Status::RangeNotSatisfiable);
        assert!(beyond.headers.contains("bytes */10"));
        assert_eq!(get("GET /a", "If-None-Match: \"x\", \"tag\"\r\n").status, Status::NotModified);
        assert_eq!(get("GET /a", "If-None-Match: \"x\"\r\n").status, Status::Ok);
        assert_eq!(get("GET /a", "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n").status, Status::NotModified);
        assert_eq!(get("GET /a", "Range: bytes=0-1\r\nIf-Range: \"old\"\r\n").status, Status::Ok);
        assert_eq!(get("GET /a", "Range: bytes=0-1\r\nIf-Range: \"tag\"\r\n").status, Status::PartialContent);
    }

    #[test]
    fn an_empty_image_tells_its_name() {
        let text = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let Parsed::Complete(request, _) = parse(text) else { panic!() };
        let page = now(Site::<Nowhere>::new(Archive::default(), "web-7", None).answer(&request, Instant::ZERO));
        assert!(core::str::from_utf8(page.body.piece(0)).unwrap().contains("web-7"));
    }
}
