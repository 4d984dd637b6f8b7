//! An allocator that can be told to spin: it runs when the host hands memory over, and when it is done with it.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

use super::spin;

/// From now on, whoever asks for memory gets none, nor an answer.
pub static SPINS_IN_ALLOC: AtomicBool = AtomicBool::new(false);
/// The same for whoever gives memory back.
pub static SPINS_IN_FREE: AtomicBool = AtomicBool::new(false);

struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

// SAFETY: it is the system's allocator, as long as it answers.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if SPINS_IN_ALLOC.load(Ordering::Relaxed) {
            spin();
        }
        // SAFETY: as for this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if SPINS_IN_FREE.load(Ordering::Relaxed) {
            spin();
        }
        // SAFETY: as for this function.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for this function.
        unsafe { System.realloc(block, layout, size) }
    }
}
