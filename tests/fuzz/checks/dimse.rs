//! Any bytes as what another node sends over an association: errors, or PDUs, whose command sets
//! are the same when they are written and read again; and as a query's identifier.

use dicom_ul::pdu::{PDataValueType, Pdu, read_pdu};
use seer::dicom::{DicomLimits, read_identifier};
use seer::pacs::DimseCommand;

const PDU_BYTES_MAX: u32 = 16 << 10;
const ELEMENT_COUNT_MAX: usize = 1_000;

/// Most heap that the check may take.
pub fn heap_bytes_max(input: &[u8]) -> usize {
    (64 << 10) + 64 * input.len() + ELEMENT_COUNT_MAX * (2 << 10)
}

/// Panics when something else comes of the input.
pub fn check(input: &[u8]) {
    check_command(input);
    let mut rest = input;
    while let Ok(Some(pdu)) = read_pdu(&mut rest, PDU_BYTES_MAX, true) {
        let Pdu::PData { data } = pdu else { continue };
        for value in data {
            match value.value_type {
                PDataValueType::Command => check_command(&value.data),
                PDataValueType::Data => check_identifier(&value.data),
            }
        }
    }
}

fn check_command(bytes: &[u8]) {
    let Ok(command) = DimseCommand::decode(bytes) else { return };
    let again = DimseCommand::decode(&command.encode());
    assert_eq!(again.as_ref(), Ok(&command), "a command set is another when read again");
}

fn check_identifier(bytes: &[u8]) {
    let limits = DicomLimits { element_count_max: ELEMENT_COUNT_MAX, ..DicomLimits::default() };
    for transfer_syntax in ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"] {
        let _ = read_identifier(bytes, transfer_syntax, &limits);
    }
}
