//! The seal: a seccomp filter that ends the process at any system call but five.

use super::syscall::{ALLOWED, PRCTL, SECCOMP, call};

const PR_SET_NO_NEW_PRIVS: usize = 38;
const SECCOMP_SET_MODE_FILTER: usize = 1;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const KILL_PROCESS: u32 = 0x8000_0000;
const ALLOW: u32 = 0x7fff_0000;

const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCH: u32 = 4;

#[repr(C)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    value: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

const fn instruction(code: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, value }
}

/// Arch must be ours, the number one of the allowed; everything else ends the process.
static FILTER: [Instruction; 10] = [
    instruction(LOAD_WORD, OFFSET_ARCH, 0, 0),
    instruction(JUMP_EQUAL, AUDIT_ARCH_X86_64, 0, 6),
    instruction(LOAD_WORD, OFFSET_NUMBER, 0, 0),
    instruction(JUMP_EQUAL, ALLOWED[0], 5, 0),
    instruction(JUMP_EQUAL, ALLOWED[1], 4, 0),
    instruction(JUMP_EQUAL, ALLOWED[2], 3, 0),
    instruction(JUMP_EQUAL, ALLOWED[3], 2, 0),
    instruction(JUMP_EQUAL, ALLOWED[4], 1, 0),
    instruction(RETURN, KILL_PROCESS, 0, 0),
    instruction(RETURN, ALLOW, 0, 0),
];

/// Seals the process for ever. Without a seal nothing runs.
pub fn seal() {
    let program = Program { length: FILTER.len() as u16, instructions: FILTER.as_ptr() };
    // SAFETY: both calls read only what is given; the filter is static.
    let sealed = unsafe {
        call(PRCTL, [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0]) == 0
            && call(SECCOMP, [SECCOMP_SET_MODE_FILTER, 0, &raw const program as usize, 0, 0]) == 0
    };
    if !sealed {
        crate::hal::exit(format_args!("sealed: the kernel refused the seccomp filter"));
    }
}

// SAFETY: static and never written.
unsafe impl Sync for Instruction {}
