//! The file of a guest that was put away: a header that tells whether it is whole and whose it is, then what the
//! hypervisor wrote.
//!
//! ```text
//! 0   "WISPSNAP"
//! 8   CRC-32 of all that follows
//! 12  version of this form
//! 16  bytes behind the header
//! 24  since when the guest stands still, CLOCK_BOOTTIME [ms]
//! 32  key: what it belongs to, 32 characters
//! 64  the hypervisor's
//! ```

use super::checksum::Checksum;
use super::told::Place;
use crate::time::boottime_ms;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

const MAGIC: &[u8; 8] = b"WISPSNAP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const KEY_BYTES: usize = 32;
/// Where what the checksum covers begins.
const COVERED: usize = 12;
const PIECE_BYTES: usize = 64 * 1024;

/// A snapshot that is being written, under a name that nobody reads; dropped, it is gone.
pub struct Draft {
    file: File,
    path: PathBuf,
    place: Place,
    began_ms: u64,
}

impl Draft {
    pub fn new(place: &Place) -> io::Result<Self> {
        let began_ms = boottime_ms();
        let mut path = place.path.clone().into_os_string();
        path.push(".partial");
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).read(true).write(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&path)?;
        file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
        Ok(Self { file, path, place: place.clone(), began_ms })
    }

    /// Where the hypervisor writes.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Gives what was written its header and its name.
    pub fn finish(self) -> io::Result<()> {
        let content_bytes = self.file.metadata()?.len().saturating_sub(HEADER_BYTES as u64);
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend(MAGIC);
        header.extend([0; 4]);
        header.extend(VERSION.to_le_bytes());
        header.extend(content_bytes.to_le_bytes());
        header.extend(self.began_ms.to_le_bytes());
        header.extend(key_of(&self.place));
        let checksum = checksum(&self.file, &header)?;
        header[8..COVERED].copy_from_slice(&checksum.to_le_bytes());
        self.file.write_all_at(&header, 0)?;
        fs::rename(&self.path, &self.place.path)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Finished, it has another name already.
        let _ = fs::remove_file(&self.path);
    }
}

/// A snapshot that was whole when it was taken.
#[derive(Debug)]
pub struct Snapshot {
    file: File,
    began_ms: u64,
}

impl Snapshot {
    /// Takes the snapshot at `place`, which is gone from there afterwards; `None` when there is none.
    ///
    /// What cannot be taken up is an error that says why.
    pub fn take(place: &Place) -> Option<Result<Self, String>> {
        let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&place.path);
        // Whatever comes of it: nothing is taken up twice.
        let removed = fs::remove_file(&place.path);
        match opened.and_then(|file| removed.map(|()| file)) {
            Err(why) if why.kind() == ErrorKind::NotFound => None,
            Err(why) => Some(Err(format!("cannot be read: {why}"))),
            Ok(file) => Some(Self::checked(file, place)),
        }
    }

    /// Where the hypervisor reads.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// For how long its guest has stood still.
    pub fn slept_ms(&self) -> u64 {
        boottime_ms().saturating_sub(self.began_ms)
    }

    fn checked(mut file: File, place: &Place) -> Result<Self, String> {
        let unreadable = |why: io::Error| format!("cannot be read: {why}");
        let mut header = [0; HEADER_BYTES];
        match file.read_exact_at(&mut header, 0) {
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => return Err("is cut off".into()),
            other => other.map_err(unreadable)?,
        }
        if header[..8] != *MAGIC || u32_at(&header, COVERED) != VERSION {
            return Err("has a form that is not known".into());
        }
        if file.metadata().map_err(unreadable)?.len() != HEADER_BYTES as u64 + u64_at(&header, 16) {
            return Err("is cut off".into());
        }
        if checksum(&file, &header).map_err(unreadable)? != u32_at(&header, 8) {
            return Err("is damaged: its checksum is wrong".into());
        }
        if header[32..] != key_of(place) {
            return Err("belongs to another guest, or to another hypervisor".into());
        }
        let began_ms = u64_at(&header, 24);
        if began_ms > boottime_ms() {
            return Err("is from another start of this machine".into());
        }
        file.seek(SeekFrom::Start(HEADER_BYTES as u64)).map_err(unreadable)?;
        Ok(Self { file, began_ms })
    }
}

fn key_of(place: &Place) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let length = place.key.len().min(KEY_BYTES);
    key[..length].copy_from_slice(&place.key.as_bytes()[..length]);
    key
}

/// The checksum of a file with this header, whatever stands in its place for one.
fn checksum(file: &File, header: &[u8]) -> io::Result<u32> {
    let mut checksum = Checksum::new();
    checksum.add(&header[COVERED..]);
    let (mut piece, mut at) = (vec![0; PIECE_BYTES], HEADER_BYTES as u64);
    loop {
        match file.read_at(&mut piece, at)? {
            0 => return Ok(checksum.value()),
            count => {
                checksum.add(&piece[..count]);
                at += count as u64;
            }
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wisp-snapshot-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn place(&self) -> Place {
            Place { path: self.0.join("web.snapshot"), key: "0123456789abcdef0123456789abcdef".into() }
        }

        fn files(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn put(place: &Place) {
        let draft = Draft::new(place).unwrap();
        (&draft.file).write_all(b"all that the guest had").unwrap();
        draft.finish().unwrap();
    }

    fn refusal(place: &Place) -> String {
        let refusal = Snapshot::take(place).unwrap().unwrap_err();
        assert!(!place.path.exists());
        refusal
    }

    fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn what_was_put_away_is_taken_up_once() {
        let folder = Folder::new("whole");
        let place = folder.place();
        assert!(Snapshot::take(&place).is_none());
        put(&place);
        assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(folder.files(), 1);
        let taken = Snapshot::take(&place).unwrap().unwrap();
        let mut content = String::new();
        (&taken.file).read_to_string(&mut content).unwrap();
        assert_eq!(content, "all that the guest had");
        assert!(taken.slept_ms() < 10_000);
        assert!(Snapshot::take(&place).is_none());
        assert_eq!(folder.files(), 0);
    }

    #[test]
    fn each_changed_bit_is_noticed() {
        let folder = Folder::new("bits");
        let place = folder.place();
        put(&place);
        let bits = fs::metadata(&place.path).unwrap().len() * 8;
        for bit in 0..bits {
            put(&place);
            change(&place.path, |bytes| bytes[bit as usize / 8] ^= 1 << (bit % 8));
            refusal(&place);
        }
    }

    #[test]
    fn each_length_but_the_right_one_is_noticed() {
        let folder = Folder::new("lengths");
        let place = folder.place();
        put(&place);
        let bytes = fs::read(&place.path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&place.path, &bytes[..length]).unwrap();
            assert_eq!(refusal(&place), "is cut off");
        }
        fs::write(&place.path, [&bytes[..], b"more"].concat()).unwrap();
        assert_eq!(refusal(&place), "is cut off");
    }

    #[test]
    fn another_guest_s_is_refused() {
        let folder = Folder::new("keys");
        let place = folder.place();
        put(&place);
        let other = Place { key: "f".repeat(32), ..place };
        assert!(refusal(&other).starts_with("belongs to another guest"));
    }

    #[test]
    fn one_that_was_never_finished_leaves_nothing_and_is_not_taken() {
        let folder = Folder::new("draft");
        let place = folder.place();
        drop(Draft::new(&place).unwrap());
        assert_eq!(folder.files(), 0);
        // As by a tender that was killed.
        fs::write(place.path.with_extension("snapshot.partial"), b"half").unwrap();
        assert!(Snapshot::take(&place).is_none());
        put(&place);
        assert!(Snapshot::take(&place).unwrap().is_ok());
        assert_eq!(folder.files(), 0);
    }

    #[test]
    fn a_link_is_not_followed() {
        let folder = Folder::new("links");
        let place = folder.place();
        put(&place);
        let elsewhere = folder.0.join("elsewhere");
        fs::rename(&place.path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &place.path).unwrap();
        assert!(refusal(&place).starts_with("cannot be read"));
        assert!(elsewhere.exists());
    }
}
