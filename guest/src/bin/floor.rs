//! The image `floor`: leaves the virtual machine at its first instruction.
//!
//! The floor that boot times are measured against, and the guest that proves an accelerator.
#![no_std]
#![no_main]

core::arch::global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .align 4
    .long 4
    .long 8
    .long 18
    .asciz "Xen"
    .quad pvh_start

    .section .text.boot, "ax"
    .code32
    .globl pvh_start
pvh_start:
    mov dx, 0x501
    xor eax, eax
    out dx, al
    hlt
    "#
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
