//! A requestor built on dicom-ul's own association, so that our side is not its own judge.

use std::io::Cursor;
use std::net::TcpStream;
use std::time::Duration;

use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::entries::{
    EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN,
};
use dicom_ul::association::client::{ClientAssociation, ClientAssociationOptions};
use dicom_ul::pdu::{PDataValue, PDataValueType, Pdu};

pub const STUDY_FIND: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
pub const STUDY_MOVE: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;
pub const STUDY_GET: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET;
pub const PATIENT_FIND: &str = uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
pub const PATIENT_MOVE: &str = uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;
pub const PATIENT_GET: &str = uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET;
pub const EXPLICIT: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
pub const IMPLICIT: &str = uids::IMPLICIT_VR_LITTLE_ENDIAN;

/// Keys of an identifier; each has the value representation of the dictionary.
pub type Keys<'a> = &'a [(Tag, &'a str)];

/// An open association to one of our servers.
pub struct Scu {
    association: ClientAssociation<TcpStream>,
    message_id: u16,
}

/// One message: command set and data set.
pub struct Message {
    pub command: InMemDicomObject,
    pub data: Option<Vec<u8>>,
    pub context: u8,
}

impl Message {
    pub fn number(&self, tag: Tag) -> Option<u16> {
        self.command.get(tag).map(|element| element.to_int().unwrap())
    }

    pub fn status(&self) -> u16 {
        self.number(tags::STATUS).expect("a response has a status")
    }
}

/// How a C-MOVE or C-GET ended.
#[derive(Debug, Default)]
pub struct Outcome {
    pub status: u16,
    pub completed: u16,
    pub failed: u16,
    pub warned: u16,
    pub remaining: Option<u16>,
    pub pending_count: usize,
    pub failed_uids: Vec<String>,
    /// What a C-GET brought: transfer syntax and data set.
    pub instances: Vec<(String, Vec<u8>)>,
}

pub fn options(calling: &str) -> ClientAssociationOptions<'_> {
    ClientAssociationOptions::new()
        .calling_ae_title(calling)
        .called_ae_title("SEER")
        .read_timeout(Duration::from_secs(20))
}

pub fn data_set(keys: Keys<'_>) -> InMemDicomObject {
    use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
    let mut object = InMemDicomObject::new_empty();
    for (tag, value) in keys {
        let entry = dicom_dictionary_std::StandardDataDictionary.by_tag(*tag).unwrap();
        let vr = entry.vr().relaxed();
        let value = match *value {
            "" => PrimitiveValue::Empty,
            value if vr == VR::US => PrimitiveValue::from(value.parse::<u16>().unwrap()),
            value => PrimitiveValue::from(value),
        };
        object.put(DataElement::new(*tag, vr, value));
    }
    object
}

pub fn decoded(bytes: &[u8], transfer_syntax: &str) -> InMemDicomObject {
    let syntax = match transfer_syntax {
        EXPLICIT => EXPLICIT_VR_LITTLE_ENDIAN.erased(),
        IMPLICIT => IMPLICIT_VR_LITTLE_ENDIAN.erased(),
        other => panic!("{other}"),
    };
    InMemDicomObject::read_dataset_with_ts(Cursor::new(bytes), &syntax).unwrap()
}

fn encoded(object: &InMemDicomObject, transfer_syntax: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let syntax = match transfer_syntax {
        EXPLICIT => EXPLICIT_VR_LITTLE_ENDIAN.erased(),
        IMPLICIT => IMPLICIT_VR_LITTLE_ENDIAN.erased(),
        other => panic!("{other}"),
    };
    object.write_dataset_with_ts(&mut bytes, &syntax).unwrap();
    bytes
}

impl Scu {
    pub fn open(port: u16, options: ClientAssociationOptions<'_>) -> Self {
        let association = options.establish(("127.0.0.1", port)).unwrap();
        Self { association, message_id: 0 }
    }

    /// One context for one SOP class.
    pub fn for_class(port: u16, calling: &str, sop_class: &str, transfer_syntax: &str) -> Self {
        Self::open(
            port,
            options(calling)
                .with_presentation_context(sop_class.to_owned(), vec![transfer_syntax.to_owned()]),
        )
    }

    fn context(&self, sop_class: &str) -> (u8, String) {
        let mut contexts = self.association.presentation_contexts().iter();
        let found = contexts.find(|context| context.abstract_syntax == sop_class);
        let context = found.expect("the context is accepted");
        (context.id, context.transfer_syntax.clone())
    }

    pub fn roles(&self) -> String {
        format!("{:?}", self.association.user_variables())
    }

    pub fn send(&mut self, context: u8, command: &InMemDicomObject, data: Option<&[u8]>) {
        let mut bytes = Vec::new();
        command.write_dataset_with_ts(&mut bytes, &IMPLICIT_VR_LITTLE_ENDIAN.erased()).unwrap();
        let mut values = vec![(PDataValueType::Command, true, bytes)];
        let chunks: Vec<&[u8]> = match data {
            Some([]) => vec![&[]],
            Some(data) => data.chunks(8000).collect(),
            None => Vec::new(),
        };
        let last = chunks.len().saturating_sub(1);
        for (index, chunk) in chunks.into_iter().enumerate() {
            values.push((PDataValueType::Data, index == last, chunk.to_vec()));
        }
        for (value_type, is_last, data) in values {
            let value = PDataValue { presentation_context_id: context, value_type, is_last, data };
            self.association.send(&Pdu::PData { data: vec![value] }).unwrap();
        }
    }

    /// Sends a request with an identifier of any bytes; gives its message id.
    pub fn request(
        &mut self,
        sop_class: &str,
        command_field: u16,
        destination: Option<&str>,
        identifier: Option<&[u8]>,
    ) -> u16 {
        self.message_id += 1;
        let (context, _) = self.context(sop_class);
        let number = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
        let mut elements = vec![
            DataElement::new(tags::AFFECTED_SOP_CLASS_UID, VR::UI, PrimitiveValue::from(sop_class)),
            number(tags::COMMAND_FIELD, command_field),
            number(tags::MESSAGE_ID, self.message_id),
            number(tags::PRIORITY, 0),
            number(tags::COMMAND_DATA_SET_TYPE, if identifier.is_some() { 1 } else { 0x0101 }),
        ];
        if let Some(title) = destination {
            let title = PrimitiveValue::from(title);
            elements.push(DataElement::new(tags::MOVE_DESTINATION, VR::AE, title));
        }
        let command = InMemDicomObject::command_from_element_iter(elements);
        self.send(context, &command, identifier);
        self.message_id
    }

    /// Makes the next request use the message id of the last one.
    pub fn repeat_message_id(&mut self) {
        self.message_id -= 1;
    }

    pub fn cancel(&mut self, sop_class: &str, message_id: u16) {
        let number = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
        let command = InMemDicomObject::command_from_element_iter([
            number(tags::COMMAND_FIELD, 0x0FFF),
            number(tags::MESSAGE_ID_BEING_RESPONDED_TO, message_id),
            number(tags::COMMAND_DATA_SET_TYPE, 0x0101),
        ]);
        let (context, _) = self.context(sop_class);
        self.send(context, &command, None);
    }

    pub fn receive(&mut self) -> Message {
        let (mut command, mut data) = (Vec::new(), Vec::new());
        let mut read: Option<InMemDicomObject> = None;
        loop {
            let Pdu::PData { data: values } = self.association.receive().unwrap() else {
                panic!("a message is P-DATA");
            };
            for value in values {
                let is_command = value.value_type == PDataValueType::Command;
                if is_command { &mut command } else { &mut data }.extend(value.data);
                if !value.is_last {
                    continue;
                }
                if is_command {
                    read = Some(decoded(&command, IMPLICIT));
                }
                let command = read.clone().expect("a command comes first");
                let kind = command.get(tags::COMMAND_DATA_SET_TYPE).unwrap();
                let has_data = kind.to_int::<u16>().unwrap() != 0x0101;
                if !has_data || !is_command {
                    let data = has_data.then_some(data);
                    return Message { command, data, context: value.presentation_context_id };
                }
            }
        }
    }

    /// Runs a query; gives the raw matches and the last status.
    pub fn find_raw(&mut self, sop_class: &str, keys: Keys<'_>) -> (Vec<(u16, Vec<u8>)>, u16) {
        let (_, syntax) = self.context(sop_class);
        let identifier = encoded(&data_set(keys), &syntax);
        self.request(sop_class, 0x0020, None, Some(&identifier));
        self.matches()
    }

    /// Every match of a query that was sent, and the last status.
    pub fn matches(&mut self) -> (Vec<(u16, Vec<u8>)>, u16) {
        let mut found = Vec::new();
        loop {
            let message = self.receive();
            let status = message.status();
            match (status, message.data) {
                (0xFF00 | 0xFF01, Some(data)) => found.push((status, data)),
                (_, None) => return (found, status),
                (status, Some(_)) => panic!("{status:04X} with an identifier"),
            }
        }
    }

    pub fn find(&mut self, sop_class: &str, keys: Keys<'_>) -> Vec<InMemDicomObject> {
        let (_, syntax) = self.context(sop_class);
        let (found, status) = self.find_raw(sop_class, keys);
        assert_eq!(status, 0, "{status:04X}");
        found.iter().map(|(_, bytes)| decoded(bytes, &syntax)).collect()
    }

    /// Sends a request to retrieve; gives its message id.
    pub fn start(
        &mut self,
        sop_class: &str,
        command_field: u16,
        destination: Option<&str>,
        keys: Keys<'_>,
    ) -> u16 {
        let (_, syntax) = self.context(sop_class);
        let identifier = encoded(&data_set(keys), &syntax);
        self.request(sop_class, command_field, destination, Some(&identifier))
    }

    pub fn move_to(&mut self, sop_class: &str, destination: &str, keys: Keys<'_>) -> Outcome {
        self.start(sop_class, 0x0021, Some(destination), keys);
        self.outcome(|_| 0)
    }

    /// Retrieves; `answer` gives the status for the instance of that number, from 1.
    pub fn get(
        &mut self,
        sop_class: &str,
        keys: Keys<'_>,
        answer: impl FnMut(usize) -> u16,
    ) -> Outcome {
        self.start(sop_class, 0x0010, None, keys);
        self.outcome(answer)
    }

    /// Takes instances and responses until the last.
    pub fn outcome(&mut self, mut answer: impl FnMut(usize) -> u16) -> Outcome {
        self.outcome_with(|_, number| answer(number))
    }

    pub fn outcome_with(&mut self, mut answer: impl FnMut(&mut Self, usize) -> u16) -> Outcome {
        let mut outcome = Outcome::default();
        loop {
            let message = self.receive();
            if message.number(tags::COMMAND_FIELD) == Some(0x0001) {
                let contexts = self.association.presentation_contexts();
                let context = contexts.iter().find(|context| context.id == message.context);
                let syntax = context.unwrap().transfer_syntax.clone();
                let status = answer(self, outcome.instances.len() + 1);
                self.acknowledge(&message, status);
                outcome.instances.push((syntax, message.data.unwrap()));
                continue;
            }
            let status = message.status();
            if status == 0xFF00 {
                assert!(message.number(tags::NUMBER_OF_REMAINING_SUBOPERATIONS).is_some());
                outcome.pending_count += 1;
                continue;
            }
            outcome.status = status;
            let count = |tag| message.number(tag).unwrap_or(0);
            outcome.completed = count(tags::NUMBER_OF_COMPLETED_SUBOPERATIONS);
            outcome.failed = count(tags::NUMBER_OF_FAILED_SUBOPERATIONS);
            outcome.warned = count(tags::NUMBER_OF_WARNING_SUBOPERATIONS);
            outcome.remaining = message.number(tags::NUMBER_OF_REMAINING_SUBOPERATIONS);
            if let Some(bytes) = &message.data {
                let contexts = self.association.presentation_contexts();
                let context = contexts.iter().find(|context| context.id == message.context);
                let list = decoded(bytes, &context.unwrap().transfer_syntax);
                let uids = list.get(tags::FAILED_SOP_INSTANCE_UID_LIST).unwrap();
                outcome.failed_uids = uids.to_multi_str().unwrap().to_vec();
            }
            return outcome;
        }
    }

    fn acknowledge(&mut self, request: &Message, status: u16) {
        let number = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
        let copied = [tags::AFFECTED_SOP_CLASS_UID, tags::AFFECTED_SOP_INSTANCE_UID]
            .map(|tag| request.command.get(tag).unwrap().clone());
        let numbers = [
            number(tags::COMMAND_FIELD, 0x8001),
            number(tags::MESSAGE_ID_BEING_RESPONDED_TO, request.number(tags::MESSAGE_ID).unwrap()),
            number(tags::COMMAND_DATA_SET_TYPE, 0x0101),
            number(tags::STATUS, status),
        ];
        let all = copied.into_iter().chain(numbers);
        let response = InMemDicomObject::command_from_element_iter(all);
        self.send(request.context, &response, None);
    }

    pub fn release(self) {
        self.association.release().unwrap();
    }
}

/// The text of an element, without padding; absent when the element is.
pub fn text(object: &InMemDicomObject, tag: Tag) -> Option<String> {
    let text = object.get(tag)?.to_str().ok()?;
    Some(text.trim_matches([' ', '\0']).to_owned())
}
