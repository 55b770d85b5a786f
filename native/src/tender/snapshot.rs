//! The file that a guest sleeps in. It says itself whether it is whole, and is taken up once.

use crate::failure::{Context, Failure};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MAGIC: [u8; 8] = *b"wispsnp1";
/// Magic; then, little-endian: length and checksum of the state, and when it was taken [us since the epoch].
const HEADER_BYTES: u64 = 32;
const AT_ONCE: usize = 1 << 16;

/// A snapshot that is being written.
pub struct Writing {
    file: File,
    unfinished: PathBuf,
    place: PathBuf,
}

/// A snapshot that is whole, with the file at the begin of the state.
pub struct Kept {
    pub file: File,
    pub slept: Duration,
}

impl Writing {
    /// Makes a file beside `place`, for the state to be written to from where it stands.
    pub fn begin(place: &Path) -> Result<Self, Failure> {
        let unfinished = place.with_extension("unfinished");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&unfinished).context(unfinished.display())?;
        file.write_all(&[0; HEADER_BYTES as usize]).context(unfinished.display())?;
        Ok(Self { file, unfinished, place: place.to_owned() })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Puts it in its place, now that the state is in it.
    pub fn finish(mut self, now: SystemTime) -> Result<(), Failure> {
        let done = self.seal(now).and_then(|()| fs::rename(&self.unfinished, &self.place));
        done.context(self.place.display())
    }

    fn seal(&mut self, now: SystemTime) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(HEADER_BYTES))?;
        let (length, sum) = summed(&mut self.file)?;
        let taken_us = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let numbers = [length, sum, taken_us].map(u64::to_le_bytes).concat();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&[&MAGIC[..], &numbers].concat())
    }
}

impl Drop for Writing {
    /// What was given up is not left behind.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.unfinished);
    }
}

/// Takes up the snapshot at `place`, which is then gone, whole or not; `None` where there is none.
pub fn take(place: &Path, now: SystemTime) -> Option<Result<Kept, Failure>> {
    let file = match File::open(place) {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return None,
        Err(why) => return Some(Err(Failure::system(place.display(), why))),
    };
    let removed = fs::remove_file(place).context(place.display());
    Some(removed.and_then(|()| checked(file, now)))
}

fn checked(mut file: File, now: SystemTime) -> Result<Kept, Failure> {
    let mut header = [0; HEADER_BYTES as usize];
    file.read_exact(&mut header).context("its header")?;
    let (magic, numbers) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(Failure::system("its header", "it is no snapshot of this version"));
    }
    let number = |place: usize| u64::from_le_bytes(std::array::from_fn(|index| numbers[8 * place + index]));
    if summed(&mut file).context("its content")? != (number(0), number(1)) {
        return Err(Failure::system("its content", "is not what was written"));
    }
    file.seek(SeekFrom::Start(HEADER_BYTES)).context("its content")?;
    let taken = UNIX_EPOCH + Duration::from_micros(number(2));
    Ok(Kept { file, slept: now.duration_since(taken).unwrap_or_default() })
}

/// Length and checksum (FNV-1a over words of eight bytes) of what is left of a file.
fn summed(file: &mut File) -> io::Result<(u64, u64)> {
    let (mut length, mut sum) = (0, 0xcbf2_9ce4_8422_2325_u64);
    let mut buffer = vec![0; AT_ONCE];
    loop {
        let filled = fill(file, &mut buffer)?;
        for word in buffer[..filled].chunks(8) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            sum = (sum ^ u64::from_le_bytes(bytes)).wrapping_mul(0x0000_0100_0000_01b3);
            // A change of high bits alone would else stay among them.
            sum ^= sum >> 32;
        }
        length += filled as u64;
        if filled < buffer.len() {
            return Ok((length, sum));
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("wisp-snapshot-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn place(&self) -> PathBuf {
            self.0.join("web@0123")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn write(place: &Path, state: &[u8]) {
        let writing = Writing::begin(place).unwrap();
        let mut file = writing.file();
        file.write_all(state).unwrap();
        writing.finish(at(1000)).unwrap();
    }

    fn state() -> Vec<u8> {
        (0..200_003_u32).map(|number| (number * 7 % 251) as u8).collect()
    }

    #[test]
    fn what_was_written_is_taken_up_once() {
        let folder = Folder::new("once");
        write(&folder.place(), &state());
        let mut kept = take(&folder.place(), at(1060)).unwrap().unwrap();
        let mut found = vec![];
        kept.file.read_to_end(&mut found).unwrap();
        assert!(found == state());
        assert_eq!(kept.slept, Duration::from_secs(60));
        assert!(take(&folder.place(), at(1060)).is_none());
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
    }

    #[test]
    fn any_damage_is_seen_and_the_file_is_gone() {
        let folder = Folder::new("damage");
        write(&folder.place(), &state());
        let whole = fs::read(folder.place()).unwrap();
        let changed = |at: usize, bit: u8| {
            let mut bytes = whole.clone();
            bytes[at] ^= bit;
            bytes
        };
        let mut damaged: Vec<_> = [0, 8, 16, 32, 100_000, 200_034].map(|at| changed(at, 0x80)).into();
        damaged.extend([vec![], whole[..31].to_vec(), whole[..150_000].to_vec(), [&whole[..], b"x"].concat()]);
        for bytes in damaged {
            fs::write(folder.place(), bytes).unwrap();
            assert!(take(&folder.place(), at(1060)).unwrap().is_err());
            assert!(!folder.place().exists());
        }
    }

    #[test]
    fn one_that_is_given_up_leaves_nothing() {
        let folder = Folder::new("given-up");
        drop(Writing::begin(&folder.place()).unwrap());
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0);
        assert!(Writing::begin(&folder.0.join("no/such/folder")).is_err());
    }

    #[test]
    fn a_clock_that_was_set_back_is_no_sleep() {
        let folder = Folder::new("clock");
        write(&folder.place(), &state());
        assert_eq!(take(&folder.place(), at(10)).unwrap().unwrap().slept, Duration::ZERO);
    }
}
