//! The guest's console: its words to us, and the text that goes on to our own output.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

const LONGEST_LINE: usize = 512;

/// What a guest says to its tender.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// It has booted and wants to know who it is.
    Ready,
    /// Nobody wants anything; it waits to be told to look a last time.
    Idle,
    /// In that last look it found nothing; it waits to be told to go on.
    Still,
    /// It goes on: it found something, or was told to.
    Busy,
    /// It was told to finish what it had, and has; it waits to be told to look a last time, and ends.
    Leaving,
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

    /// Waits until the guest says `word`; all else that it says meanwhile is left out.
    pub fn wait_for(&mut self, word: &Word, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        while self.is_open {
            match self.read() {
                Some(said) if said == *word => return Ok(()),
                Some(_) => continue,
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("its guest does not go on".into());
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket(), PollFlags::POLLIN)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(why) => return Err(why.to_string()),
            }
        }
        Err("its guest ended".into())
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
            b"wisp-still\n" => Some(Word::Still),
            b"wisp-busy\n" => Some(Word::Busy),
            b"wisp-leaving\n" => Some(Word::Leaving),
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
    fn a_word_is_waited_for_so_long() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut console = Console::new(ours.into());
        theirs.write_all(b"wisp-idle\nwisp-busy\n").unwrap();
        assert_eq!(console.wait_for(&Word::Busy, Duration::ZERO), Ok(()));
        assert_eq!(console.wait_for(&Word::Busy, Duration::from_millis(1)).unwrap_err(), "its guest does not go on");
        drop(theirs);
        assert_eq!(console.wait_for(&Word::Busy, Duration::from_secs(5)).unwrap_err(), "its guest ended");
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
