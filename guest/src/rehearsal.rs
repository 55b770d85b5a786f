//! A rehearsal: before a guest of a warm pool says that it is ready, its role answers one request of its own.
//!
//! What runs for the first time is slow: instructions are translated, caches filled, pages given. A guest that waits
//! has time for that.

use crate::app::App;
use crate::config::Config;
use crate::content::Archive;
use crate::hal;
use crate::net::Make;
use alloc::vec;
use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, Ipv4Address};

const ADDRESS: Ipv4Address = Ipv4Address::new(10, 0, 0, 1);
const MAC: EthernetAddress = EthernetAddress([2, 0, 10, 0, 0, 1]);
/// One socket is enough, and it is never given back. A proxy asks an origin that refuses, and keeps nothing.
const LINE: &str = "name=rehearsal port=80 connections=1 origin=10.0.0.1:9 origin-connections=1 cache=0";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: rehearsal\r\nConnection: close\r\n\r\n";
const BUFFER_BYTES: usize = 4096;
const CLIENT_PORT: u16 = 50_000;
/// An exchange takes some ten turns; one that does not work must not keep the guest.
const TURNS: usize = 100;

/// Plays one exchange with a role; whatever comes of it is forgotten.
pub fn rehearse<A: App>(device: &mut hal::NetDevice, make: Make<A>, options: &str, archive: Archive<'static>) {
    device.turn_back(true);
    play(device, make, options, archive);
    device.turn_back(false);
}

fn play<A: App>(device: &mut hal::NetDevice, make: Make<A>, options: &str, archive: Archive<'static>) {
    let Ok(config) = Config::parse(&[options, LINE]) else { return };
    let mut interface = Interface::new(InterfaceConfig::new(HardwareAddress::Ethernet(MAC)), device, hal::now());
    interface.update_ip_addrs(|list| _ = list.push(IpCidr::new(ADDRESS.into(), 24)));
    let mut sockets = SocketSet::new(vec![]);
    let Ok(mut app) = make(&config, archive, &mut sockets) else { return };
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
    let client = sockets.add(tcp::Socket::new(buffer(), buffer()));
    let _ = sockets.get_mut::<tcp::Socket>(client).connect(interface.context(), (ADDRESS, 80), CLIENT_PORT);
    let mut is_sent = false;
    for _ in 0..TURNS {
        let now = hal::now();
        interface.poll(now, device, &mut sockets);
        app.poll(&mut interface, &mut sockets, now);
        let socket = sockets.get_mut::<tcp::Socket>(client);
        if !is_sent && socket.can_send() {
            is_sent = socket.send_slice(REQUEST).is_ok();
        }
        let _ = socket.recv(|bytes| (bytes.len(), ()));
        if is_sent && !socket.may_recv() {
            return;
        }
    }
}
