//! What is said over `keeper.sock`: one JSON object per packet, descriptors beside it.
//!
//! Every request is answered in order by `{"ok":true,...}` or `{"ok":false,"error":"sentence"}`. A list that does
//! not fit one packet ends with `"more":true`; ask again with `after` set to its last name.

use super::outer::OuterProc;
use crate::failure::{Context, Failure};
use crate::tender::told::{Told, WhenIdle};
use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const PROTOCOL: u32 = 1;

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    Hello,
    Hold { names: Vec<String> },
    Fetch { names: Vec<String> },
    Release { names: Vec<String> },
    Held(Page),
    Spawn(Box<SpawnOrder>),
    Signal { id: String, signal: i32 },
    Forget { id: String },
    Wake { id: String },
    Budget { name: String, bytes: u64 },
    Children(Page),
    Child { id: String },
    Watch,
    Shutdown,
}

/// Where a list goes on.
#[derive(Deserialize)]
pub struct Page {
    #[serde(default)]
    pub after: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpawnOrder {
    pub id: String,
    pub argv: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    pub cwd: Option<String>,
    /// Name of a held network namespace; the keeper's own empty one when absent.
    pub netns: Option<String>,
    #[serde(default)]
    pub fds: Vec<Inherited>,
    /// Absolute path; without it the output is discarded.
    pub log: Option<String>,
    #[serde(default)]
    pub privileged: bool,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub nice: i32,
    /// No transparent huge pages: a process that touches little of each then keeps little.
    #[serde(default)]
    pub small_pages: bool,
    /// Start it again whenever it ends by itself.
    #[serde(default)]
    pub restart: bool,
    /// Start it only when it is wanted, and again whenever it is wanted again.
    pub summons: Option<Summons>,
    /// Let it write its log itself; the keeper then holds nothing of it open. For those that print little.
    #[serde(default)]
    pub own_log: bool,
    /// It is a tender: it is told who its guest is, with the guest's tap, on a socket it gets as number 3.
    pub tender: Option<Tended>,
    /// It is a tender whose guest boots ahead and waits, in the pool of this name, until somebody is woken who takes it.
    pub pool: Option<String>,
    /// Number of a socket the child gets, on which it may ask for `wake` and nothing else.
    pub waker: Option<i32>,
}

impl SpawnOrder {
    /// Whether it is started more than once.
    pub fn lives_on(&self) -> bool {
        self.restart || self.summons.is_some()
    }
}

/// What starts a child that sleeps, beside `wake`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summons {
    /// Name of the held descriptor: as soon as it can be read, the child is started.
    pub held: String,
    /// The exit status that says "nobody wants me now"; every other end is a failure, after which it rests.
    pub idle_status: i32,
    /// Name of the budget its memory comes from, and how much it is.
    pub memory: Option<Share>,
}

/// Who the guest of a tender is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tended {
    /// The line that the guest is told; nobody else sees it.
    pub identity: String,
    /// Name of its held tap.
    pub tap: String,
    /// Name of the pool that it may come from.
    pub pool: Option<String>,
    /// What becomes of it when nobody wants it.
    #[serde(default)]
    pub when_idle: WhenIdle,
}

impl Tended {
    /// The words for its tender.
    pub fn told(&self) -> Vec<u8> {
        to_bytes(&Told { identity: self.identity.clone(), when_idle: self.when_idle.clone() })
    }

    /// Whether it was put away with all that it had, which no other guest has.
    pub fn is_put_away(&self) -> bool {
        matches!(&self.when_idle, WhenIdle::Snapshotted(place) if place.path.exists())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    pub budget: String,
    pub bytes: u64,
}

/// A descriptor the child gets under the number `target`; exactly one source is given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inherited {
    pub target: i32,
    /// The name of a held one.
    pub held: Option<String>,
    /// The index of one that came with the request.
    pub passed: Option<usize>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub address_space_bytes: Option<u64>,
    pub open_files: Option<u64>,
}

/// Which keeper this is; enough to tell whether it still lives.
#[derive(Serialize, Clone)]
pub struct Identity {
    pub protocol: u32,
    /// As seen from outside.
    pub pid: i32,
    pub start_ticks: u64,
    pub userns_inode: u64,
}

impl Identity {
    pub fn read(outer: &OuterProc) -> Result<Self, Failure> {
        let pid = outer.own_pid()?;
        let namespace = fstat(outer.own_namespace("user")?).context("fstat of the user namespace")?;
        let start_ticks = outer.start_ticks(pid).context("cannot read our start time")?;
        Ok(Self { protocol: PROTOCOL, pid, start_ticks, userns_inode: namespace.st_ino })
    }
}

/// A child as it is told: in lists and as an event.
#[derive(Serialize)]
pub struct ChildRow<'a> {
    pub id: &'a str,
    pub pid: i32,
    pub start_ticks: u64,
    pub spawned_at_ns: u64,
    pub state: State,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub exited_at_ns: Option<u64>,
    pub log: Option<&'a str>,
    /// Whether it is started when it is wanted.
    pub summoned: bool,
    /// Why it could not be started when it was wanted last, or what else went wrong with it since it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<&'a str>,
}

#[derive(Serialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Asleep,
    Running,
    Exited,
}

/// An answer without more to say.
pub fn done() -> Vec<u8> {
    br#"{"ok":true}"#.to_vec()
}

pub fn refusal(sentence: &str) -> Vec<u8> {
    to_bytes(&serde_json::json!({ "ok": false, "error": sentence }))
}

/// An answer with the fields of `body`.
pub fn answer(body: &impl Serialize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer<'a, T> {
        ok: bool,
        #[serde(flatten)]
        body: &'a T,
    }
    to_bytes(&Answer { ok: true, body })
}

pub fn changed_event(row: &ChildRow<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Event<'a> {
        event: &'static str,
        #[serde(flatten)]
        row: &'a ChildRow<'a>,
    }
    let event = match row.state {
        State::Asleep => "slept",
        State::Running => "woken",
        State::Exited => "exited",
    };
    to_bytes(&Event { event, row })
}

/// An answer with as many of `rows` under `key` as fit one packet.
pub fn page<T: Serialize>(key: &str, rows: impl Iterator<Item = T>, max_bytes: usize) -> Vec<u8> {
    let mut text = format!("{{\"ok\":true,\"{key}\":[").into_bytes();
    let empty = text.len();
    let mut more = false;
    for row in rows {
        let row = to_bytes(&row);
        // Room for a comma and the closing words.
        if text.len() + row.len() + 32 > max_bytes {
            more = true;
            break;
        }
        if text.len() > empty {
            text.push(b',');
        }
        text.extend(row);
    }
    text.extend(if more { &b"],\"more\":true}"[..] } else { &b"]}"[..] });
    text
}

fn to_bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("these values have string keys and no foreign code")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request, String> {
        serde_json::from_str(text).map_err(|why| why.to_string())
    }

    #[test]
    fn reads_a_whole_spawn() {
        let text = r#"{"op":"spawn","id":"web-1","argv":["/bin/true"],"netns":"netns/h1","log":"/tmp/x.log",
            "fds":[{"target":3,"held":"tap/web-1"},{"target":4,"passed":0}],"limits":{"open_files":9},"nice":5}"#;
        let Ok(Request::Spawn(order)) = read(text) else { panic!("not a spawn") };
        assert_eq!((order.fds.len(), order.limits.open_files, order.privileged), (2, Some(9), false));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in [
            "",
            "[]",
            "{}",
            "7",
            r#"{"op":"dance"}"#,
            r#"{"op":"hold"}"#,
            r#"{"op":"signal","id":"x","signal":"TERM"}"#,
            r#"{"op":"spawn","id":"x","argv":["/x"],"color":1}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_page_says_when_there_is_more() {
        let all = page("names", ["a", "b"].iter(), 1000);
        assert_eq!(all, br#"{"ok":true,"names":["a","b"]}"#);
        let some = page("names", ["a", "b", "c"].iter(), 60);
        assert!(some.len() <= 60 && some.ends_with(br#""more":true}"#));
    }

    #[test]
    fn an_answer_flattens_its_body() {
        let identity = Identity { protocol: 1, pid: 7, start_ticks: 8, userns_inode: 9 };
        assert_eq!(answer(&identity), br#"{"ok":true,"protocol":1,"pid":7,"start_ticks":8,"userns_inode":9}"#);
    }
}
