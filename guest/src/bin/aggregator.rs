//! The image `aggregator`.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use core::num::NonZeroU16;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::udp;
use smoltcp::time::Instant;
use smoltcp::wire::IpEndpoint;
use wisp_guest::app::App;
use wisp_guest::app::aggregator::Aggregator;
use wisp_guest::app::coap::{self, Exchanges, Malformed};
use wisp_guest::app::server::Server;
use wisp_guest::config::{Config, ConfigError};
use wisp_guest::content::Archive;
use wisp_guest::hal;

wisp_guest::image!(make);

const HTTP_PORT: NonZeroU16 = NonZeroU16::new(80).unwrap();
const COAP_PORT: NonZeroU16 = NonZeroU16::new(5683).unwrap();
const DATAGRAMS: usize = 32;
/// As much as one Ethernet frame can bring.
const DATAGRAM_BYTES: usize = 1472;

struct Role {
    aggregator: Aggregator,
    server: Server,
    coap: SocketHandle,
    exchanges: Exchanges,
    next_id: u16,
    datagram_at: Instant,
}

fn make(config: &Config, _: Archive<'static>, sockets: &mut SocketSet<'static>) -> Result<Role, ConfigError> {
    let buffer =
        || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; DATAGRAMS], hal::fresh(DATAGRAMS / 2 * DATAGRAM_BYTES));
    let mut socket = udp::Socket::new(buffer(), buffer());
    // Only port 0 and a bound socket are refused.
    let _ = socket.bind(config.parsed("coap_port", COAP_PORT)?.get());
    let server = Server::new(sockets, config.parsed("port", HTTP_PORT)?.get(), config.parsed("connections", 16)?, hal::fresh);
    Ok(Role {
        aggregator: Aggregator::new(config)?,
        server: server.with_health(config.get("health").unwrap_or("/health")),
        coap: sockets.add(socket),
        exchanges: Exchanges::default(),
        next_id: 0,
        datagram_at: Instant::ZERO,
    })
}

impl Role {
    /// Gives the bytes to answer a datagram with, if any.
    fn answer(&mut self, bytes: &[u8], from: IpEndpoint, now_ms: u64) -> Option<vec::Vec<u8>> {
        let message = match coap::parse(bytes) {
            Ok(message) => message,
            Err(Malformed::Reset(id)) => return Some(coap::reset(id)),
            Err(Malformed::Ignore) => return None,
        };
        if !matches!(message.kind, coap::Kind::Confirmable | coap::Kind::NonConfirmable) {
            return None;
        }
        if let Some(answer) = self.exchanges.find(from, message.id, now_ms) {
            return Some(answer.to_vec());
        }
        self.next_id = self.next_id.wrapping_add(1);
        let reply = self.aggregator.coap(&message, now_ms);
        let answer = coap::reply(&message, &reply, self.next_id);
        self.exchanges.keep(from, message.id, now_ms, &answer);
        Some(answer)
    }
}

impl App for Role {
    fn poll(&mut self, _: &mut Interface, sockets: &mut SocketSet<'static>, now: Instant) -> bool {
        let now_ms = now.total_millis() as u64;
        let mut changed = false;
        let mut datagram = [0; DATAGRAM_BYTES];
        while let Ok((length, meta)) = sockets.get_mut::<udp::Socket>(self.coap).recv_slice(&mut datagram) {
            (changed, self.datagram_at) = (true, now);
            if let Some(answer) = self.answer(&datagram[..length], meta.endpoint, now_ms) {
                // A full buffer loses the answer; the client asks again.
                let _ = sockets.get_mut::<udp::Socket>(self.coap).send_slice(&answer, meta);
            }
        }
        let aggregator = &mut self.aggregator;
        self.server.poll(sockets, now, &mut |request| aggregator.http(request, now_ms).into()) || changed
    }

    fn poll_at(&self, _now: Instant) -> Option<Instant> {
        self.server.poll_at()
    }

    fn wanted_at(&self, now: Instant) -> Instant {
        let wanted_at = self.server.wanted_at(now);
        // Sensors never fall silent, so whoever leaves does not wait for that.
        if self.server.is_leaving() { wanted_at } else { wanted_at.max(self.datagram_at) }
    }

    fn leave(&mut self, now: Instant) {
        self.server.leave(now);
    }
}
