//! The last words of a guest that does what the processor refuses: caught on a stack of their own, told, and the end.

use super::syscall::{RT_SIGACTION, SIGALTSTACK, call};
use core::cell::UnsafeCell;

const SIGILL: usize = 4;
const SIGBUS: usize = 7;
const SIGFPE: usize = 8;
const SIGSEGV: usize = 11;
/// With the place of the fault, and on the other stack; the kernel insists on a way back, which is never taken.
const FLAGS: u64 = 0x4 | 0x0800_0000 | 0x0400_0000;
const SIGNAL_SET_BYTES: usize = 8;
const STACK_BYTES: usize = 16 * 1024;
/// Where `siginfo_t` has the address, and `ucontext_t` the stack and the instruction pointer [8 bytes].
const ADDRESS: usize = 2;
const STACK_POINTER: usize = 20;
const INSTRUCTION_POINTER: usize = 21;
/// A fault so near to where the stack ends is one of the stack.
const NEAR_BYTES: u64 = 64 * 1024;

struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: only the kernel uses it, for one signal.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));

#[repr(C)]
struct Action {
    handler: usize,
    flags: u64,
    way_back: usize,
    mask: u64,
}

#[repr(C)]
struct OtherStack {
    start: usize,
    flags: i32,
    bytes: usize,
}

/// Has faults told; before the seal, which lets no such call through.
pub fn catch() {
    let stack = OtherStack { start: STACK.0.get() as usize, flags: 0, bytes: STACK_BYTES };
    let handler = tell as *const () as usize;
    let action = Action { handler, flags: FLAGS, way_back: handler, mask: 0 };
    // SAFETY: the kernel reads both; the stack is static, and the handler never returns.
    unsafe {
        call(SIGALTSTACK, [&raw const stack as usize, 0, 0, 0, 0]);
        for signal in [SIGILL, SIGBUS, SIGFPE, SIGSEGV] {
            call(RT_SIGACTION, [signal, &raw const action as usize, 0, SIGNAL_SET_BYTES, 0]);
        }
    }
}

/// # Safety
/// The kernel calls it, with what it knows of the signal.
unsafe extern "C" fn tell(signal: usize, info: *const u64, context: *const u64) -> ! {
    // SAFETY: the places are those of the kernel's structures on x86-64.
    let (address, stack, rip) = unsafe { (*info.add(ADDRESS), *context.add(STACK_POINTER), *context.add(INSTRUCTION_POINTER)) };
    match signal {
        SIGSEGV if address.abs_diff(stack) < NEAR_BYTES => crate::hal::exit(format_args!("stack-overflow rip={rip:#x}")),
        SIGSEGV | SIGBUS => crate::hal::exit(format_args!("page-fault addr={address:#x} rip={rip:#x}")),
        _ => crate::hal::exit(format_args!("signal {signal} rip={rip:#x}")),
    }
}
