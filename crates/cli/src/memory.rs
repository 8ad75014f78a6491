//! The allocator, and what it does with freed pages.

use libmimalloc_sys::{mi_option_set, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h.
const PURGE_DELAY: mi_option_t = 15;

/// Freed pages are kept for the next step instead of going back to the system: every step needs the same buffers, and a
/// fresh page costs more than a pass over it (a seventh of EfficientNet's step). Peak memory stays what it is.
#[allow(unsafe_code)]
pub fn keep_pages() {
    // SAFETY: the call only sets a number that the allocator reads; the option exists in this version, which is pinned.
    unsafe { mi_option_set(PURGE_DELAY, -1) };
}
