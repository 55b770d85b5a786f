//! The keeper's socket: on it we are told who our guest is, and tell how it is.

use super::told::{News, Told};
use crate::seqpacket::{self, Received};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A frame's worth of words for the guest, each as JSON may write it, and where its snapshot is.
const LONGEST_ORDER: usize = 32 * 1024;

pub struct Control(OwnedFd);

impl Control {
    pub fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Who the guest is, with its tap; `None` when nobody has said so yet.
    pub fn hear(&self) -> Result<Option<(Told, OwnedFd)>, String> {
        let mut order = vec![0; LONGEST_ORDER];
        match seqpacket::receive(self.socket(), &mut order) {
            Ok(Received::Packet { bytes, mut descriptors }) if descriptors.len() == 1 => {
                let told = serde_json::from_slice(&order[..bytes]).map_err(|why| why.to_string())?;
                Ok(descriptors.pop().map(|tap| (told, tap)))
            }
            Err(why) if why.kind() == ErrorKind::WouldBlock => Ok(None),
            _ => Err("was not told".into()),
        }
    }

    /// Tells how the guest is; nobody may be listening.
    pub fn tell(&self, news: &News) {
        let _ = seqpacket::send(self.socket(), &news.bytes(), &[]);
    }

    /// Tells of something that a person should know, here and in the log.
    pub fn complain(&self, why: String) {
        println!("wisp-tender: {why}");
        self.tell(&News::Trouble(why));
    }
}
