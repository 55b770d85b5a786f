//! Answers that are not there yet, and bodies that come bit by bit. Who asks and who brings share each of them.
//!
//! When the one who asks goes away, the one who brings is told so by [`Promise::is_wanted`] and [`Brings::is_wanted`].

use crate::app::http::Response;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

/// What a role says to a request: the answer, or that it comes later.
pub enum Answer {
    Now(Response),
    Later(Promise),
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Now(response)
    }
}

/// A place for an answer.
#[derive(Clone, Default)]
pub struct Promise(Rc<RefCell<Option<Response>>>);

impl Promise {
    pub fn keep(&self, response: Response) {
        *self.0.borrow_mut() = Some(response);
    }

    pub fn take(&self) -> Option<Response> {
        self.0.borrow_mut().take()
    }

    /// Whether anybody else still holds it.
    pub fn is_wanted(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }
}

/// As many bytes of a stream lie in memory at most.
const PIPE_BYTES: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Open,
    Whole,
    Broken,
}

#[derive(Debug)]
struct Pipe {
    length: Option<usize>,
    bytes: Vec<u8>,
    taken: usize,
    flow: Flow,
}

/// The end of a pipe that takes; part of an answer.
#[derive(Debug)]
pub struct Takes(Rc<RefCell<Pipe>>);

/// The end of a pipe that brings.
#[derive(Debug)]
pub struct Brings(Rc<RefCell<Pipe>>);

/// Makes a pipe for a body of `length` bytes; `None` when that is not known before its end.
pub fn pipe(length: Option<usize>) -> (Brings, Takes) {
    let pipe = Rc::new(RefCell::new(Pipe { length, bytes: Vec::new(), taken: 0, flow: Flow::Open }));
    (Brings(pipe.clone()), Takes(pipe))
}

impl Brings {
    pub fn is_wanted(&self) -> bool {
        Rc::strong_count(&self.0) > 1
    }

    /// Puts in what fits and says how much that was.
    pub fn bring(&self, bytes: &[u8]) -> usize {
        let mut pipe = self.0.borrow_mut();
        let count = bytes.len().min(PIPE_BYTES - pipe.bytes.len());
        pipe.bytes.extend_from_slice(&bytes[..count]);
        count
    }

    /// Says that all of it has been put in.
    pub fn end(&self) {
        self.0.borrow_mut().flow = Flow::Whole;
    }

    /// Says that the rest will not come.
    pub fn break_off(&self) {
        self.0.borrow_mut().flow = Flow::Broken;
    }
}

impl Takes {
    pub fn length(&self) -> Option<usize> {
        self.0.borrow().length
    }

    /// Gives what is there to `take`, which says how much of it it took; gives that, too.
    pub fn take(&self, take: impl FnOnce(&[u8]) -> usize) -> usize {
        let mut pipe = self.0.borrow_mut();
        let count = take(&pipe.bytes[pipe.taken..]);
        pipe.taken += count;
        if pipe.taken == pipe.bytes.len() {
            pipe.bytes.clear();
            pipe.taken = 0;
        }
        count
    }

    /// Whether nothing is there, at present or for ever.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().bytes.is_empty()
    }

    pub fn is_whole(&self) -> bool {
        self.is_empty() && self.0.borrow().flow == Flow::Whole
    }

    pub fn is_broken(&self) -> bool {
        self.is_empty() && self.0.borrow().flow == Flow::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::http::Status;

    #[test]
    fn a_pipe_holds_so_much_and_no_more() {
        let (brings, takes) = pipe(None);
        assert_eq!(brings.bring(&[1; PIPE_BYTES + 1]), PIPE_BYTES);
        assert_eq!(brings.bring(&[1]), 0);
        assert_eq!(takes.take(|bytes| bytes.len() - 1), PIPE_BYTES - 1);
        brings.end();
        assert!(!takes.is_whole(), "one byte is left");
        assert_eq!(takes.take(<[u8]>::len), 1);
        assert!(takes.is_whole());
        drop(takes);
        assert!(!brings.is_wanted());
    }

    #[test]
    fn what_was_brought_comes_out_before_the_break() {
        let (brings, takes) = pipe(Some(2));
        brings.bring(b"a");
        brings.break_off();
        assert!(!takes.is_broken());
        takes.take(<[u8]>::len);
        assert!(takes.is_broken());
    }

    #[test]
    fn a_promise_knows_whether_anybody_waits() {
        let kept = Promise::default();
        let asked = kept.clone();
        kept.keep(Response::plain(Status::Ok));
        assert!(asked.take().is_some());
        assert!(kept.is_wanted());
        drop(asked);
        assert!(!kept.is_wanted());
    }
}
