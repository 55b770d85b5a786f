//! What the keeper tells a tender, and the tender the keeper, on the socket between them.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Who a guest is, and what becomes of it when nobody wants it.
#[derive(Serialize, Deserialize)]
pub struct Told {
    pub identity: String,
    pub when_idle: WhenIdle,
}

/// What becomes of a guest that nobody wants.
#[derive(Serialize, Deserialize, Clone, Default)]
#[serde(rename_all = "lowercase")]
pub enum WhenIdle {
    /// It ends.
    #[default]
    Deleted,
    /// Its hypervisor is stopped, and goes on when a frame comes.
    Stopped,
    /// It is written into a file, from which the next start takes it up.
    Snapshotted(Place),
}

/// Where a guest's snapshot is.
#[derive(Serialize, Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub struct Place {
    pub path: PathBuf,
    /// What the snapshot belongs to: only a guest with the same key takes it up.
    pub key: String,
}

/// What a tender says of its guest.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// It has booted, or has been taken up.
    Ready,
    /// It is stopped.
    Asleep,
    /// It goes on.
    Awake,
    /// Something that a person should know.
    Trouble(String),
}

const TROUBLE: &str = "trouble ";

impl News {
    pub fn read(bytes: &[u8]) -> Option<Self> {
        match std::str::from_utf8(bytes).ok()? {
            "ready" => Some(Self::Ready),
            "asleep" => Some(Self::Asleep),
            "awake" => Some(Self::Awake),
            text => text.strip_prefix(TROUBLE).map(|why| Self::Trouble(why.into())),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Ready => "ready".into(),
            Self::Asleep => "asleep".into(),
            Self::Awake => "awake".into(),
            Self::Trouble(why) => format!("{TROUBLE}{why}").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_come_over_as_they_were_sent() {
        for news in [News::Ready, News::Asleep, News::Awake, News::Trouble("the disk is full".into())] {
            assert_eq!(News::read(&news.bytes()), Some(news));
        }
        assert_eq!((News::read(b"dance"), News::read(b"\xff"), News::read(b"")), (None, None, None));
    }
}
