//! Memory: a heap, and fresh memory for buffers that live for ever. What does not fit ends the guest and says so.
//!
//! Fresh memory is zero because nobody has touched it yet, and costs nothing until somebody does.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr::{NonNull, null_mut};
use linked_list_allocator::Heap;

struct GuestHeap(UnsafeCell<Heap>);

// SAFETY: a guest has one thread, and interrupt handlers allocate nothing.
unsafe impl Sync for GuestHeap {}

#[global_allocator]
static HEAP: GuestHeap = GuestHeap(UnsafeCell::new(Heap::empty()));

// SAFETY: blocks come from a heap over memory that nobody else uses, and each is given once.
unsafe impl GlobalAlloc for GuestHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread; no reference to the heap outlives a call.
        match unsafe { &mut *self.0.get() }.allocate_first_fit(layout) {
            Ok(block) => block.as_ptr(),
            Err(()) if layout.size() == 0 => null_mut(),
            Err(()) => super::exit(format_args!("out-of-memory: no room for {} bytes", layout.size())),
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: one thread; the block was given by `alloc` with this layout.
            unsafe { (*self.0.get()).deallocate(block, layout) };
        }
    }
}

/// The heap gets one part of so many; the rest is fresh memory.
const HEAP_PART: usize = 2;
const ALIGNMENT: usize = 16;

/// Where fresh memory goes on, and how much is left.
struct Fresh(UnsafeCell<(usize, usize)>);

// SAFETY: a guest has one thread.
unsafe impl Sync for Fresh {}

static FRESH: Fresh = Fresh(UnsafeCell::new((0, 0)));

/// Hands memory over, once.
///
/// # Safety
/// The range is mapped, writable, zero, and used by nobody else for ever.
pub unsafe fn give(start: *mut u8, bytes: usize) {
    let heap = (bytes / HEAP_PART).next_multiple_of(ALIGNMENT);
    // SAFETY: called once at the start, by contract; the two parts do not overlap.
    unsafe {
        (*HEAP.0.get()).init(start, heap);
        *FRESH.0.get() = (start as usize + heap, bytes - heap);
    }
}

/// The size of the heap [byte].
pub fn heap_bytes() -> usize {
    // SAFETY: one thread; no reference to the heap outlives this call.
    unsafe { (*HEAP.0.get()).size() }
}

/// Gives zeroed memory for ever.
pub fn fresh(bytes: usize) -> &'static mut [u8] {
    let wanted = bytes.next_multiple_of(ALIGNMENT);
    // SAFETY: one thread; no reference to the pair outlives this call.
    let (start, left) = unsafe { &mut *FRESH.0.get() };
    if wanted > *left {
        super::exit(format_args!("out-of-memory: no room for {bytes} bytes of buffers"));
    }
    let place = *start;
    (*start, *left) = (place + wanted, *left - wanted);
    // SAFETY: given once, zero, and inside the range handed over.
    unsafe { core::slice::from_raw_parts_mut(place as *mut u8, bytes) }
}
