//! The role `web`: baked-in static content.

use crate::app::http::{Body, Range, Request, Response, Status, decoded_path, range};
use crate::content::{Archive, File};
use alloc::format;
use alloc::string::String;

/// Answers from an archive; without one, with a page that tells the instance's name.
pub struct Site {
    archive: Archive<'static>,
    name: String,
}

impl Site {
    pub fn new(archive: Archive<'static>, name: &str) -> Self {
        Self { archive, name: name.into() }
    }

    pub fn answer(&self, request: &Request<'_>) -> Response {
        if !matches!(request.method, "GET" | "HEAD") {
            return Response::plain(Status::MethodNotAllowed).with_header("Allow", "GET, HEAD");
        }
        let Some(path) = decoded_path(request.path) else { return Response::plain(Status::BadRequest) };
        match self.find(&path) {
            Some(file) => serve(file, request),
            None if path == "/health" => Response::json(format!("{{\"name\":\"{}\",\"status\":\"ok\"}}\n", self.name)),
            None if path == "/" && self.archive.is_empty() => self.own_page(),
            None => Response::plain(Status::NotFound),
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

fn serve(file: File<'static>, request: &Request<'_>) -> Response {
    if is_unchanged(&file, request) {
        let response = Response { status: Status::NotModified, headers: String::new(), body: Body::Static(b"") };
        return with_validators(response, &file);
    }
    // For HEAD a range means nothing (RFC 9110, 14.2).
    let wanted = if request.method == "GET" && may_use_range(&file, request) { request.header("range") } else { None };
    let (status, body, content_range) = match range(wanted, file.body.len()) {
        Range::Whole => (Status::Ok, file.body, String::new()),
        Range::Part(from, to) => {
            (Status::PartialContent, &file.body[from..to], format!("bytes {from}-{}/{}", to - 1, file.body.len()))
        }
        Range::Unsatisfiable => (Status::RangeNotSatisfiable, &b""[..], format!("bytes */{}", file.body.len())),
    };
    let response = with_validators(Response::new(status, file.content_type, Body::Static(body)), &file);
    if content_range.is_empty() { response } else { response.with_header("Content-Range", &content_range) }
}

/// Whether the client's copy is good (RFC 9110, 13.2.2: If-None-Match goes before If-Modified-Since).
fn is_unchanged(file: &File<'_>, request: &Request<'_>) -> bool {
    if let Some(tags) = request.header("if-none-match") {
        return tags.split(',').any(|tag| tag.trim() == "*" || tag.trim().trim_start_matches("W/") == file.etag);
    }
    request.header("if-modified-since").is_some_and(|date| date == file.last_modified)
}

/// Whether a range may be answered (RFC 9110, 13.1.5).
fn may_use_range(file: &File<'_>, request: &Request<'_>) -> bool {
    request.header("if-range").is_none_or(|value| value == file.etag || value == file.last_modified)
}

fn with_validators(response: Response, file: &File<'_>) -> Response {
    response.with_header("ETag", file.etag).with_header("Last-Modified", file.last_modified).with_header("Accept-Ranges", "bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::http::{Parsed, parse};

    const BODY: &[u8] = b"0123456789";

    fn site() -> Site {
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
        Site::new(Archive::parse(bytes.leak()).unwrap(), "web-1")
    }

    fn get(line: &str, headers: &str) -> Response {
        let text = format!("{line} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        match parse(text.as_bytes()) {
            Parsed::Complete(request, _) => site().answer(&request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn content_is_served() {
        assert_eq!(get("GET /a", "").body.bytes(), BODY);
        assert_eq!(get("GET /d", "").body.bytes(), BODY);
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
        assert_eq!((part.status, part.body.bytes()), (Status::PartialContent, &b"234"[..]));
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
        let page = Site::new(Archive::default(), "web-7").answer(&request);
        assert!(core::str::from_utf8(page.body.bytes()).unwrap().contains("web-7"));
    }
}
