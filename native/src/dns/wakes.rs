//! Asking the keeper to start instances: its answers come in the order of our questions.

use crate::seqpacket::{self, Received};
use serde::Deserialize;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const MOST_AT_ONCE: usize = 4096;

#[derive(Deserialize)]
struct Verdict {
    ok: bool,
    #[serde(default)]
    error: String,
}

/// Those who waited, and whether their instance was started, or why not.
type Decided<Job> = (Vec<Job>, Result<(), String>);

/// Questions on their way, each with those who wait for it.
pub struct Wakes<Job> {
    socket: OwnedFd,
    pending: VecDeque<(String, Vec<Job>)>,
}

impl<Job> Wakes<Job> {
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, pending: VecDeque::new() }
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Has `child` started, once for all who ask meanwhile; gives the job back with the reason when that cannot be asked.
    pub fn ask(&mut self, child: &str, job: Job) -> Result<(), (Job, String)> {
        if let Some((_, jobs)) = self.pending.iter_mut().find(|(pending, _)| pending == child) {
            jobs.push(job);
            return Ok(());
        }
        if self.pending.len() >= MOST_AT_ONCE {
            return Err((job, "too many instances are being started; ask again".into()));
        }
        let question = serde_json::json!({ "op": "wake", "id": child }).to_string();
        match seqpacket::send(self.socket.as_fd(), question.as_bytes(), &[]) {
            Err(why) => Err((job, format!("the keeper cannot be asked: {why}"))),
            Ok(()) => {
                self.pending.push_back((child.to_owned(), vec![job]));
                Ok(())
            }
        }
    }

    /// The next verdict, with those who waited for it; `Err` when the keeper has gone.
    pub fn next(&mut self) -> Result<Option<Decided<Job>>, ()> {
        let mut bytes = [0; 4096];
        match seqpacket::receive(self.socket.as_fd(), &mut bytes) {
            Ok(Received::Packet { bytes: count, .. }) => {
                let verdict = serde_json::from_slice::<Verdict>(&bytes[..count]);
                let verdict = verdict.map_err(|why| why.to_string());
                let verdict = verdict.and_then(|verdict| if verdict.ok { Ok(()) } else { Err(verdict.error) });
                Ok(self.pending.pop_front().map(|(_, jobs)| (jobs, verdict)))
            }
            Err(why) if why.kind() == ErrorKind::WouldBlock => Ok(None),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    #[test]
    fn all_who_ask_for_one_get_its_one_verdict() {
        let (ours, keeper) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
        let mut wakes = Wakes::new(ours);
        for (child, job) in [("web", 1), ("other", 2), ("web", 3)] {
            wakes.ask(child, job).unwrap();
        }
        let mut asked = vec![];
        let mut bytes = [0; 100];
        while let Ok(Received::Packet { bytes: count, .. }) = seqpacket::receive(keeper.as_fd(), &mut bytes) {
            asked.push(String::from_utf8_lossy(&bytes[..count]).into_owned());
        }
        assert_eq!(asked, [r#"{"id":"web","op":"wake"}"#, r#"{"id":"other","op":"wake"}"#]);
        seqpacket::send(keeper.as_fd(), br#"{"ok":true}"#, &[]).unwrap();
        seqpacket::send(keeper.as_fd(), br#"{"ok":false,"error":"full"}"#, &[]).unwrap();
        assert_eq!(wakes.next(), Ok(Some((vec![1, 3], Ok(())))));
        assert_eq!(wakes.next(), Ok(Some((vec![2], Err("full".into())))));
        assert_eq!(wakes.next(), Ok(None));
        drop(keeper);
        assert!(wakes.next().is_err());
    }
}
