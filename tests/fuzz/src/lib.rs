//! What the fuzz targets share: a heap that counts, and a panic hook that knows whose panic it is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's heap, which counts what is taken and not given back.
pub struct CountingHeap;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static TAKEN_MAX: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static HEAP: CountingHeap = CountingHeap;

fn take(bytes: usize) {
    let now = TAKEN.fetch_add(bytes, Relaxed).wrapping_add(bytes);
    TAKEN_MAX.fetch_max(now, Relaxed);
}

// SAFETY: every call goes to the system's heap as it came.
unsafe impl GlobalAlloc for CountingHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(place, layout) }
    }

    // The old place and the new one exist together, as they may in a real move.
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        let moved = unsafe { System.realloc(place, layout, size) };
        TAKEN.fetch_sub(layout.size(), Relaxed);
        moved
    }
}

/// Runs `check` and panics when it held more than `bytes_max` at once, over what was held before.
pub fn within(bytes_max: usize, check: impl FnOnce()) {
    let before = TAKEN.load(Relaxed);
    TAKEN_MAX.store(before, Relaxed);
    check();
    let most = TAKEN_MAX.load(Relaxed).saturating_sub(before);
    note(most);
    assert!(most <= bytes_max, "{most} bytes of heap were held at once, {bytes_max} are stated");
}

static MOST_EVER: AtomicUsize = AtomicUsize::new(0);

/// Tells the largest heap so far now and then; a run ends without a word to the target.
fn note(most: usize) {
    let before = MOST_EVER.fetch_max(most, Relaxed);
    if most > before.saturating_add(before / 4) {
        eprintln!("HEAP: {most} bytes at once");
    }
}

/// Decoders of others whose panics the library catches; each costs one frame.
const CAUGHT: [&str; 5] =
    ["openjp2", "jpeg2k", "jpeg-decoder", "jxl-", "dicom-transfer-syntax-registry"];

static CAUGHT_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Ends the process at a panic, as libFuzzer wants it, unless a decoder panics whose panics are
/// caught and cost one frame. Those are counted.
pub fn end_at_panics_of_ours() {
    let end = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map(|location| location.file()).unwrap_or_default();
        if !CAUGHT.iter().any(|name| file.contains(&format!("/{name}"))) {
            return end(panic);
        }
        let count = 1 + CAUGHT_COUNT.fetch_add(1, Relaxed);
        if count.is_power_of_two() {
            eprintln!("CAUGHT: {count} panics inside decoders, the last in {file}");
        }
    }));
}
