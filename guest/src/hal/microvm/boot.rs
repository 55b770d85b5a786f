//! From the loader's 32-bit entry (PVH) to Rust in long mode: page tables, then the jump.
//!
//! Memory: the first 2 MiB and all above 4 MiB are plain writable memory, never executable; the image's own 2 MiB are
//! mapped page by page (`paging`) before the first Rust runs anything but that mapping; the last 32 MiB below 4 GiB
//! are devices. A page without mapping lies under the stack.

use core::arch::global_asm;

global_asm!(
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
    cld
    mov esp, offset __stack_top
    mov edi, ebx

    # PML4 and page directory pointers
    mov eax, offset {pdpt}
    or eax, 3
    mov dword ptr [{pml4}], eax
    mov eax, offset {low}
    or eax, 3
    mov dword ptr [{pdpt}], eax
    mov eax, offset {high}
    or eax, 3
    mov dword ptr [{pdpt} + 24], eax

    # first GiB in large pages: writable, not executable
    mov ecx, 512
    mov eax, 0x83
    mov ebx, offset {low}
2:  mov dword ptr [ebx], eax
    mov dword ptr [ebx + 4], 0x80000000
    add eax, 0x200000
    add ebx, 8
    dec ecx
    jnz 2b

    # devices: 0xfe000000 to 0xffffffff, uncached
    mov ecx, 16
    mov eax, 0xfe00009b
    mov ebx, offset {high} + 496 * 8
3:  mov dword ptr [ebx], eax
    mov dword ptr [ebx + 4], 0x80000000
    add eax, 0x200000
    add ebx, 8
    dec ecx
    jnz 3b

    # the image: one entry per page from __text_start, with the rights of its section
    mov eax, offset {image}
    or eax, 3
    mov dword ptr [{low} + 8], eax
    mov dword ptr [{low} + 12], 0
    mov ebx, offset {image}
    mov eax, 0x200000
4:  xor edx, edx
    mov ecx, eax
    cmp eax, offset __rodata_start
    jb 5f
    mov edx, 0x80000000
    cmp eax, offset __data_start
    jb 5f
    or ecx, 2
    cmp eax, offset __guard_page
    jne 5f
    xor ecx, ecx
    jmp 6f
5:  or ecx, 1
6:  mov dword ptr [ebx], ecx
    mov dword ptr [ebx + 4], edx
    add eax, 0x1000
    add ebx, 8
    cmp eax, 0x400000
    jb 4b

    mov eax, offset {pml4}
    mov cr3, eax
    mov eax, cr4
    or eax, 0x620
    mov cr4, eax
    mov ecx, 0xc0000080
    rdmsr
    or eax, 0x900
    wrmsr
    mov eax, cr0
    and eax, 0xfffffffb
    or eax, 0x80010002
    mov cr0, eax
    lgdt [gdt_pointer]
    push 8
    mov eax, offset long_mode
    push eax
    retf

    .code64
long_mode:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    xor eax, eax
    mov fs, eax
    mov gs, eax
    mov rsp, offset __stack_top
    xor ebp, ebp
    call {begin}

    .section .rodata.boot, "a"
    .align 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
gdt_pointer:
    .word 23
    .long gdt
    "#,
    pml4 = sym PML4,
    pdpt = sym PDPT,
    low = sym LOW,
    high = sym HIGH,
    image = sym IMAGE,
    begin = sym super::begin,
);

#[repr(C, align(4096))]
struct Table([u64; 512]);

static mut PML4: Table = Table([0; 512]);
static mut PDPT: Table = Table([0; 512]);
static mut LOW: Table = Table([0; 512]);
static mut HIGH: Table = Table([0; 512]);
static mut IMAGE: Table = Table([0; 512]);

const LARGE_PAGE: u64 = 2 << 20;
const READ_ONLY: u64 = 1 << 63 | 0x81;

/// Makes the pages of the appended content read-only.
pub fn protect_content(bytes: u64) {
    let first = crate::content::CONTENT_ADDRESS / LARGE_PAGE;
    for index in first..first + bytes.div_ceil(LARGE_PAGE) {
        // SAFETY: our own table, one thread; the entry keeps its address and loses only the right to write.
        unsafe {
            let entry = (&raw mut LOW.0).cast::<u64>().add(index as usize);
            entry.write_volatile((index * LARGE_PAGE) | READ_ONLY);
            core::arch::asm!("invlpg [{}]", in(reg) index * LARGE_PAGE, options(nostack, preserves_flags));
        }
    }
}
