//! Brings the interface up and keeps polling: network, role, sleep.

use crate::app::App;
use crate::config::{Addressing, Config, ConfigError};
use crate::content::{Archive, CONTENT_ADDRESS, ImageHeader, MAGIC};
use crate::hal;
use alloc::string::ToString;
use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketSet};
use smoltcp::phy::{Device, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, HardwareAddress, IpCidr,
    Ipv4Address,
};

/// Makes a role from its configuration and content.
pub type Make<A> = fn(&Config, Archive<'static>, &mut SocketSet<'static>) -> Result<A, ConfigError>;

/// Runs a role for ever.
pub fn run<A: App>(header: &'static ImageHeader, make: Make<A>) -> ! {
    match start(header, make) {
        Err(error) => hal::exit(format_args!("bad-config: {error}")),
        Ok(never) => match never {},
    }
}

fn start<A: App>(header: &'static ImageHeader, make: Make<A>) -> Result<core::convert::Infallible, ConfigError> {
    let (options, archive_bytes) = baked_in(header);
    let mut config = Config::parse(&[options, hal::configuration()])?;
    if config.get("confidential").is_some() {
        let line = hal::confidential()
            .ok_or(ConfigError { key: "confidential".to_string(), reason: "is announced, but the line cannot be read" })?;
        config = Config::parse(&[options, hal::configuration(), &line])?;
    }
    let addressing = Addressing::read(&config)?;
    let archive = Archive::parse(archive_bytes)
        .ok_or(ConfigError { key: "content".to_string(), reason: "is damaged; build the image again" })?;
    let mut device = hal::device(&config)?;
    let mac = addressing.mac.or(device.mac()).ok_or(ConfigError { key: "mac".to_string(), reason: "is missing" })?;
    let mut interface = interface(&addressing, mac, &mut device);
    let mut sockets = SocketSet::new(alloc::vec![]);
    let mut app = make(&config, archive, &mut sockets)?;
    hal::seal();
    announce(&addressing, mac, &mut device);
    loop {
        let now = hal::now();
        interface.poll(now, &mut device, &mut sockets);
        if app.poll(&mut sockets, now) {
            continue;
        }
        let wake = [interface.poll_at(now, &sockets), app.poll_at(now)].into_iter().flatten().min();
        hal::wait(&mut device, wake);
    }
}

/// The options line and the archive that the image builder appended.
#[allow(unsafe_code)]
fn baked_in(header: &'static ImageHeader) -> (&'static str, &'static [u8]) {
    // SAFETY: volatile, since the builder changes the header after it was compiled.
    let header = unsafe { core::ptr::read_volatile(header) };
    if header.magic != MAGIC || header.options_bytes + header.archive_bytes == 0 {
        return ("", &[]);
    }
    // SAFETY: the builder made a read-only segment of just this length at this address, and the loader mapped it.
    let bytes = unsafe {
        core::slice::from_raw_parts(CONTENT_ADDRESS as *const u8, (header.options_bytes + header.archive_bytes) as usize)
    };
    let (options, archive) = bytes.split_at(header.options_bytes as usize);
    (core::str::from_utf8(options).unwrap_or(""), archive)
}

fn interface(addressing: &Addressing, mac: EthernetAddress, device: &mut hal::NetDevice) -> Interface {
    let mut config = InterfaceConfig::new(HardwareAddress::Ethernet(mac));
    config.random_seed = hal::random_seed();
    let mut interface = Interface::new(config, device, hal::now());
    interface.update_ip_addrs(|list| {
        let ipv6 = addressing.ipv6.map(IpCidr::Ipv6);
        for address in [Some(IpCidr::Ipv4(addressing.ipv4)), ipv6].into_iter().flatten() {
            let _ = list.push(address);
        }
    });
    if let Some(gateway) = addressing.gateway {
        let _ = interface.routes_mut().add_default_ipv4_route(gateway);
    }
    if let Some(gateway) = addressing.gateway_ipv6 {
        let _ = interface.routes_mut().add_default_ipv6_route(gateway);
    }
    interface
}

/// Asks for the gateway's hardware address. The gateway learns ours from the question, and so sends at once what it
/// has kept waiting for us.
fn announce(addressing: &Addressing, mac: EthernetAddress, device: &mut hal::NetDevice) {
    let ours: Ipv4Address = addressing.ipv4.address();
    let question = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: mac,
        source_protocol_addr: ours,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: addressing.gateway.unwrap_or(ours),
    };
    let ethernet = EthernetRepr { src_addr: mac, dst_addr: EthernetAddress::BROADCAST, ethertype: EthernetProtocol::Arp };
    let length = EthernetFrame::<&[u8]>::header_len() + question.buffer_len();
    if let Some(token) = device.transmit(Instant::ZERO) {
        token.consume(length, |bytes| {
            let mut frame = EthernetFrame::new_unchecked(bytes);
            ethernet.emit(&mut frame);
            question.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
        });
    }
}
