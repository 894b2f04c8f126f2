//! What a query or retrieval asks for: the identifier of a request, checked (PS3.4 §C.4).
//!
//! Queries are hierarchical: every unique key above the level has one value. Where the requestor
//! negotiated relational queries, those keys may be missing.

use dicom_core::Tag;
use dicom_core::header::Header;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::association::Association;
use super::command::{Command, element};
use super::negotiation::Context;
use super::sop_classes::{Root, Service};
use super::status;
use crate::archive::{Attribute, Condition, Include, Level, Query};
use crate::dicom::{DicomLimits, read_identifier};
use crate::pacs::PacsError;

/// Keys of some levels take a few hundred bytes; a list of UIDs may be longer.
const IDENTIFIER_BYTES_MAX: usize = 1 << 20;
/// Most UIDs in one list.
const UID_COUNT_MAX: usize = 10_000;
const ELEMENT_COUNT_MAX: usize = 4096;
const NESTING_DEPTH_MAX: usize = 8;

/// Bytes of extended negotiation that we understand (PS3.4 §C.5.1.1).
const RELATIONAL: usize = 0;
const FUZZY: usize = 2;

/// What of a requestor's extended negotiation we grant: relational queries and retrievals, and
/// fuzzy matching of names in queries.
pub(super) fn granted_extension(service: Service, asked: &[u8]) -> Vec<u8> {
    use super::sop_classes::Operation;
    let is_granted = |index| match (index, service.operation) {
        (RELATIONAL, _) | (FUZZY, Operation::Find) => true,
        (_, Operation::Find | Operation::Move | Operation::Get) => false,
    };
    let asked = asked.iter().take(5).enumerate();
    asked.map(|(index, byte)| u8::from(*byte == 1 && is_granted(index))).collect()
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// At most 64 characters, without anything of the request.
    pub(super) comment: &'static str,
}

impl Refusal {
    /// The response that says so.
    pub(super) fn response(self, request: &Command) -> Command {
        Command::response_to(request, self.status).text(element::ERROR_COMMENT, self.comment)
    }
}

fn mismatch(comment: &'static str) -> Refusal {
    Refusal { status: status::DOES_NOT_MATCH_SOP_CLASS, comment }
}

/// A level of a query, with those that a study-root query does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum QueryLevel {
    Patient,
    Study,
    Series,
    Image,
}

impl QueryLevel {
    const ALL: [Self; 4] = [Self::Patient, Self::Study, Self::Series, Self::Image];

    /// Query/Retrieve Level (0008,0052).
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Patient => "PATIENT",
            Self::Study => "STUDY",
            Self::Series => "SERIES",
            Self::Image => "IMAGE",
        }
    }

    fn unique_key(self) -> Tag {
        match self {
            Self::Patient => tags::PATIENT_ID,
            Self::Study => tags::STUDY_INSTANCE_UID,
            Self::Series => tags::SERIES_INSTANCE_UID,
            Self::Image => tags::SOP_INSTANCE_UID,
        }
    }

    /// What is searched for. Patients are found by their studies.
    fn searched(self) -> Level {
        match self {
            Self::Patient | Self::Study => Level::Study,
            Self::Series => Level::Series,
            Self::Image => Level::Instance,
        }
    }

    /// Whether one instance tells an attribute for all of what is at this level.
    fn tells(self, tag: Tag) -> bool {
        match self {
            Self::Patient => tag.group() == 0x0010,
            Self::Study | Self::Series | Self::Image => self.searched().tells(tag),
        }
    }
}

/// A checked request to search.
pub(super) struct Question {
    pub(super) level: QueryLevel,
    pub(super) query: Query,
    /// The request's identifier: what an answer tells.
    pub(super) keys: InMemDicomObject,
    /// Every key that has a value is matched.
    pub(super) matches_all_keys: bool,
}

/// An identifier and what was agreed on about it.
pub(super) struct Identifier {
    object: InMemDicomObject,
    root: Root,
    is_relational: bool,
    is_fuzzy: bool,
}

impl Identifier {
    /// Takes the identifier that follows a command.
    ///
    /// # Errors
    /// When the association breaks; what is wrong with the identifier is a refusal instead.
    pub(super) async fn take(
        association: &mut Association,
        context: &Context,
        command: &Command,
        service: Service,
    ) -> Result<Result<Self, Refusal>, PacsError> {
        if !command.has_data_set() {
            return Ok(Err(mismatch("the request has no identifier")));
        }
        let Some(bytes) = take_bytes(association, context.id).await? else {
            let comment = "the identifier is larger than 1 MiB";
            return Ok(Err(Refusal { status: status::OUT_OF_RESOURCES, comment }));
        };
        let extension = association.extension(service.uid);
        let has = |index| extension.get(index) == Some(&1);
        let (is_relational, is_fuzzy) = (has(RELATIONAL), has(FUZZY));
        let root = service.root;
        Ok(match read(&bytes, &context.transfer_syntax) {
            Ok(object) => Ok(Self { object, root, is_relational, is_fuzzy }),
            Err(refusal) => Err(refusal),
        })
    }

    /// What a C-FIND asks for.
    ///
    /// # Errors
    /// A refusal as PS3.4 §C.4.1.1.4 has it.
    pub(super) fn question(self) -> Result<Question, Refusal> {
        let level = self.level()?;
        self.check_levels_above(level)?;
        let mut matching = Matching { conditions: Vec::new(), has_all: true };
        for element in &self.object {
            self.add_key(&mut matching, element)?;
        }
        let told = self.object.iter().map(Header::tag).filter(|tag| level.tells(*tag));
        let query = Query {
            level: level.searched(),
            study: None,
            series: None,
            conditions: matching.conditions,
            include: Include::Tags(told.collect()),
            limit: 0,
            offset: 0,
        };
        Ok(Question { level, query, keys: self.object, matches_all_keys: matching.has_all })
    }

    /// What a C-MOVE or C-GET asks for: a search whose every result is to be sent whole.
    ///
    /// # Errors
    /// A refusal as PS3.4 §C.4.2.1.5 has it.
    pub(super) fn wanted(&self) -> Result<Query, Refusal> {
        let level = self.level()?;
        self.check_levels_above(level)?;
        let own = self.text(level.unique_key()).unwrap_or_default();
        if own.is_empty() || own.contains(['*', '?']) {
            return Err(mismatch("the unique key of the level has no value"));
        }
        let mut conditions = Vec::new();
        for part in QueryLevel::ALL.into_iter().filter(|part| *part <= level) {
            let value = self.text(part.unique_key()).filter(|value| !value.is_empty());
            if let (Some(value), Some(attribute)) = (value, attribute(None, part.unique_key())) {
                check_list(&value)?;
                conditions.push(Condition::Matches { attribute, value });
            }
        }
        let include = Include::Indexed;
        let level = level.searched();
        Ok(Query { level, study: None, series: None, conditions, include, limit: 0, offset: 0 })
    }

    fn level(&self) -> Result<QueryLevel, Refusal> {
        let word = self.text(tags::QUERY_RETRIEVE_LEVEL).unwrap_or_default();
        let found = QueryLevel::ALL.into_iter().find(|level| level.word() == word);
        match (found, self.root) {
            (Some(QueryLevel::Patient), Root::Study) => {
                Err(mismatch("the study root has no level PATIENT"))
            }
            (Some(level), Root::Patient | Root::Study) => Ok(level),
            (None, Root::Patient | Root::Study) => {
                Err(mismatch("Query/Retrieve Level is missing or unknown"))
            }
        }
    }

    fn check_levels_above(&self, level: QueryLevel) -> Result<(), Refusal> {
        let top = match self.root {
            Root::Patient => QueryLevel::Patient,
            Root::Study => QueryLevel::Study,
        };
        let above = QueryLevel::ALL.into_iter().filter(|above| (top..level).contains(above));
        for key in above.map(QueryLevel::unique_key) {
            let value = self.text(key).unwrap_or_default();
            if value.is_empty() && !self.is_relational {
                return Err(mismatch("the unique key of a level above is missing"));
            }
            if value.contains(['*', '?', '\\']) {
                return Err(mismatch("the unique key of a level above has not one value"));
            }
        }
        Ok(())
    }

    fn text(&self, tag: Tag) -> Option<String> {
        self.object.get(tag).and_then(text_of)
    }

    fn add_key(&self, matching: &mut Matching, element: &InMemElement) -> Result<(), Refusal> {
        let tag = element.tag();
        if let Some(items) = element.items() {
            // A query's sequence has one item (PS3.4 §C.2.2.2.6).
            for inner in items.first().into_iter().flatten() {
                self.add_value(matching, Some(tag), inner)?;
            }
            matching.has_all &= items.len() <= 1;
            return Ok(());
        }
        match tag {
            // What these say is not matched.
            tags::QUERY_RETRIEVE_LEVEL
            | tags::SPECIFIC_CHARACTER_SET
            | tags::TIMEZONE_OFFSET_FROM_UTC => Ok(()),
            Tag(_, 0) => Ok(()),
            _ => self.add_value(matching, None, element),
        }
    }

    fn add_value(
        &self,
        matching: &mut Matching,
        sequence: Option<Tag>,
        element: &InMemElement,
    ) -> Result<(), Refusal> {
        if element.items().is_some() {
            matching.has_all = false;
            return Ok(());
        }
        let value = text_of(element).unwrap_or_default();
        if value.is_empty() || value == "*" {
            return Ok(());
        }
        if (sequence, element.tag()) == (None, tags::MODALITIES_IN_STUDY) {
            let any_of = value.split('\\').map(|modality| modality.trim().to_owned());
            let any_of: Vec<String> = any_of.filter(|modality| !modality.is_empty()).collect();
            check_list(&value)?;
            matching.conditions.push(Condition::ModalityInStudy(any_of));
            return Ok(());
        }
        match attribute(sequence, element.tag()) {
            Some(attribute) => {
                check_list(&value)?;
                matching.conditions.push(match self.is_fuzzy && is_name(attribute) {
                    true => Condition::Fuzzy { attribute, value },
                    false => Condition::Matches { attribute, value },
                });
            }
            None => matching.has_all = false,
        }
        Ok(())
    }
}

/// Conditions, and whether every key became one.
struct Matching {
    conditions: Vec<Condition>,
    has_all: bool,
}

fn is_name(attribute: &Attribute) -> bool {
    attribute.vr == dicom_core::VR::PN
}

fn attribute(sequence: Option<Tag>, tag: Tag) -> Option<&'static Attribute> {
    Attribute::all().find(|attribute| {
        attribute.tag == tag && attribute.within.map(|(_, sequence)| sequence) == sequence
    })
}

/// The text of an element, without padding.
fn text_of(element: &InMemElement) -> Option<String> {
    let text = element.value().to_str().ok()?;
    Some(text.trim_matches([' ', '\0']).to_owned())
}

fn check_list(value: &str) -> Result<(), Refusal> {
    match value.split(['\\', ',']).count() > UID_COUNT_MAX {
        true => Err(Refusal {
            status: status::OUT_OF_RESOURCES,
            comment: "a list has more than 10000 values",
        }),
        false => Ok(()),
    }
}

/// A whole identifier, or none when it is too large; read to its end either way.
async fn take_bytes(
    association: &mut Association,
    context: u8,
) -> Result<Option<Vec<u8>>, PacsError> {
    let mut bytes = Vec::new();
    let mut fits = true;
    loop {
        let (data, is_last) = association.next_data(context).await?;
        fits &= bytes.len() + data.len() <= IDENTIFIER_BYTES_MAX;
        if fits {
            bytes.extend_from_slice(&data);
        }
        if is_last {
            return Ok(fits.then_some(bytes));
        }
    }
}

fn read(bytes: &[u8], transfer_syntax: &str) -> Result<InMemDicomObject, Refusal> {
    let limits = DicomLimits {
        nesting_depth_max: NESTING_DEPTH_MAX,
        element_count_max: ELEMENT_COUNT_MAX,
        ..DicomLimits::default()
    };
    let read = read_identifier(bytes, transfer_syntax, &limits);
    read.map_err(|_| Refusal {
        status: status::CANNOT_UNDERSTAND,
        comment: "the identifier is no data set",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use dicom_core::{DataElement, PrimitiveValue, VR};

    fn identifier(root: Root, is_relational: bool, keys: &[(Tag, &str)]) -> Identifier {
        let mut object = InMemDicomObject::new_empty();
        for (tag, value) in keys {
            object.put(DataElement::new(*tag, VR::LO, PrimitiveValue::from(*value)));
        }
        Identifier { object, root, is_relational, is_fuzzy: false }
    }

    #[test]
    fn levels_need_the_unique_keys_above_them() {
        use tags::{PATIENT_ID, QUERY_RETRIEVE_LEVEL as LEVEL, STUDY_INSTANCE_UID};
        type Row<'a> = (Root, bool, &'a [(Tag, &'a str)], bool);
        let rows: [Row<'_>; 12] = [
            (Root::Study, false, &[(LEVEL, "STUDY")], true),
            (Root::Study, false, &[(LEVEL, "PATIENT")], false),
            (Root::Study, false, &[(LEVEL, "study")], false),
            (Root::Study, false, &[], false),
            (Root::Study, false, &[(LEVEL, "SERIES")], false),
            (Root::Study, true, &[(LEVEL, "SERIES")], true),
            (Root::Study, false, &[(LEVEL, "SERIES"), (STUDY_INSTANCE_UID, "1.2")], true),
            (Root::Study, false, &[(LEVEL, "SERIES"), (STUDY_INSTANCE_UID, "1.2\\1.3")], false),
            (Root::Study, false, &[(LEVEL, "SERIES"), (STUDY_INSTANCE_UID, "*")], false),
            (Root::Patient, false, &[(LEVEL, "PATIENT")], true),
            (Root::Patient, false, &[(LEVEL, "STUDY")], false),
            (Root::Patient, false, &[(LEVEL, "STUDY"), (PATIENT_ID, "P1")], true),
        ];
        for (root, is_relational, keys, expected) in rows {
            let asked = identifier(root, is_relational, keys).question();
            assert_eq!(asked.is_ok(), expected, "{root:?} {is_relational} {keys:?}");
            if let Err(refusal) = asked {
                assert_eq!(refusal.status, 0xA900);
                assert!(refusal.comment.len() <= 64);
            }
        }
    }

    #[test]
    fn retrievals_name_what_they_want() {
        use tags::{QUERY_RETRIEVE_LEVEL as LEVEL, STUDY_INSTANCE_UID};
        let wanted = |value| {
            let keys = [(LEVEL, "STUDY"), (STUDY_INSTANCE_UID, value)];
            identifier(Root::Study, false, &keys).wanted()
        };
        assert_eq!(wanted("1.2\\1.3").unwrap().conditions.len(), 1);
        assert_eq!(wanted("").unwrap_err().status, 0xA900);
        assert_eq!(wanted("*").unwrap_err().status, 0xA900, "not the whole archive");
        assert_eq!(wanted(&"1\\".repeat(10_001)).unwrap_err().status, 0xA700);
    }

    #[test]
    fn keys_that_are_not_matched_are_noticed() {
        use tags::{PATIENT_COMMENTS, PATIENT_NAME, QUERY_RETRIEVE_LEVEL as LEVEL};
        let ask = |keys: &[(Tag, &str)]| identifier(Root::Study, false, keys).question().unwrap();
        let known = ask(&[(LEVEL, "STUDY"), (PATIENT_NAME, "A*"), (PATIENT_COMMENTS, "")]);
        assert!(known.matches_all_keys && known.query.conditions.len() == 1);
        assert!(!ask(&[(LEVEL, "STUDY"), (PATIENT_COMMENTS, "tall")]).matches_all_keys);
    }
}
