//! The network card: virtio over MMIO.

use super::interrupt;
use crate::config::{Config, ConfigError};
use crate::hal;
use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::ptr::NonNull;
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;
use smoltcp::wire::EthernetAddress;
use virtio_drivers::device::net::VirtIONetRaw;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

const QUEUE: usize = 32;
const HEADER_BYTES: usize = 12;
const FRAME_BYTES: usize = 1514;
const BUFFER_BYTES: usize = HEADER_BYTES + FRAME_BYTES + 2;

type Card = VirtIONetRaw<Memory, MmioTransport<'static>, QUEUE>;
type Buffer = [u8; BUFFER_BYTES];

/// Memory for the card: addresses are the same for it and for us.
struct Memory;

// SAFETY: blocks come from the heap, page-aligned and zeroed; everything is mapped one to one.
unsafe impl Hal for Memory {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: the layout is not empty.
        let block = unsafe { alloc_zeroed(layout(pages)) };
        (block as PhysAddr, NonNull::new(block).unwrap_or(NonNull::dangling()))
    }

    unsafe fn dma_dealloc(_: PhysAddr, block: NonNull<u8>, pages: usize) -> i32 {
        // SAFETY: the block was given by `dma_alloc` for as many pages.
        unsafe { dealloc(block.as_ptr(), layout(pages)) };
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        NonNull::new(address as *mut u8).unwrap_or(NonNull::dangling())
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

fn layout(pages: usize) -> Layout {
    Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).expect("a few pages")
}

/// The card with its buffers. Frames to send wait in their buffers until the card has taken them.
pub struct NetDevice {
    card: Card,
    receiving: Vec<(u16, NonNull<Buffer>)>,
    sending: Vec<(u16, NonNull<Buffer>)>,
    free: Vec<NonNull<Buffer>>,
    /// Frames to receive before all others.
    given: VecDeque<Vec<u8>>,
    /// Whether what is sent comes back.
    turns_back: bool,
    is_told_to_leave: bool,
    /// Whether our tender carries our frames, so that it can hold them back.
    is_tended: bool,
}

pub fn device(config: &Config) -> Result<NetDevice, ConfigError> {
    let problem = |reason| ConfigError { key: "virtio_mmio.device".to_string(), reason };
    let (address, line) = config.get("virtio_mmio.device").and_then(place).ok_or(problem("names no network card"))?;
    let header = NonNull::new(address as *mut VirtIOHeader).ok_or(problem("names address 0"))?;
    // SAFETY: the hypervisor named the card's place, and the page tables map it.
    let transport = unsafe { MmioTransport::new(header, 512) }.map_err(|_| problem("is no virtio device"))?;
    let card = Card::new(transport).map_err(|_| problem("is no network card"))?;
    interrupt::route(line);
    let mut device = NetDevice {
        card,
        receiving: Vec::with_capacity(QUEUE),
        sending: Vec::with_capacity(QUEUE),
        free: Vec::with_capacity(QUEUE),
        given: VecDeque::new(),
        turns_back: false,
        is_told_to_leave: false,
        is_tended: config.get("told").is_some(),
    };
    for _ in 0..QUEUE {
        device.offer(buffer());
        device.free.push(buffer());
    }
    device.card.enable_interrupts();
    Ok(device)
}

fn buffer() -> NonNull<Buffer> {
    NonNull::from(alloc::boxed::Box::leak(alloc::boxed::Box::new([0; BUFFER_BYTES])))
}

/// Reads `512@0xfeb02e00:12`: address and interrupt line.
fn place(text: &str) -> Option<(usize, u32)> {
    let (_, rest) = text.split_once('@')?;
    let (address, line) = rest.split_once(':')?;
    Some((usize::from_str_radix(address.strip_prefix("0x")?, 16).ok()?, line.parse().ok()?))
}

impl NetDevice {
    pub fn mac(&self) -> Option<EthernetAddress> {
        Some(EthernetAddress(self.card.mac_address()))
    }

    /// Acknowledges the card's interrupt; says whether a frame waits.
    pub fn has_frame(&mut self) -> bool {
        self.has_arrived() || !self.given.is_empty()
    }

    /// Acknowledges the card's interrupt; says whether the card has a frame.
    pub fn has_arrived(&mut self) -> bool {
        self.card.ack_interrupt();
        self.card.poll_receive().is_some()
    }

    /// Takes the next frame off the card.
    pub fn take(&mut self) -> Option<Received> {
        let token = self.card.poll_receive()?;
        let index = self.receiving.iter().position(|(given, _)| *given == token)?;
        let (_, mut buffer) = self.receiving.swap_remove(index);
        // SAFETY: the same buffer as at `receive_begin`.
        let (header, length) = unsafe { self.card.receive_complete(token, buffer.as_mut()) }.ok()?;
        let mut frame = [0; FRAME_BYTES];
        let length = length.min(FRAME_BYTES);
        // SAFETY: the card has given the buffer back.
        frame[..length].copy_from_slice(unsafe { &buffer.as_ref()[header..header + length] });
        self.offer(buffer);
        self.is_told_to_leave |= hal::is_farewell(&frame[..length]);
        Some(Received { frame, length })
    }

    /// Has a frame be received before all others.
    pub fn give(&mut self, frame: Vec<u8>) {
        self.given.push_back(frame);
    }

    /// Has what is sent come back, or no longer; what is still on the way is lost.
    pub fn turn_back(&mut self, turns_back: bool) {
        self.turns_back = turns_back;
        self.given.clear();
    }

    pub fn is_told_to_leave(&self) -> bool {
        self.is_told_to_leave
    }

    pub fn is_tended(&self) -> bool {
        self.is_tended
    }

    /// Returns when the card has sent all that it was given: what it still has at our end is lost.
    pub fn send_all(&mut self) {
        while !self.sending.is_empty() {
            self.reclaim();
        }
    }

    fn offer(&mut self, mut buffer: NonNull<Buffer>) {
        // SAFETY: the buffer is leaked, and nobody touches it until the card gives it back.
        if let Ok(token) = unsafe { self.card.receive_begin(buffer.as_mut()) } {
            self.receiving.push((token, buffer));
        }
    }

    /// Takes back the buffers of frames that the card has sent.
    fn reclaim(&mut self) {
        while let Some(token) = self.card.poll_transmit() {
            let Some(index) = self.sending.iter().position(|(sent, _)| *sent == token) else { return };
            let (_, buffer) = self.sending.swap_remove(index);
            // SAFETY: the same buffer as at `transmit_begin`; the length does not matter to the driver.
            let _ = unsafe { self.card.transmit_complete(token, buffer.as_ref()) };
            self.free.push(buffer);
        }
    }
}

impl Device for NetDevice {
    type RxToken<'a> = Received;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Room<'_>)> {
        self.reclaim();
        if self.free.is_empty() {
            return None;
        }
        if let Some(given) = self.given.pop_front() {
            let (mut frame, length) = ([0; FRAME_BYTES], given.len().min(FRAME_BYTES));
            frame[..length].copy_from_slice(&given[..length]);
            return Some((Received { frame, length }, Room(self)));
        }
        let frame = self.take()?;
        Some((frame, Room(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        self.reclaim();
        if self.free.is_empty() { None } else { Some(Room(self)) }
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME_BYTES;
        capabilities
    }
}

pub struct Received {
    frame: [u8; FRAME_BYTES],
    length: usize,
}

impl Received {
    pub fn bytes(&self) -> &[u8] {
        &self.frame[..self.length]
    }
}

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.bytes())
    }
}

/// Room for one frame to send.
pub struct Room<'a>(&'a mut NetDevice);

impl phy::TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        if self.0.turns_back {
            let mut frame = vec![0; length];
            let result = fill(&mut frame);
            self.0.given.push_back(frame);
            return result;
        }
        let Some(mut buffer) = self.0.free.pop() else { return fill(&mut [0; FRAME_BYTES][..length]) };
        // SAFETY: a free buffer is ours alone.
        let bytes = unsafe { buffer.as_mut() };
        let header = self.0.card.fill_buffer_header(bytes).unwrap_or(HEADER_BYTES);
        let result = fill(&mut bytes[header..header + length]);
        // SAFETY: the buffer is leaked and stays untouched until `transmit_complete`.
        match unsafe { self.0.card.transmit_begin(&bytes[..header + length]) } {
            Ok(token) => self.0.sending.push((token, buffer)),
            Err(_) => self.0.free.push(buffer),
        }
        result
    }
}
