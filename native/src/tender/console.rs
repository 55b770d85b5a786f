//! The guest's console: its words to us, and the text that goes on to our own output.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const LONGEST_LINE: usize = 512;

/// What a guest says to its tender.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// It has booted and wants to know who it is.
    Ready,
    /// Nobody wants anything; it waits to be told to look a last time.
    Idle,
    /// In that last look it found something.
    Busy,
}

pub struct Console {
    socket: File,
    line: Vec<u8>,
    pub is_open: bool,
}

impl Console {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket: socket.into(), line: Vec::new(), is_open: true }
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next word; `None` when there is none now. All other lines go to our standard output.
    pub fn read(&mut self) -> Option<Word> {
        let mut byte = [0];
        loop {
            match self.socket.read(&mut byte) {
                Ok(1) => {}
                Ok(_) => {
                    self.is_open = false;
                    return None;
                }
                Err(_) => return None,
            }
            if let Some(word) = self.take(byte[0]) {
                return Some(word);
            }
        }
    }

    fn take(&mut self, byte: u8) -> Option<Word> {
        self.line.push(byte);
        if byte != b'\n' && self.line.len() < LONGEST_LINE {
            return None;
        }
        let line = std::mem::take(&mut self.line);
        match line.as_slice() {
            b"wisp-ready\n" => Some(Word::Ready),
            b"wisp-idle\n" => Some(Word::Idle),
            b"wisp-busy\n" => Some(Word::Busy),
            text => {
                // Nobody may be reading.
                let _ = io::stdout().write_all(text).and_then(|()| io::stdout().flush());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn words_are_told_from_text_wherever_they_are_cut() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut console = Console::new(ours.into());
        theirs.write_all(b"booting\nwisp-re").unwrap();
        assert_eq!(console.read(), None);
        theirs.write_all(b"ady\nwisp-idle\n").unwrap();
        assert_eq!((console.read(), console.read(), console.read()), (Some(Word::Ready), Some(Word::Idle), None));
        drop(theirs);
        assert_eq!((console.read(), console.is_open), (None, false));
    }

    #[test]
    fn an_endless_line_is_bounded() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut console = Console::new(ours.into());
        theirs.write_all(&[b'.'; 600]).unwrap();
        assert_eq!(console.read(), None);
        assert!(console.line.len() < LONGEST_LINE);
    }
}
