//! Brings the interface up and keeps polling: network, role, sleep.

use crate::app::App;
use crate::config::{Addressing, Config, ConfigError};
use crate::content::{Archive, CONTENT_ADDRESS, ImageHeader, MAGIC};
use crate::hal;
use alloc::string::ToString;
use alloc::vec::Vec;
use smoltcp::iface::{Config as InterfaceConfig, Interface, SocketSet};
use smoltcp::phy::ChecksumCapabilities;
#[cfg(feature = "microvm")]
use smoltcp::phy::{Device, TxToken};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, HardwareAddress,
    Icmpv6Packet, Icmpv6Repr, IpCidr, IpProtocol, Ipv4Address, Ipv6Address, Ipv6Cidr, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags,
    NdiscRepr,
};

/// The interface forgets a hardware address after a minute; then the first answer to a stranger would be lost.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(50);

/// A guest that was told to leave stays for so long after that, and after the last request.
const LEAVE_AFTER: core::time::Duration = core::time::Duration::from_millis(200);

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
            .ok_or(ConfigError { key: "confidential".to_string(), reason: "is announced, but cannot be read" })?;
        config = Config::parse(&[options, hal::configuration(), &line])?;
    }
    // A network card comes first: what it takes from now on waits in it until we know who we are.
    let mut device = hal::device(&config)?;
    #[cfg(feature = "microvm")]
    if let Some(when) = config.get("told") {
        if when == "later" {
            crate::rehearsal::rehearse(&mut device, make, options, archive_of(archive_bytes)?);
        }
        config = Config::parse(&[options, hal::configuration(), &hal::told(&mut device)])?;
    }
    let addressing = Addressing::read(&config)?;
    let archive = archive_of(archive_bytes)?;
    let mac = addressing.mac.or(device.mac()).ok_or(ConfigError { key: "mac".to_string(), reason: "is missing" })?;
    let mut interface = interface(&addressing, mac, &mut device);
    let mut sockets = SocketSet::new(alloc::vec![]);
    let mut app = make(&config, archive, &mut sockets)?;
    hal::seal();
    let mut announce_at = Instant::ZERO;
    let mut idle_from = hal::now();
    let mut is_leaving = false;
    let mut idle = config.get("idle").map(|_| config.duration("idle", core::time::Duration::ZERO)).transpose()?;
    loop {
        let now = hal::now();
        if now >= announce_at {
            match addressing.gateway_mac {
                Some(its) => answers_of(&addressing, its, mac).for_each(|frame| device.give(frame)),
                #[cfg(feature = "microvm")]
                None => announce(&addressing, mac, &mut device),
                // A program's host always knows it.
                #[cfg(not(feature = "microvm"))]
                None => {}
            }
            announce_at = now + ANNOUNCE_EVERY;
        }
        interface.poll(now, &mut device, &mut sockets);
        if device.is_told_to_leave() && !is_leaving {
            app.leave(now);
            (is_leaving, idle_from, idle) = (true, now, Some(LEAVE_AFTER));
        }
        if app.poll(&mut interface, &mut sockets, now) {
            continue;
        }
        let sleep_at = idle.map(|idle| app.wanted_at(now).max(idle_from) + idle.into());
        if sleep_at.is_some_and(|at| at <= now) {
            hal::rest(&mut device, is_leaving);
            idle_from = hal::now();
            continue;
        }
        let wake = [interface.poll_at(now, &sockets), app.poll_at(now), Some(announce_at), sleep_at];
        let wake = wake.into_iter().flatten().min();
        hal::wait(&mut device, wake);
    }
}

fn archive_of(bytes: &'static [u8]) -> Result<Archive<'static>, ConfigError> {
    Archive::parse(bytes).ok_or(ConfigError { key: "content".to_string(), reason: "is damaged; build it again" })
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
        let ipv6 = addressing.ipv6.into_iter().flat_map(|own| [own, link_local(mac)]).map(IpCidr::Ipv6);
        for address in ipv6.chain([IpCidr::Ipv4(addressing.ipv4)]) {
            list.push(address).expect("three addresses fit");
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

/// The gateway's answers to the question for its hardware address in both families, as if we had asked.
fn answers_of(addressing: &Addressing, its: EthernetAddress, mac: EthernetAddress) -> impl Iterator<Item = Vec<u8>> {
    let ipv4 = addressing.gateway.map(|gateway| arp(gateway, addressing.ipv4.address(), its, Some(mac)));
    let ipv6 = addressing.ipv6.zip(addressing.gateway_ipv6).map(|(own, target_addr)| {
        let answer = NdiscRepr::NeighborAdvert { flags: NdiscNeighborFlags::OVERRIDE, target_addr, lladdr: Some(its.into()) };
        ndisc(target_addr, own.address(), its, mac, answer)
    });
    [ipv4, ipv6].into_iter().flatten()
}

/// The address that every interface has on its own link (RFC 4291, 2.5.6); routers ask from theirs who we are.
fn link_local(EthernetAddress([a, b, c, d, e, f]): EthernetAddress) -> Ipv6Cidr {
    let pair = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Cidr::new(Ipv6Address::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f)), 64)
}

/// Asks for the gateway's hardware address in both families. The gateway learns ours from the question, and so sends at
/// once what it has kept waiting for us; and we answer the first packet of a client beyond it.
#[cfg(feature = "microvm")]
fn announce(addressing: &Addressing, mac: EthernetAddress, device: &mut hal::NetDevice) {
    send(arp(addressing.ipv4.address(), addressing.gateway.unwrap_or(addressing.ipv4.address()), mac, None), device);
    if let (Some(own), Some(gateway)) = (addressing.ipv6, addressing.gateway_ipv6) {
        send(question_ipv6(own.address(), gateway, mac), device);
    }
}

/// The question of `own` for `other`, or with `asker` the answer to it.
fn arp(own: Ipv4Address, other: Ipv4Address, mac: EthernetAddress, asker: Option<EthernetAddress>) -> Vec<u8> {
    let what = ArpRepr::EthernetIpv4 {
        operation: if asker.is_some() { ArpOperation::Reply } else { ArpOperation::Request },
        source_hardware_addr: mac,
        source_protocol_addr: own,
        target_hardware_addr: asker.unwrap_or(EthernetAddress([0; 6])),
        target_protocol_addr: other,
    };
    let dst_addr = asker.unwrap_or(EthernetAddress::BROADCAST);
    let (mut bytes, at) = frame(mac, dst_addr, EthernetProtocol::Arp, what.buffer_len());
    what.emit(&mut ArpPacket::new_unchecked(&mut bytes[at..]));
    bytes
}

#[cfg(feature = "microvm")]
fn question_ipv6(own: Ipv6Address, gateway: Ipv6Address, mac: EthernetAddress) -> Vec<u8> {
    let question = NdiscRepr::NeighborSolicit { target_addr: gateway, lladdr: Some(mac.into()) };
    // The solicited-node multicast address of the gateway (RFC 4291, 2.7.1).
    let [.., b, c, d] = gateway.octets();
    let everybody_alike = Ipv6Address::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(b), u16::from_be_bytes([c, d]));
    ndisc(own, everybody_alike, mac, EthernetAddress([0x33, 0x33, 0xff, b, c, d]), question)
}

/// What one neighbour says to another (RFC 4861): nobody on the way has counted it down.
fn ndisc(
    src_addr: Ipv6Address,
    dst_addr: Ipv6Address,
    from: EthernetAddress,
    to: EthernetAddress,
    what: NdiscRepr<'_>,
) -> Vec<u8> {
    let what = Icmpv6Repr::Ndisc(what);
    let payload_len = what.buffer_len();
    let ip = Ipv6Repr { src_addr, dst_addr, next_header: IpProtocol::Icmpv6, payload_len, hop_limit: 255 };
    let (mut bytes, at) = frame(from, to, EthernetProtocol::Ipv6, ip.buffer_len() + payload_len);
    let mut packet = Ipv6Packet::new_unchecked(&mut bytes[at..]);
    ip.emit(&mut packet);
    let checksums = ChecksumCapabilities::default();
    what.emit(&src_addr, &dst_addr, &mut Icmpv6Packet::new_unchecked(packet.payload_mut()), &checksums);
    bytes
}

/// An Ethernet frame, and where what it carries begins.
fn frame(src_addr: EthernetAddress, dst_addr: EthernetAddress, ethertype: EthernetProtocol, bytes: usize) -> (Vec<u8>, usize) {
    let header = EthernetFrame::<&[u8]>::header_len();
    let mut bytes = alloc::vec![0; header + bytes];
    EthernetRepr { src_addr, dst_addr, ethertype }.emit(&mut EthernetFrame::new_unchecked(&mut bytes));
    (bytes, header)
}

#[cfg(feature = "microvm")]
fn send(frame: Vec<u8>, device: &mut hal::NetDevice) {
    if let Some(token) = device.transmit(Instant::ZERO) {
        token.consume(frame.len(), |bytes| bytes.copy_from_slice(&frame));
    }
}
