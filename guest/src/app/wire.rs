//! A network for tests: every packet comes back to the interface that sent it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use smoltcp::iface::{Config, Interface};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Packet, TcpPacket};

/// The server's.
pub const PORT: u16 = 80;
const ETHERNET_BYTES: usize = 14;

/// What is sent arrives, but for what is lost.
pub struct Wire {
    pub under_way: VecDeque<Vec<u8>>,
    pub lost_per_mille: u64,
    random: u64,
    pub resets_by_server: usize,
}

impl Wire {
    pub fn new() -> Self {
        Self { under_way: VecDeque::new(), lost_per_mille: 0, random: 1, resets_by_server: 0 }
    }

    /// An interface on it with the address 127.0.0.1.
    pub fn interface(&mut self, now: Instant) -> Interface {
        let mut interface = Interface::new(Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into()), self, now);
        interface.update_ip_addrs(|list| list.push(IpCidr::new(IpAddress::v4(127, 0, 0, 1), 8)).unwrap());
        interface
    }

    pub fn send(&mut self, packet: Vec<u8>) {
        if let Ok(ip) = Ipv4Packet::new_checked(&packet[ETHERNET_BYTES..]) {
            let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
            self.resets_by_server += usize::from(tcp.rst() && tcp.src_port() == PORT);
        }
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (self.random >> 33) % 1000 >= self.lost_per_mille {
            self.under_way.push_back(packet);
        }
    }
}

pub struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl TxToken for &mut Wire {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut packet = alloc::vec![0; length];
        let result = fill(&mut packet);
        self.send(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = &'a mut Wire;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, &mut Wire)> {
        let packet = self.under_way.pop_front()?;
        Some((Arrived(packet), self))
    }

    fn transmit(&mut self, _: Instant) -> Option<&mut Wire> {
        Some(self)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        (capabilities.medium, capabilities.max_transmission_unit) = (Medium::Ethernet, 1514);
        capabilities
    }
}
