#![no_main]

#[path = "../checks/dicom_json.rs"]
mod check;

use libfuzzer_sys::fuzz_target;
use seer::dicom::{json_data_sets, read_json_data_set};

/// An error on its way out.
const ERROR_BYTES: usize = 1 << 10;

/// The list of data sets, and what each says that its values take, are held to the byte.
fn check_values(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut found = Ok(Vec::new());
    seer_fuzz::within(ERROR_BYTES + 48 * text.len(), || found = json_data_sets(text, 64));
    for data_set in found.iter().flatten() {
        seer_fuzz::within(ERROR_BYTES + data_set.values_bytes as usize, || {
            drop(read_json_data_set(text, data_set));
        });
    }
}

fuzz_target!(init: seer_fuzz::end_at_panics_of_ours(), |input: &[u8]| {
    check_values(input);
    seer_fuzz::within(check::heap_bytes_max(input), || check::check(input))
});
