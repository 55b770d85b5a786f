//! Questions that are not ours, on their way to a name server that may know.

use super::message::{HEADER_BYTES, Query};
use std::collections::HashMap;
use std::net::SocketAddr;

const MOST_IN_FLIGHT: usize = 1024;
const PATIENCE_NS: u64 = 3_000_000_000;
const RESPONSE: u8 = 0x80;

/// A question under way.
pub struct Forward<Client> {
    pub client: Client,
    pub query: Query,
    pub site: usize,
    /// As it came.
    pub bytes: Vec<u8>,
    /// Which of the upstreams was asked.
    pub upstream: usize,
    due_ns: u64,
}

/// Questions under way, by the id they were sent on with.
pub struct Forwards<Client>(HashMap<u16, Forward<Client>>);

impl<Client> Forwards<Client> {
    pub fn new() -> Self {
        Self(HashMap::new())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes a question and gives the bytes to send on, under an id nobody can guess; `Err` when there are too many.
    pub fn add(
        &mut self,
        mut forward: Forward<Client>,
        now_ns: u64,
        random: impl Fn() -> u16,
    ) -> Result<Vec<u8>, Forward<Client>> {
        if self.0.len() >= MOST_IN_FLIGHT {
            return Err(forward);
        }
        let mut id = random();
        while self.0.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        forward.due_ns = now_ns + PATIENCE_NS;
        let mut bytes = forward.bytes.clone();
        bytes[..2].copy_from_slice(&id.to_be_bytes());
        self.0.insert(id, forward);
        Ok(bytes)
    }

    /// Whose answer this is, with its own id again; one that nobody waits for, or that comes from elsewhere, is dropped.
    pub fn take(
        &mut self,
        site: usize,
        from: SocketAddr,
        upstreams: &[SocketAddr],
        mut bytes: Vec<u8>,
    ) -> Option<(Client, Vec<u8>)> {
        let id = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
        let forward = self.0.get(&id)?;
        let question = bytes.get(HEADER_BYTES..HEADER_BYTES + forward.query.question.len())?;
        let fits = forward.site == site
            && upstreams.get(forward.upstream) == Some(&from)
            && bytes[2] & RESPONSE != 0
            && question == forward.query.question;
        if !fits {
            return None;
        }
        let forward = self.0.remove(&id)?;
        bytes[..2].copy_from_slice(&forward.query.id.to_be_bytes());
        Some((forward.client, bytes))
    }

    /// Takes those that have waited for too long.
    pub fn take_late(&mut self, now_ns: u64) -> Vec<Forward<Client>> {
        let late: Vec<u16> = self.0.iter().filter(|(_, one)| one.due_ns <= now_ns).map(|(id, _)| *id).collect();
        late.into_iter().filter_map(|id| self.0.remove(&id)).collect()
    }
}

impl<Client> Forward<Client> {
    pub fn new(client: Client, query: Query, site: usize, bytes: Vec<u8>) -> Self {
        Self { client, query, site, bytes, upstream: 0, due_ns: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{A, tests::asked};
    use super::*;

    fn one() -> (Forwards<&'static str>, Vec<u8>, [SocketAddr; 1]) {
        let bytes = asked("example.org", A, None);
        let query = Query::read(&bytes).unwrap();
        let mut forwards = Forwards::new();
        let sent = forwards.add(Forward::new("client", query, 0, bytes), 5, || 99).ok().unwrap();
        (forwards, sent, ["10.0.2.3:53".parse().unwrap()])
    }

    #[test]
    fn an_answer_comes_back_under_its_own_id() {
        let (mut forwards, sent, upstreams) = one();
        assert_eq!(sent[..2], [0, 99]);
        let mut answer = sent.clone();
        answer[2] |= RESPONSE;
        let (client, back) = forwards.take(0, upstreams[0], &upstreams, answer).unwrap();
        assert_eq!((client, &back[..2]), ("client", &[0, 7][..]));
        assert!(forwards.is_empty());
    }

    #[test]
    fn what_others_say_is_dropped() {
        let (mut forwards, sent, upstreams) = one();
        let mut answer = sent.clone();
        answer[2] |= RESPONSE;
        let mut other_question = answer.clone();
        other_question[HEADER_BYTES + 1] ^= 1;
        let stranger = "10.0.2.4:53".parse().unwrap();
        assert!(forwards.take(0, stranger, &upstreams, answer.clone()).is_none());
        assert!(forwards.take(1, upstreams[0], &upstreams, answer.clone()).is_none());
        assert!(forwards.take(0, upstreams[0], &upstreams, other_question).is_none());
        assert!(forwards.take(0, upstreams[0], &upstreams, sent).is_none());
        assert!(forwards.take(0, upstreams[0], &upstreams, vec![1]).is_none());
        assert!(forwards.take(0, upstreams[0], &upstreams, answer).is_some());
    }

    #[test]
    fn late_ones_are_given_back() {
        let (mut forwards, _, _) = one();
        assert!(forwards.take_late(5).is_empty());
        assert_eq!(forwards.take_late(5 + PATIENCE_NS).len(), 1);
    }
}
