//! The heap; an allocation that does not fit ends the guest and says so.
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

/// Hands memory to the heap, once.
///
/// # Safety
/// The range is mapped, writable, and used by nobody else for ever.
pub unsafe fn give(start: *mut u8, bytes: usize) {
    // SAFETY: called once at the start, by contract.
    unsafe { (*HEAP.0.get()).init(start, bytes) };
}
