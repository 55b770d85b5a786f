//! The roles, and the protocols they speak.

pub mod aggregator;
pub mod cache;
pub mod coap;
pub mod http;
pub mod later;
pub mod measurement;
pub mod origin;
pub mod proxy;
pub mod reply;
pub mod server;
pub mod web;
#[cfg(test)]
mod wire;

use smoltcp::iface::{Interface, SocketSet};
use smoltcp::time::Instant;

/// A role: polled after every turn of the network.
pub trait App {
    /// Moves on whatever can be moved on; says whether anything changed.
    fn poll(&mut self, interface: &mut Interface, sockets: &mut SocketSet<'static>, now: Instant) -> bool;

    /// When to be polled at the latest, whatever arrives.
    fn poll_at(&self, now: Instant) -> Option<Instant>;

    /// When somebody last wanted something of it; a guest that is summoned sleeps some time after.
    fn wanted_at(&self, now: Instant) -> Instant;

    /// Shall finish what it has: the guest ends once nobody is here any more.
    fn leave(&mut self, _now: Instant) {}
}
