//! Exceptions end the guest with their reason; the two interrupts, timer and network card, only wake it.
//!
//! Every handler runs on a stack of its own (IST), because the ready-made `core` keeps data below the stack pointer.

use core::arch::{asm, global_asm};
use core::ptr::{read_volatile, write_volatile};

pub const TIMER_VECTOR: u32 = 0x20;
pub const NETWORK_VECTOR: u32 = 0x21;
const SPURIOUS_VECTOR: u32 = 0xff;

const LAPIC: usize = 0xfee0_0000;
const LAPIC_SPURIOUS: usize = 0xf0;
const LAPIC_TIMER: usize = 0x320;
const LAPIC_INITIAL_COUNT: usize = 0x380;
const LAPIC_CURRENT_COUNT: usize = 0x390;
const LAPIC_DIVIDE: usize = 0x3e0;
const DIVIDE_BY_ONE: u32 = 0b1011;
const IOAPIC: usize = 0xfec0_0000;
const STACK_BYTES: usize = 16 * 1024;

global_asm!(
    r#"
    .section .text.interrupt, "ax"
    .globl exception_stubs
exception_stubs:
    .set vector, 0
    .rept 32
    .align 16
    .if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
    .else
    push 0
    .endif
    push vector
    jmp exception_common
    .set vector, vector + 1
    .endr
exception_common:
    pop rdi
    pop rsi
    pop rdx
    mov rcx, cr2
    and rsp, -16
    call {exception}

    .align 16
    .globl wake_stub
wake_stub:
    push rax
    mov eax, 0xfee000b0
    mov dword ptr [rax], 0
    pop rax
    .globl spurious_stub
spurious_stub:
    iretq
    "#,
    exception = sym exception,
);

unsafe extern "C" {
    static exception_stubs: u8;
    static wake_stub: u8;
    static spurious_stub: u8;
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Gate {
    low: u16,
    selector: u16,
    stack: u8,
    kind: u8,
    middle: u16,
    high: u32,
    zero: u32,
}

#[repr(C, packed(4))]
struct TaskState {
    reserved: u32,
    rsp: [u64; 3],
    reserved2: u64,
    stacks: [u64; 7],
    reserved3: u64,
    reserved4: u16,
    io_map: u16,
}

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Sixteen-byte words, because a stack must start at such an address.
type Stack = [u128; STACK_BYTES / 16];

const NO_GATE: Gate = Gate { low: 0, selector: 0, stack: 0, kind: 0, middle: 0, high: 0, zero: 0 };
const GATES: usize = 0x100;

static mut IDT: [Gate; GATES] = [NO_GATE; GATES];
static mut GDT: [u64; 5] = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0, 0];
static mut TASK: TaskState = TaskState {
    reserved: 0,
    rsp: [0; 3],
    reserved2: 0,
    stacks: [0; 7],
    reserved3: 0,
    reserved4: 0,
    io_map: size_of::<TaskState>() as u16,
};
static mut STACKS: [Stack; 2] = [[0; STACK_BYTES / 16]; 2];

/// Puts the handlers in place and starts the local interrupt controller; interrupts stay off.
pub fn begin() {
    // SAFETY: called once, before anything that could interrupt; all tables are static.
    unsafe {
        let stacks = (&raw const STACKS).cast::<u8>() as u64;
        TASK.stacks[0] = stacks + STACK_BYTES as u64;
        TASK.stacks[1] = stacks + 2 * STACK_BYTES as u64;
        for vector in 0..32 {
            let double_fault = vector == 8;
            set_gate(vector, (&raw const exception_stubs) as u64 + 16 * vector as u64, if double_fault { 2 } else { 1 });
        }
        set_gate(TIMER_VECTOR as usize, (&raw const wake_stub) as u64, 1);
        set_gate(NETWORK_VECTOR as usize, (&raw const wake_stub) as u64, 1);
        set_gate(SPURIOUS_VECTOR as usize, (&raw const spurious_stub) as u64, 1);
        load_tables();
    }
    write_lapic(LAPIC_SPURIOUS, 0x100 | SPURIOUS_VECTOR);
    write_lapic(LAPIC_DIVIDE, DIVIDE_BY_ONE);
    write_lapic(LAPIC_TIMER, TIMER_VECTOR);
}

unsafe fn set_gate(vector: usize, handler: u64, stack: u8) {
    let gate = Gate {
        low: handler as u16,
        selector: 8,
        stack,
        kind: 0x8e,
        middle: (handler >> 16) as u16,
        high: (handler >> 32) as u32,
        zero: 0,
    };
    // SAFETY: within the table, one thread.
    unsafe { (&raw mut IDT).cast::<Gate>().add(vector).write(gate) };
}

unsafe fn load_tables() {
    let task = &raw const TASK as u64;
    let limit = size_of::<TaskState>() as u64 - 1;
    let low = limit | (task & 0xff_ffff) << 16 | 0x89 << 40 | (task >> 24 & 0xff) << 56;
    // SAFETY: one thread; the tables are complete before they are loaded.
    unsafe {
        GDT[3] = low;
        GDT[4] = task >> 32;
        let gdt = Pointer { limit: 39, base: &raw const GDT as u64 };
        let idt = Pointer { limit: (GATES * size_of::<Gate>() - 1) as u16, base: &raw const IDT as u64 };
        asm!("lgdt [{}]", "lidt [{}]", "ltr {:x}", in(reg) &raw const gdt, in(reg) &raw const idt, in(reg) 24_u16, options(nostack));
    }
}

/// Lets the card's interrupt line through.
pub fn route(line: u32) {
    // SAFETY: the interrupt controller's two registers: select, then data; edge-triggered, to the first processor.
    unsafe {
        for (register, value) in [(0x10 + 2 * line, NETWORK_VECTOR), (0x11 + 2 * line, 0)] {
            write_volatile(IOAPIC as *mut u32, register);
            write_volatile((IOAPIC + 0x10) as *mut u32, value);
        }
    }
}

/// Starts the one-shot timer; QEMU's and KVM's counts nanoseconds. Zero stops it.
pub fn set_timer(nanoseconds: u32) {
    write_lapic(LAPIC_INITIAL_COUNT, nanoseconds);
}

/// What the timer has left [ns].
pub fn timer_left() -> u32 {
    // SAFETY: a register of the local interrupt controller.
    unsafe { read_volatile((LAPIC + LAPIC_CURRENT_COUNT) as *const u32) }
}

fn write_lapic(register: usize, value: u32) {
    // SAFETY: a register of the local interrupt controller.
    unsafe { write_volatile((LAPIC + register) as *mut u32, value) };
}

/// Sleeps until the next interrupt. One that came since interrupts were last on is taken at once.
pub fn halt() {
    // SAFETY: the instruction after `sti` is still uninterrupted, so no wake-up is lost; handlers change nothing.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// The end of every exception.
extern "C" fn exception(vector: u64, error: u64, rip: u64, address: u64) -> ! {
    unsafe extern "C" {
        static __guard_page: u8;
    }
    let guard = &raw const __guard_page as u64;
    match vector {
        8 => crate::hal::exit(format_args!("double-fault rip={rip:#x}")),
        14 if address & !0xfff == guard => crate::hal::exit(format_args!("stack-overflow rip={rip:#x}")),
        14 => crate::hal::exit(format_args!("page-fault addr={address:#x} rip={rip:#x} error={error:#x}")),
        _ => crate::hal::exit(format_args!("exception {vector} rip={rip:#x} error={error:#x}")),
    }
}
