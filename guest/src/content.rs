//! What the image builder put behind the program: files with their types, and default options.
//!
//! The builder finds [`ImageHeader`] by its magic and fills in the two lengths. Content lies at a fixed address as
//! one read-only segment: the options line first, then the archive.
//!
//! Archive: `u32` count, then per file, sorted by path: four `u32` (path, type, etag and last-modified lengths), `u32`
//! offset and `u32` length of the body from the start of the archive, then the four texts. All little-endian.

use alloc::vec::Vec;

pub const MAGIC: [u8; 8] = *b"WISPIMG1";
pub const CONTENT_ADDRESS: u64 = 0x40_0000;

/// Sixty-four bytes in every image; the builder changes the two lengths.
#[repr(C)]
pub struct ImageHeader {
    pub magic: [u8; 8],
    pub content_address: u64,
    pub options_bytes: u64,
    pub archive_bytes: u64,
    pub reserved: [u64; 4],
}

impl ImageHeader {
    /// How many bytes the builder appended.
    #[allow(unsafe_code)]
    pub fn content_bytes(&self) -> u64 {
        // SAFETY: plain fields; volatile, since the builder changes them after they were compiled.
        unsafe { (&raw const self.options_bytes).read_volatile() + (&raw const self.archive_bytes).read_volatile() }
    }
}

/// One baked-in file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    pub path: &'a str,
    pub content_type: &'a str,
    pub etag: &'a str,
    pub last_modified: &'a str,
    pub body: &'a [u8],
}

/// Baked-in files, by path.
#[derive(Debug, Default)]
pub struct Archive<'a> {
    files: Vec<File<'a>>,
}

impl<'a> Archive<'a> {
    /// Reads an archive; `None` when the bytes are not one.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let mut at = 0;
        let count = number(bytes, &mut at)?;
        let mut files = Vec::new();
        for _ in 0..count {
            files.push(file(bytes, &mut at)?);
        }
        files.is_sorted_by(|a, b| a.path < b.path).then_some(Self { files })
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub fn find(&self, path: &str) -> Option<File<'a>> {
        self.files.binary_search_by(|file| file.path.cmp(path)).ok().map(|index| self.files[index])
    }
}

fn file<'a>(bytes: &'a [u8], at: &mut usize) -> Option<File<'a>> {
    let mut numbers = [0_usize; 6];
    for slot in &mut numbers {
        *slot = number(bytes, at)?;
    }
    let [path, content_type, etag, last_modified, offset, length] = numbers;
    Some(File {
        path: text(bytes, at, path)?,
        content_type: text(bytes, at, content_type)?,
        etag: text(bytes, at, etag)?,
        last_modified: text(bytes, at, last_modified)?,
        body: bytes.get(offset..offset.checked_add(length)?)?,
    })
}

fn number(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let end = at.checked_add(4)?;
    let four = bytes.get(*at..end)?;
    *at = end;
    Some(u32::from_le_bytes(four.try_into().ok()?) as usize)
}

fn text<'a>(bytes: &'a [u8], at: &mut usize, length: usize) -> Option<&'a str> {
    let end = at.checked_add(length)?;
    let slice = bytes.get(*at..end)?;
    *at = end;
    core::str::from_utf8(slice).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let head: usize = 4 + files.iter().map(|(path, _)| 24 + path.len() + 10 + 3 + 29).sum::<usize>();
        let (mut index, mut bodies) = ((files.len() as u32).to_le_bytes().to_vec(), Vec::<u8>::new());
        for (path, body) in files {
            for value in [path.len(), 10, 3, 29, head + bodies.len(), body.len()] {
                index.extend((value as u32).to_le_bytes());
            }
            index.extend(path.as_bytes());
            index.extend(b"text/plain\"e\"Thu, 01 Jan 1970 00:00:00 GMT");
            bodies.extend(*body);
        }
        index.extend(bodies);
        index
    }

    #[test]
    fn files_are_found() {
        let bytes = archive(&[("/a", b"one"), ("/b", b"")]);
        let read = Archive::parse(&bytes).unwrap();
        assert_eq!(read.find("/a").unwrap().body, b"one");
        assert_eq!(read.find("/a").unwrap().etag, "\"e\"");
        assert_eq!(read.find("/b").unwrap().body, b"");
        assert_eq!(read.find("/c"), None);
        assert!(Archive::parse(&[]).unwrap().is_empty());
    }

    #[test]
    fn every_cut_and_flip_is_survived() {
        let bytes = archive(&[("/a", b"one"), ("/b", b"two")]);
        for cut in 0..bytes.len() {
            let _ = Archive::parse(&bytes[..cut]);
        }
        for place in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[place / 8] ^= 1 << (place % 8);
            let _ = Archive::parse(&flipped);
        }
        assert!(Archive::parse(&archive(&[("/b", b""), ("/a", b"")])).is_none(), "unsorted");
    }
}
