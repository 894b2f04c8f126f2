//! DIMSE command sets (PS3.7 §6.3, Annex E): flat, Implicit VR Little Endian, group 0000 only.

use std::collections::BTreeMap;

/// Longest command set taken in. The longest that PS3.7 defines stays below 1 KiB, apart from
/// lists of failed UIDs, which travel in data sets.
pub(super) const COMMAND_SIZE_BYTES_MAX: usize = 64 << 10;
const ELEMENT_COUNT_MAX: usize = 256;

/// Elements of group 0000 by number.
pub(super) mod element {
    pub(in super::super) const AFFECTED_SOP_CLASS_UID: u16 = 0x0002;
    pub(in super::super) const COMMAND_FIELD: u16 = 0x0100;
    pub(in super::super) const MESSAGE_ID: u16 = 0x0110;
    pub(in super::super) const MESSAGE_ID_RESPONDED_TO: u16 = 0x0120;
    pub(in super::super) const MOVE_DESTINATION: u16 = 0x0600;
    pub(in super::super) const PRIORITY: u16 = 0x0700;
    pub(in super::super) const DATA_SET_TYPE: u16 = 0x0800;
    pub(in super::super) const STATUS: u16 = 0x0900;
    pub(in super::super) const AFFECTED_SOP_INSTANCE_UID: u16 = 0x1000;
    pub(in super::super) const ERROR_COMMENT: u16 = 0x0902;
    pub(in super::super) const MOVE_ORIGINATOR: u16 = 0x1030;
    pub(in super::super) const MOVE_ORIGINATOR_MESSAGE_ID: u16 = 0x1031;
    pub(in super::super) const REMAINING_COUNT: u16 = 0x1020;
    pub(in super::super) const COMPLETED_COUNT: u16 = 0x1021;
    pub(in super::super) const FAILED_COUNT: u16 = 0x1022;
    pub(in super::super) const WARNING_COUNT: u16 = 0x1023;
}

/// Values of Command Field (0000,0100).
pub(super) mod field {
    pub(in super::super) const C_STORE_RQ: u16 = 0x0001;
    pub(in super::super) const C_STORE_RSP: u16 = 0x8001;
    pub(in super::super) const C_GET_RQ: u16 = 0x0010;
    pub(in super::super) const C_GET_RSP: u16 = 0x8010;
    pub(in super::super) const C_FIND_RQ: u16 = 0x0020;
    pub(in super::super) const C_FIND_RSP: u16 = 0x8020;
    pub(in super::super) const C_MOVE_RQ: u16 = 0x0021;
    pub(in super::super) const C_MOVE_RSP: u16 = 0x8021;
    pub(in super::super) const C_ECHO_RQ: u16 = 0x0030;
    pub(in super::super) const C_ECHO_RSP: u16 = 0x8030;
    pub(in super::super) const C_CANCEL_RQ: u16 = 0x0FFF;
}

const GROUP_LENGTH: u16 = 0x0000;
/// Data Set Type (0000,0800) of a message without data set.
const NO_DATA_SET: u16 = 0x0101;
const WITH_DATA_SET: u16 = 0x0000;

/// One command set: elements of group 0000.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    elements: BTreeMap<u16, Vec<u8>>,
}

impl Command {
    /// A request without data set.
    pub(super) fn request(command_field: u16, message_id: u16) -> Self {
        Self::default()
            .number(element::COMMAND_FIELD, command_field)
            .number(element::MESSAGE_ID, message_id)
            .number(element::DATA_SET_TYPE, NO_DATA_SET)
    }

    /// The response to a request, without data set.
    pub(super) fn response_to(request: &Self, status: u16) -> Self {
        let mut response = Self::default()
            .number(element::COMMAND_FIELD, request.field() | 0x8000)
            .number(element::MESSAGE_ID_RESPONDED_TO, request.message_id())
            .number(element::DATA_SET_TYPE, NO_DATA_SET)
            .number(element::STATUS, status);
        for uid in [element::AFFECTED_SOP_CLASS_UID, element::AFFECTED_SOP_INSTANCE_UID] {
            if let Some(value) = request.elements.get(&uid) {
                response.elements.insert(uid, value.clone());
            }
        }
        response
    }

    /// Says that a data set follows.
    pub(super) fn with_data_set(self) -> Self {
        self.number(element::DATA_SET_TYPE, WITH_DATA_SET)
    }

    /// Sets an element of VR US.
    pub(super) fn number(mut self, element: u16, value: u16) -> Self {
        self.elements.insert(element, value.to_le_bytes().to_vec());
        self
    }

    /// Sets an element of VR UI.
    pub(super) fn uid(self, element: u16, value: &str) -> Self {
        self.padded(element, value, 0)
    }

    /// Sets an element of VR AE or LO.
    pub(super) fn text(self, element: u16, value: &str) -> Self {
        self.padded(element, value, b' ')
    }

    fn padded(mut self, element: u16, value: &str, padding: u8) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        if bytes.len() % 2 == 1 {
            bytes.push(padding);
        }
        self.elements.insert(element, bytes);
        self
    }

    /// Reads an element of VR US.
    pub(super) fn get_number(&self, element: u16) -> Option<u16> {
        let bytes = self.elements.get(&element)?.get(..2)?;
        Some(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    /// Reads an element of text, without padding; absent when empty or not ASCII.
    pub(super) fn get_text(&self, element: u16) -> Option<&str> {
        let text = std::str::from_utf8(self.elements.get(&element)?).ok()?;
        let text = text.trim_matches(['\0', ' ']);
        (!text.is_empty() && text.is_ascii()).then_some(text)
    }

    /// Command Field; 0 when missing.
    pub(super) fn field(&self) -> u16 {
        self.get_number(element::COMMAND_FIELD).unwrap_or(0)
    }

    /// Message ID; 0 when missing.
    pub(super) fn message_id(&self) -> u16 {
        self.get_number(element::MESSAGE_ID).unwrap_or(0)
    }

    /// Status; failure "unable to process" when missing.
    pub(super) fn status(&self) -> u16 {
        self.get_number(element::STATUS).unwrap_or(0x0110)
    }

    /// Whether a data set follows.
    pub(super) fn has_data_set(&self) -> bool {
        self.get_number(element::DATA_SET_TYPE).is_some_and(|kind| kind != NO_DATA_SET)
    }

    /// Writes the command set with its group length.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (element, value) in &self.elements {
            put(&mut body, *element, value);
        }
        let mut bytes = Vec::with_capacity(body.len() + 12);
        put(&mut bytes, GROUP_LENGTH, &(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads a command set.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence's object.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut elements = BTreeMap::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((header, after)) = rest.split_at_checked(8) else {
                return Err(format!("a command set that breaks off after {} bytes", bytes.len()));
            };
            let group = u16::from_le_bytes([header[0], header[1]]);
            let element = u16::from_le_bytes([header[2], header[3]]);
            let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
            if group != 0 {
                return Err(format!("a command set with an element of group {group:04X}"));
            }
            let Some((value, after)) = after.split_at_checked(length) else {
                return Err(format!("a command element of {length} bytes that are not there"));
            };
            if elements.len() == ELEMENT_COUNT_MAX {
                return Err(format!("a command set of more than {ELEMENT_COUNT_MAX} elements"));
            }
            elements.insert(element, value.to_vec());
            rest = after;
        }
        elements.remove(&GROUP_LENGTH);
        Ok(Self { elements })
    }
}

fn put(bytes: &mut Vec<u8>, element: u16, value: &[u8]) {
    bytes.extend_from_slice(&0_u16.to_le_bytes());
    bytes.extend_from_slice(&element.to_le_bytes());
    bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn command_sets_survive_the_wire() {
        let command = Command::request(field::C_STORE_RQ, 7)
            .uid(element::AFFECTED_SOP_CLASS_UID, "1.2.840.10008.5.1.4.1.1.4")
            .text(element::MOVE_DESTINATION, "SEER1")
            .with_data_set();
        let bytes = command.encode();
        assert_eq!(bytes.len() % 2, 0);
        assert_eq!(u32::from_le_bytes(bytes[8..12].try_into().unwrap()) as usize, bytes.len() - 12);
        let read = Command::decode(&bytes).unwrap();
        assert_eq!(read, command);
        assert_eq!(read.get_text(element::MOVE_DESTINATION), Some("SEER1"));
        assert!(read.has_data_set());
        let response = Command::response_to(&read, 0);
        assert_eq!(response.field(), field::C_STORE_RSP);
        assert_eq!(response.get_number(element::MESSAGE_ID_RESPONDED_TO), Some(7));
        assert!(!response.has_data_set());
    }

    #[test]
    fn malformed_command_sets_are_named() {
        let check = |bytes: &[u8], word: &str| {
            let error = Command::decode(bytes).unwrap_err();
            assert!(error.contains(word), "{error}");
        };
        check(&[0; 5], "5 bytes");
        check(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff], "4294967295");
        check(&[8, 0, 0, 0, 0, 0, 0, 0], "group 0008");
        let many: Vec<u8> =
            (0..300_u16).flat_map(|n| [[0, 0], n.to_le_bytes(), [0, 0], [0, 0]].concat()).collect();
        check(&many, "256 elements");
    }
}
