//! Tiles of sums in the tile registers of AMX (Intel, since Sapphire Rapids), by `tdpbf16ps`: 16 rows of 16 pairs by 16 pairs
//! of 16 columns an instruction. Registers 0 to 3 hold the sums, 4 and 5 the rows, 6 and 7 the columns.
//!
//! Rust's intrinsics for it are not stable, so the loops are assembly, each a block that leaves nothing behind in registers.

use super::{Kernel, Tile};
use std::arch::{asm, x86_64::__cpuid_count};
use std::sync::LazyLock;

pub(super) struct Amx;

/// Whether this CPU has the instructions and the system lets us use them.
pub(super) fn available() -> bool {
    static AVAILABLE: LazyLock<bool> = LazyLock::new(|| {
        // Leaf 7: AMX's bf16, and its tiles.
        let wanted = 1 << 22 | 1 << 24;
        super::dot::available() && __cpuid_count(7, 0).edx & wanted == wanted && permitted()
    });
    *AVAILABLE
}

/// Asks Linux, once for the whole process, for the room that tiles need when threads are switched.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILE_DATA: libc::c_long = 18;
    // SAFETY: a request that touches none of our memory.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILE_DATA,
        ) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_a_row: [u16; 16],
    rows: [u8; 16],
}

/// Eight whole tiles.
static SHAPES: Shapes = {
    let mut shapes = Shapes {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes_a_row: [0; 16],
        rows: [0; 16],
    };
    let mut tile = 0;
    while tile < 8 {
        shapes.bytes_a_row[tile] = 64;
        shapes.rows[tile] = 16;
        tile += 1;
    }
    shapes
};

/// The kernel for factors in `$parts` parts, which runs `$body` once a block, of `$bytes` bytes a factor, and then stores the
/// sums. In it, `{a}` and `{b}` are the block's factors, and `{s}` is 64, the bytes of a row of a tile.
macro_rules! kernel {
    ($parts:literal, $bytes:literal, $($body:expr),+) => {
        impl Kernel<$parts> for Amx {
            const ROWS: usize = 32;

            unsafe fn begin() {
                // SAFETY: reads the shapes; the caller's promise.
                unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly)) };
            }

            unsafe fn end() {
                // SAFETY: forgets the tiles, which nobody else uses; the caller's promise.
                unsafe { asm!("tilerelease", options(nostack, nomem)) };
            }

            unsafe fn sums(a: *const u32, b: *const u32, blocks: usize, tile: &mut Tile) {
                // SAFETY: reads as many blocks as the caller promises, and writes the tile, whose rows have 128 bytes.
                unsafe {
                    asm!(
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3",
                        "test {n}, {n}",
                        "jz 3f",
                        "2:",
                        $($body,)+
                        concat!("add {a}, ", $bytes),
                        concat!("add {b}, ", $bytes),
                        "dec {n}",
                        "jnz 2b",
                        "3:",
                        "tilestored [{c} + {s}*2], tmm0",
                        "tilestored [{c} + {s}*2 + 64], tmm1",
                        "tilestored [{c} + {s}*2 + 2048], tmm2",
                        "tilestored [{c} + {s}*2 + 2112], tmm3",
                        a = inout(reg) a => _,
                        b = inout(reg) b => _,
                        n = inout(reg) blocks => _,
                        c = in(reg) tile.0.as_mut_ptr(),
                        s = in(reg) 64usize,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    )
                };
            }
        }
    };
}

/// Loads two tiles of a factor, from this byte of the block on.
macro_rules! load {
    ($factor:literal, $first:literal, $second:literal, $from:literal) => {
        concat!(
            "tileloadd ",
            $first,
            ", [{",
            $factor,
            "} + {s}*1 + ",
            $from,
            "]\n",
            "tileloadd ",
            $second,
            ", [{",
            $factor,
            "} + {s}*1 + ",
            $from,
            " + 1024]"
        )
    };
}

macro_rules! rows {
    ($from:literal) => {
        load!("a", "tmm4", "tmm5", $from)
    };
}

macro_rules! columns {
    ($from:literal) => {
        load!("b", "tmm6", "tmm7", $from)
    };
}

/// Adds the products of what is loaded.
macro_rules! multiply {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6\n\
         tdpbf16ps tmm1, tmm4, tmm7\n\
         tdpbf16ps tmm2, tmm5, tmm6\n\
         tdpbf16ps tmm3, tmm5, tmm7"
    };
}

kernel!(1, 2048, rows!(0), columns!(0), multiply!());

// Three parts of 2,048 bytes, each below the rounding of the one before. The order loads little, and adds the largest products
// last.
kernel!(
    3,
    6144,
    rows!(0),
    columns!(4096),
    multiply!(),
    columns!(2048),
    multiply!(),
    rows!(2048),
    multiply!(),
    columns!(0),
    multiply!(),
    rows!(4096),
    multiply!(),
    rows!(0),
    multiply!()
);
