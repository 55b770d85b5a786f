//! What a controller says to the delay lines, as JSON packets, each answered by one.
//!
//! An answer repeats the `tag` of its request: whoever takes over from a controller that was killed between asking
//! and reading can tell old answers from its own.

use super::line::{Counts, LATE_BOUNDS_US, Shape};
use serde::{Deserialize, Serialize};

/// The tag alone, for requests that make no sense otherwise.
#[derive(Deserialize)]
pub struct Tagged {
    #[serde(default)]
    pub tag: u64,
}

#[derive(Deserialize)]
pub struct Request {
    #[serde(default)]
    pub tag: u64,
    #[serde(flatten)]
    pub order: Order,
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Order {
    Set {
        queues: Vec<Declared>,
    },
    Remove {
        ids: Vec<String>,
    },
    Stats {
        #[serde(default)]
        after: String,
    },
}

/// One direction of a link.
#[derive(Deserialize)]
pub struct Declared {
    pub id: String,
    /// Which of the passed descriptors is the receiving network namespace; needed when the line is new.
    pub netns: Option<usize>,
    /// The NFQUEUE number in that namespace.
    pub queue: u16,
    #[serde(flatten)]
    pub shape: DeclaredShape,
}

#[derive(Deserialize, Clone, Copy)]
pub struct DeclaredShape {
    delay_us: u64,
    #[serde(default)]
    jitter_us: u64,
    #[serde(default)]
    loss_ppm: u32,
    #[serde(default = "default_limit")]
    limit_packets: u32,
    #[serde(default)]
    seed: u64,
}

const fn default_limit() -> u32 {
    10_000
}

const MAX_DELAY_US: u64 = 60_000_000;
const MAX_LIMIT_PACKETS: u32 = 1_000_000;

impl DeclaredShape {
    /// The shape, if it makes sense.
    pub fn check(self) -> Result<Shape, String> {
        let Self { delay_us, jitter_us, loss_ppm, limit_packets, seed } = self;
        if delay_us > MAX_DELAY_US || jitter_us > MAX_DELAY_US {
            return Err(format!("delay_us {delay_us} or jitter_us {jitter_us} is above {MAX_DELAY_US}"));
        }
        if loss_ppm > 1_000_000 {
            return Err(format!("loss_ppm {loss_ppm} is above 1000000"));
        }
        if !(1..=MAX_LIMIT_PACKETS).contains(&limit_packets) {
            return Err(format!("limit_packets {limit_packets} is not between 1 and {MAX_LIMIT_PACKETS}"));
        }
        Ok(Shape { delay_us, jitter_us, loss_ppm, limit_packets: limit_packets as usize, seed })
    }
}

/// What one line has done.
#[derive(Serialize)]
pub struct Row<'a> {
    pub id: &'a str,
    pub waiting: usize,
    pub delayed: u64,
    pub dropped_by_loss: u64,
    pub dropped_by_limit: u64,
    /// Packets by how late they went, in the classes of `late_bounds_us`.
    pub late: [u64; LATE_BOUNDS_US.len() + 1],
}

impl<'a> Row<'a> {
    pub fn new(id: &'a str, waiting: usize, counts: &Counts) -> Self {
        let Counts { delayed, lost, overflowed, late } = *counts;
        Self { id, waiting, delayed, dropped_by_loss: lost, dropped_by_limit: overflowed, late }
    }
}

#[derive(Serialize)]
pub struct Stats<'a> {
    pub late_bounds_us: [u64; LATE_BOUNDS_US.len()],
    pub queues: Vec<Row<'a>>,
    pub more: bool,
}

#[derive(Serialize)]
pub struct Answer<T> {
    pub tag: u64,
    pub ok: bool,
    #[serde(flatten)]
    pub body: T,
}

#[derive(Serialize)]
pub struct Refusal {
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_body_is_whole() {
        let text = serde_json::to_string(&Answer { tag: 3, ok: true, body: () }).unwrap();
        assert_eq!(text, r#"{"tag":3,"ok":true}"#);
    }

    #[test]
    fn reads_a_whole_set() {
        let text = r#"{"op":"set","tag":4,"queues":[{"id":"h1>h2","netns":0,"queue":7,"delay_us":5000,
            "jitter_us":0,"loss_ppm":10000,"limit_packets":10000,"seed":1}]}"#;
        let request: Request = serde_json::from_str(text).unwrap();
        let Order::Set { queues } = request.order else { panic!("not a set") };
        let shape = queues[0].shape.check().unwrap();
        assert_eq!((request.tag, queues[0].queue, shape.delay_us, shape.loss_ppm), (4, 7, 5_000, 10_000));
    }

    #[test]
    fn refuses_nonsense() {
        let check = |fields: &str| {
            let text = format!(r#"{{"id":"x","queue":7,{fields}}}"#);
            serde_json::from_str::<Declared>(&text).map_err(|why| why.to_string())?.shape.check()
        };
        assert!(check(r#""delay_us":1"#).is_ok());
        for fields in [
            r#""delay_us":-1"#,
            r#""delay_us":61000000"#,
            r#""delay_us":1,"loss_ppm":1000001"#,
            r#""delay_us":1,"limit_packets":0"#,
            r#""jitter_us":1"#,
        ] {
            assert!(check(fields).is_err(), "{fields}");
        }
    }
}
