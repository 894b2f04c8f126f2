#![no_main]

#[path = "../checks/dimse.rs"]
mod check;

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seer_fuzz::end_at_panics_of_ours(), |input: &[u8]| {
    seer_fuzz::within(check::heap_bytes_max(input), || check::check(input))
});
