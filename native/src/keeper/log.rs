//! The output of one child: from its pipe into a capped file.
//!
//! The keeper writes it, not the child, so that a full disk or a flood never blocks or fills anything: what cannot
//! be written is dropped and counted, and the count is written as soon as there is room.

use nix::fcntl::OFlag;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A log file is turned over at this size [byte]; with its predecessor it takes at most twice that.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A file that is appended to, turned over when full, and never an error.
pub struct CappedFile {
    path: PathBuf,
    file: Option<File>,
    size_bytes: u64,
    dropped_bytes: u64,
}

impl CappedFile {
    /// Opens `path`; a full disk is not an error, anything else is.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut log = Self { path: path.to_owned(), file: None, size_bytes: 0, dropped_bytes: 0 };
        match log.reopen() {
            Err(why) if !is_full(&why) => Err(why),
            _ => Ok(log),
        }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        if self.try_append(bytes).is_err() {
            self.dropped_bytes += bytes.len() as u64;
        }
    }

    /// The file for the child to write itself, after it was turned over where it is half full; `None` on a full disk.
    pub fn into_own(mut self) -> io::Result<Option<OwnedFd>> {
        if self.size_bytes > MAX_FILE_BYTES / 2 {
            self.turn_over()?;
        }
        Ok(self.file.map(OwnedFd::from))
    }

    fn try_append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size_bytes + bytes.len() as u64 > MAX_FILE_BYTES {
            self.turn_over()?;
        }
        if self.dropped_bytes > 0 {
            let note = format!("\n[{} bytes of output could not be written here]\n", self.dropped_bytes);
            self.write(note.as_bytes())?;
            self.dropped_bytes = 0;
        }
        self.write(bytes)
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.reopen()?;
        let file = self.file.as_mut().expect("just opened");
        while !bytes.is_empty() {
            let count = file.write(bytes)?;
            self.size_bytes += count as u64;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    fn turn_over(&mut self) -> io::Result<()> {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        self.file = None;
        match fs::rename(&self.path, older) {
            Err(why) if why.kind() != ErrorKind::NotFound => Err(why),
            _ => self.reopen(),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        // A log must be a file of ours, not something a link leads to.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits();
        let file = OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(&self.path)?;
        self.size_bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }
}

fn is_full(why: &io::Error) -> bool {
    matches!(why.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The reading end of a child's output.
pub struct LogPipe {
    pipe: File,
    log: CappedFile,
}

impl LogPipe {
    /// `pipe` must be non-blocking.
    pub fn new(pipe: File, log: CappedFile) -> Self {
        Self { pipe, log }
    }

    /// Has what comes from now on go to another file.
    pub fn redirect(&mut self, log: CappedFile) {
        self.log = log;
    }

    pub fn pipe(&self) -> &File {
        &self.pipe
    }

    /// Moves what one read gives; `false` when the child's side is closed.
    pub fn pump(&mut self, buffer: &mut [u8]) -> bool {
        match self.pipe.read(buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.log.append(&buffer[..count]);
                true
            }
            Err(why) => matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    /// Moves what is in the pipe now, so that a child's last words are in the log before its end is told.
    pub fn drain(&mut self, buffer: &mut [u8]) {
        // A pipe holds 64 KiB at most; somebody still writing must not keep us here.
        for _ in 0..4 {
            match self.pipe.read(buffer) {
                Ok(count) if count > 0 => self.log.append(&buffer[..count]),
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("wisp-log-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn stays_within_two_files() {
        let directory = scratch("cap");
        let path = directory.join("x.log");
        let mut log = CappedFile::open(&path).unwrap();
        for _ in 0..80 {
            log.append(&[b'x'; 64 * 1024]);
        }
        let size = |path: &Path| fs::metadata(path).unwrap().len();
        assert!(size(&path) <= MAX_FILE_BYTES);
        assert!(size(&directory.join("x.log.1")) <= MAX_FILE_BYTES);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn counts_what_it_could_not_write() {
        let directory = scratch("lost");
        let path = directory.join("gone").join("x.log");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut log = CappedFile::open(&path).unwrap();
        log.append(b"first");
        log.file = None;
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        log.append(b"lost");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        log.append(b"last");
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "\n[4 bytes of output could not be written here]\nlast");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn refuses_a_link() {
        let directory = scratch("link");
        let path = directory.join("x.log");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(CappedFile::open(&path).is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}
