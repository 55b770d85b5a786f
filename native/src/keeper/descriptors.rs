//! Descriptors held by name, and how many this process may have.

use crate::failure::{Context, Failure};
use crate::limits::raise_open_files;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// The most descriptors one cloud may have held.
pub const MAX_HELD: usize = 32_768;
/// Kept free for connections, descriptors on their way, and the keeper's own use.
const RESERVE: usize = 512;

/// Limits of open files: of this process and of its children.
#[derive(Clone, Copy)]
pub struct OpenFiles {
    inherited_soft: u64,
    hard: u64,
}

impl OpenFiles {
    /// Raises our own limit to the most the machine allows.
    pub fn raise() -> Result<Self, Failure> {
        let (inherited_soft, hard) = raise_open_files()?;
        Ok(Self { inherited_soft, hard })
    }

    /// Whether `used` long-lived descriptors leave room for the short-lived ones.
    pub fn allow(&self, used: usize) -> bool {
        used + RESERVE <= usize::try_from(self.hard).unwrap_or(usize::MAX)
    }

    /// The (soft, hard) limit of a child that asked for `wanted`. Without a wish it gets what we were given, not
    /// what we raised it to: programs that use `select` break above 1024.
    pub fn of_child(&self, wanted: Option<u64>) -> (u64, u64) {
        wanted.map_or((self.inherited_soft, self.hard), |wanted| (wanted, wanted))
    }
}

/// Descriptors by name.
pub struct Held {
    by_name: BTreeMap<String, Rc<OwnedFd>>,
    closer: Sender<OwnedFd>,
}

impl Held {
    /// Starts the thread that closes: the last close of a tap takes 20 ms of waiting inside the kernel, and
    /// nobody's request should wait for it.
    pub fn new() -> Result<Self, Failure> {
        let (closer, closing) = channel();
        let close_all = move |closing: Receiver<OwnedFd>| closing.into_iter().for_each(drop);
        let thread = thread::Builder::new().name("closer".into()).stack_size(32 * 1024);
        thread.spawn(move || close_all(closing)).context("cannot start a thread")?;
        Ok(Self { by_name: BTreeMap::new(), closer })
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn get(&self, name: &str) -> Result<&Rc<OwnedFd>, String> {
        self.by_name.get(name).ok_or_else(|| format!("nothing is held as {name:?}"))
    }

    /// Takes all of `descriptors` or none.
    pub fn hold(&mut self, names: Vec<String>, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        if names.len() != descriptors.len() {
            return Err(format!("{} names came with {} descriptors", names.len(), descriptors.len()));
        }
        if self.by_name.len() + names.len() > MAX_HELD {
            return Err(format!("{MAX_HELD} descriptors are held already; release some"));
        }
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err("a name is empty".into());
            }
            if self.by_name.contains_key(name) || names[..index].contains(name) {
                return Err(format!("{name:?} is held already; release it first"));
            }
        }
        self.by_name.extend(names.into_iter().zip(descriptors.into_iter().map(Rc::new)));
        Ok(())
    }

    /// Lets go of `names`; those not held are ignored, so it may be repeated.
    pub fn release(&mut self, names: &[String]) {
        let released = names.iter().filter_map(|name| self.by_name.remove(name));
        for descriptor in released.filter_map(|shared| Rc::try_unwrap(shared).ok()) {
            // The thread only ends with the process.
            let _ = self.closer.send(descriptor);
        }
    }

    /// Names in order, those behind `after` only.
    pub fn names(&self, after: &str) -> impl Iterator<Item = &String> {
        self.by_name.range::<str, _>((Bound::Excluded(after), Bound::Unbounded)).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn some(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect()
    }

    #[test]
    fn holds_all_or_nothing() {
        let mut held = Held::new().unwrap();
        held.hold(names(&["a", "b"]), some(2)).unwrap();
        assert!(held.hold(names(&["c", "b"]), some(2)).is_err());
        assert!(held.hold(names(&["c", "c"]), some(2)).is_err());
        assert!(held.hold(names(&["c"]), some(2)).is_err());
        assert_eq!(held.names("").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(held.names("a").collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn release_may_be_repeated() {
        let mut held = Held::new().unwrap();
        held.hold(names(&["a"]), some(1)).unwrap();
        held.release(&names(&["a", "never"]));
        held.release(&names(&["a"]));
        assert_eq!(held.len(), 0);
        assert!(held.get("a").is_err());
    }
}
