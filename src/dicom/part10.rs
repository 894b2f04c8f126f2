//! From a Part 10 file to its meta information and data set (PS3.10 §7), with the repairs that
//! files in the wild need.

use dicom_core::Tag;
use dicom_object::{DefaultDicomObject, FileMetaTable, InMemDicomObject};
use flate2::read::DeflateDecoder;
use std::borrow::Cow;
use std::io::Read;

use super::attributes::Attributes;
use super::guard::PixelPlace;
use super::stream::{self, Encoding};
use super::uid::check_uid;
use super::{DicomError, DicomLimits, guard, transfer_syntax};
use crate::error::Finding;

/// Inflation stops at this multiple of the deflated size …
const INFLATION_RATIO_MAX: u64 = 100;
/// … but small files may be larger: a sparse segmentation deflates a thousandfold.
const INFLATION_ALWAYS_ALLOWED_BYTES: u64 = 128 << 20;

/// A file that was read.
pub(super) struct Part10 {
    pub(super) object: DefaultDicomObject,
    /// As the file declares it, or as its first data element shows when it does not.
    pub(super) transfer_syntax_uid: String,
    pub(super) findings: Vec<Finding>,
    /// Where the pixel data lie in the file; unknown when the data set is deflated or its byte
    /// order is not the one of the values in memory.
    pub(super) pixel_place: Option<PixelPlace>,
}

/// Reads a whole file. What dicom-rs gets is in memory, little endian and explicit.
///
/// # Errors
/// When the bytes are not DICOM, break their own structure, or pass a limit.
pub(super) fn read(bytes: &[u8], limits: &DicomLimits) -> Result<Part10, DicomError> {
    check_size("file size in bytes", bytes.len() as u64, limits.instance_size_bytes_max)?;
    let mut findings = Vec::new();
    let start = find_start(bytes, &mut findings)?;
    let meta = read_meta(bytes, start, &mut findings)?;
    let (uid, declared) = transfer_syntax_of(&meta, bytes, &mut findings)?;
    let (data_set, at) = match declared.is_deflated {
        true => (Cow::Owned(inflate(&bytes[meta.end..], limits)?), 0),
        false => (Cow::Borrowed(bytes), meta.end),
    };
    let encoding = check_encoding(declared.encoding, &data_set[at..], &mut findings);
    let guard::DataSet { object, findings: more, pixel_place } =
        guard::read_data_set(&data_set, at, encoding, limits)?;
    findings.extend(more);
    let pixel_place = pixel_place.filter(|_| !declared.is_deflated && encoding.is_little_endian());
    let table = meta.into_table(&uid, declared.encoding, &object);
    let object = object.with_exact_meta(table);
    Ok(Part10 { object, transfer_syntax_uid: uid, findings, pixel_place })
}

pub(super) fn check_size(what: &'static str, found: u64, max: u64) -> Result<(), DicomError> {
    if found <= max { Ok(()) } else { Err(DicomError::TooLarge { what, found, max }) }
}

/// Finds where the meta information, or without it the data set, starts.
fn find_start(bytes: &[u8], findings: &mut Vec<Finding>) -> Result<usize, DicomError> {
    if bytes.get(128..132) == Some(b"DICM") {
        return Ok(132);
    }
    let start = if bytes.starts_with(b"DICM") { 4 } else { 0 };
    let may_be_data_set = [Encoding::ExplicitLittle, Encoding::ExplicitBig]
        .into_iter()
        .filter_map(|encoding| stream::peek_tag(bytes, start, encoding))
        .any(|tag| matches!(tag.group(), 0x0002 | 0x0008) && tag.element() < 0x0100);
    if !may_be_data_set || bytes.len() < start + 8 {
        return Err(DicomError::NotDicom(format!(
            "{} bytes without DICM at byte 128 and without a data element at the start",
            bytes.len()
        )));
    }
    findings.push(Finding::new("missing_preamble", "the file has no 128-byte preamble"));
    Ok(start)
}

/// The elements of group 0002 that matter, and where the group ends.
#[derive(Default)]
struct Meta<'a> {
    end: usize,
    elements: Vec<(u16, &'a [u8])>,
}

impl Meta<'_> {
    fn bytes(&self, element: u16) -> Option<&[u8]> {
        self.elements.iter().find(|(found, _)| *found == element).map(|(_, bytes)| *bytes)
    }

    fn text(&self, element: u16) -> Option<String> {
        let text = String::from_utf8_lossy(self.bytes(element)?);
        let text = text.trim_matches(['\0', ' ']);
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Builds dicom-rs's table; what is missing comes from the data set. A big-endian file is
    /// held in little endian, and the table says so, else writing the object would mix the two.
    fn into_table(self, uid: &str, encoding: Encoding, object: &InMemDicomObject) -> FileMetaTable {
        let transfer_syntax = match encoding {
            Encoding::ExplicitBig => transfer_syntax::EXPLICIT_LITTLE_ENDIAN,
            Encoding::ImplicitLittle | Encoding::ExplicitLittle => uid,
        };
        let or_object = |element, tag| {
            self.text(element).or_else(|| object.string_opt(tag)).unwrap_or_default()
        };
        let mut table = FileMetaTable {
            information_group_length: 0,
            information_version: [0, 1],
            media_storage_sop_class_uid: or_object(0x0002, Tag(0x0008, 0x0016)),
            media_storage_sop_instance_uid: or_object(0x0003, Tag(0x0008, 0x0018)),
            transfer_syntax: transfer_syntax.to_owned(),
            implementation_class_uid: self.text(0x0012).unwrap_or_default(),
            implementation_version_name: self.text(0x0013),
            source_application_entity_title: self.text(0x0016),
            sending_application_entity_title: self.text(0x0017),
            receiving_application_entity_title: self.text(0x0018),
            private_information_creator_uid: self.text(0x0100),
            private_information: self.bytes(0x0102).map(<[u8]>::to_vec),
        };
        table.update_information_group_length();
        table
    }
}

/// Reads group 0002 by its tags; its group length is often wrong or absent and not needed.
fn read_meta<'a>(
    bytes: &'a [u8],
    start: usize,
    findings: &mut Vec<Finding>,
) -> Result<Meta<'a>, DicomError> {
    let mut meta = Meta { end: start, elements: Vec::new() };
    let encoding = check_encoding(Encoding::ExplicitLittle, &bytes[start..], &mut Vec::new());
    let mut declared_end = None;
    while let Some(Tag(0x0002, element)) = stream::peek_tag(bytes, meta.end, encoding) {
        let header = stream::read_header(bytes, meta.end, encoding)?;
        let length = header.length.ok_or_else(|| header.broken("undefined length"))?;
        meta.end = header.value_end(bytes.len(), length)?;
        let value = &bytes[header.value_at..meta.end];
        if element == 0 {
            let length = value.try_into().map_or(0, u32::from_le_bytes);
            declared_end = Some(meta.end as u64 + u64::from(length));
        }
        if meta.elements.len() < 64 {
            meta.elements.push((element, value));
        }
    }
    let found = meta.end as u64;
    if meta.elements.is_empty() {
        findings.push(Finding::new("missing_meta", "the file has no meta information"));
    } else if declared_end != Some(found) {
        let message = match declared_end {
            Some(end) => format!("file meta information ends at byte {found}, not {end}"),
            None => "file meta information has no group length".to_owned(),
        };
        findings.push(Finding::new("meta_group_length", message));
    }
    Ok(meta)
}

fn transfer_syntax_of(
    meta: &Meta<'_>,
    bytes: &[u8],
    findings: &mut Vec<Finding>,
) -> Result<(String, transfer_syntax::DataSetForm), DicomError> {
    if let Some(uid) = meta.text(0x0010) {
        let uid = check_uid("TransferSyntaxUID", &uid)?.to_owned();
        let form = transfer_syntax::data_set_form(&uid);
        return Ok((uid, form));
    }
    let group = |encoding| stream::peek_tag(bytes, meta.end, encoding).map_or(0, Tag::group);
    let is_big = group(Encoding::ExplicitBig) < group(Encoding::ExplicitLittle);
    let uid = match has_explicit_vr(&bytes[meta.end..]) {
        true if is_big => transfer_syntax::EXPLICIT_BIG_ENDIAN,
        true => transfer_syntax::EXPLICIT_LITTLE_ENDIAN,
        false => transfer_syntax::IMPLICIT_LITTLE_ENDIAN,
    };
    let message = format!("transfer syntax is not declared; the data set reads as {uid}");
    findings.push(Finding::new("missing_transfer_syntax", message));
    Ok((uid.to_owned(), transfer_syntax::data_set_form(uid)))
}

/// Whether the first data element carries a VR.
fn has_explicit_vr(bytes: &[u8]) -> bool {
    bytes.get(4..6).is_some_and(|vr| vr.iter().all(u8::is_ascii_uppercase))
}

/// Compares the declared encoding with the first element, which some writers get wrong.
fn check_encoding(declared: Encoding, bytes: &[u8], findings: &mut Vec<Finding>) -> Encoding {
    let found = match (declared, has_explicit_vr(bytes)) {
        (Encoding::ExplicitLittle, false) if bytes.len() >= 8 => Encoding::ImplicitLittle,
        (Encoding::ImplicitLittle, true) => Encoding::ExplicitLittle,
        _ => declared,
    };
    if found != declared {
        let message = format!("transfer syntax says {declared:?}, the data set is {found:?}");
        findings.push(Finding::new("wrong_transfer_syntax", message));
    }
    found
}

/// Inflates a data set (PS3.5 §A.5) no further than the limits.
fn inflate(deflated: &[u8], limits: &DicomLimits) -> Result<Vec<u8>, DicomError> {
    let by_ratio = (deflated.len() as u64).saturating_mul(INFLATION_RATIO_MAX);
    let max = by_ratio.max(INFLATION_ALWAYS_ALLOWED_BYTES).min(limits.inflated_size_bytes_max);
    let mut inflated = Vec::new();
    DeflateDecoder::new(deflated).take(max + 1).read_to_end(&mut inflated).map_err(|_| {
        DicomError::NotDicom(format!(
            "the deflated data set of {} bytes breaks off after {} inflated bytes",
            deflated.len(),
            inflated.len()
        ))
    })?;
    check_size("inflated data set in bytes", inflated.len() as u64, max)?;
    Ok(inflated)
}
