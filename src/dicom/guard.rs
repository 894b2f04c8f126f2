//! Walks a data set that nobody has checked, and builds the object from it.
//!
//! dicom-rs's own reader recurses once per sequence, allocates what a header declares and reads
//! sequences of VR UN as explicit VR; a few hundred bytes end the process. So its reader never
//! runs: this walk is iterative, keeps every length inside its surroundings, counts what it
//! allocates, and hands dicom-rs finished values only. One pass; values are copied once.

use dicom_core::header::Header as _;
use dicom_core::value::{C, DataSetSequence, PixelFragmentSequence};
use dicom_core::{DataElement, Tag, VR};
use dicom_object::{InMemDicomObject, mem::InMemElement};

use super::stream::{self, Encoding, Header, ITEM, ITEM_END, SEQUENCE_END};
use super::text::CharacterSet;
use super::tolerated::Tolerated;
use super::value::{self, Context};
use super::{DicomError, DicomLimits, PIXEL_DATA};
use crate::error::Finding;

/// Multi-valued text costs a string per value; this many per element of the limit are allowed.
const TEXT_VALUES_PER_ELEMENT: usize = 8;

const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// A data set or sequence that is not finished yet.
struct Open {
    /// The sequence's tag, or the tag of the sequence an item belongs to.
    tag: Tag,
    /// Where it ends; a delimiter ends it earlier when its length is undefined.
    end: usize,
    is_undefined: bool,
    context: Context,
    /// The text of this data set can be written again as UTF-8 only.
    needs_utf8: bool,
    content: Content,
}

enum Content {
    DataSet(Vec<InMemElement>),
    Sequence(C<InMemDicomObject>),
}

struct Walk<'a> {
    bytes: &'a [u8],
    limits: &'a DicomLimits,
    at: usize,
    elements_left: usize,
    texts_left: usize,
    tolerated: Tolerated,
    /// Where the zeros at the end start, once someone asked.
    padding_at: Option<usize>,
    stack: Vec<Open>,
    pixel_place: Option<PixelPlace>,
}

/// Where Pixel Data (7FE0,0010) of the data set itself lie in the bytes that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PixelPlace {
    /// Where its header starts.
    pub(super) header_at: usize,
    pub(super) value: PixelValuePlace,
}

/// Start and length of values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PixelValuePlace {
    Native { at: usize, length: usize },
    Fragments(Vec<(usize, usize)>),
}

/// A data set that was read.
pub(super) struct DataSet {
    pub(super) object: InMemDicomObject,
    pub(super) findings: Vec<Finding>,
    pub(super) pixel_place: Option<PixelPlace>,
}

/// Reads the data set that fills `bytes` from `start` to the end.
///
/// # Errors
/// The first thing that breaks the structure (PS3.5 §7) or a limit.
pub(super) fn read_data_set(
    bytes: &[u8],
    start: usize,
    encoding: Encoding,
    limits: &DicomLimits,
) -> Result<DataSet, DicomError> {
    let context =
        Context { encoding, text: CharacterSet::default(), is_signed: false, bits_allocated: 16 };
    let root = Open {
        tag: Tag(0, 0),
        end: bytes.len(),
        is_undefined: false,
        context,
        needs_utf8: false,
        content: Content::DataSet(Vec::new()),
    };
    let mut walk = Walk {
        bytes,
        limits,
        at: start,
        elements_left: limits.element_count_max,
        texts_left: limits.element_count_max.saturating_mul(TEXT_VALUES_PER_ELEMENT),
        tolerated: Tolerated::default(),
        padding_at: None,
        stack: vec![root],
        pixel_place: None,
    };
    let object = walk.run()?;
    Ok(DataSet { object, findings: walk.tolerated.findings(), pixel_place: walk.pixel_place })
}

impl Walk<'_> {
    fn run(&mut self) -> Result<InMemDicomObject, DicomError> {
        loop {
            let end = self.top().end;
            if self.stack.len() == 1 && self.is_only_padding_left(end) {
                self.tolerated.trailing_bytes += end - self.at;
                self.at = end;
            }
            let open = self.top();
            let (tag, is_undefined) = (open.tag, open.is_undefined);
            let is_sequence = matches!(open.content, Content::Sequence(_));
            if self.at < end {
                match is_sequence {
                    true => self.step_in_sequence()?,
                    false => self.step_in_data_set()?,
                }
            } else if is_undefined {
                let offset = self.at;
                return Err(DicomError::Truncated { tag, offset, declared: 8, remaining: 0 });
            } else if let Some(object) = self.close() {
                return Ok(object);
            }
        }
    }

    /// Whether what is left of the file is too short for an element, or zeros.
    fn is_only_padding_left(&mut self, end: usize) -> bool {
        let rest = &self.bytes[self.at..end];
        if rest.len() < 8 {
            return true;
        }
        if !rest.starts_with(&[0; 4]) {
            return false;
        }
        // Looked for once: a file may hold a million elements with the tag (0000,0000).
        let bytes = self.bytes;
        let padding_at = self.padding_at.get_or_insert_with(|| {
            bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
        });
        self.at >= *padding_at
    }

    /// The innermost thing that is open. The walk ends when the root closes.
    fn top(&mut self) -> &mut Open {
        self.stack.last_mut().expect("the root stays open until the walk ends")
    }

    /// Closes the innermost thing and puts it into what holds it; the root's object comes back.
    fn close(&mut self) -> Option<InMemDicomObject> {
        let closed = self.stack.pop()?;
        match closed.content {
            Content::DataSet(mut elements) => {
                if closed.needs_utf8 {
                    elements.push(DataElement::new(SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"));
                }
                let object = InMemDicomObject::from_element_iter(elements);
                match self.stack.last_mut().map(|open| &mut open.content) {
                    Some(Content::Sequence(items)) => items.push(object),
                    Some(Content::DataSet(_)) | None => return Some(object),
                }
            }
            Content::Sequence(items) => {
                let length = dicom_core::Length::UNDEFINED;
                let value = DataSetSequence::new(items, length);
                self.put(DataElement::new_with_len(closed.tag, VR::SQ, length, value));
            }
        }
        None
    }

    fn put(&mut self, element: InMemElement) {
        let open = self.top();
        let context = &mut open.context;
        match element.tag() {
            SPECIFIC_CHARACTER_SET => {
                let codes = element.to_str().unwrap_or_default();
                context.text = CharacterSet::from_codes(&codes);
                open.needs_utf8 |= !codes.trim().is_empty() && !CharacterSet::is_writable(&codes);
            }
            Tag(0x0028, 0x0100) => {
                context.bits_allocated = element.to_int().unwrap_or(context.bits_allocated);
            }
            Tag(0x0028, 0x0103) => context.is_signed = element.to_int().unwrap_or(0_u16) == 1,
            _ => {}
        }
        if let Content::DataSet(elements) = &mut open.content {
            elements.push(element);
        }
    }

    fn count_element(&mut self) -> Result<(), DicomError> {
        let max = self.limits.element_count_max as u64;
        self.elements_left = self.elements_left.checked_sub(1).ok_or(DicomError::TooLarge {
            what: "count of data elements, items and fragments",
            found: max.saturating_add(1),
            max,
        })?;
        Ok(())
    }

    fn next_header(&mut self) -> Result<Header, DicomError> {
        let open = self.stack.last().expect("the root stays open until the walk ends");
        stream::read_header(&self.bytes[..open.end], self.at, open.context.encoding)
    }

    fn step_in_sequence(&mut self) -> Result<(), DicomError> {
        let header = self.next_header()?;
        let open = self.top();
        match (header.tag, header.length) {
            (SEQUENCE_END, _) => {
                let is_undefined = open.is_undefined;
                self.at = header.value_at;
                if is_undefined {
                    self.close();
                } else {
                    self.tolerated.stray_delimiters += 1;
                }
                Ok(())
            }
            (ITEM, length) => {
                let end = match length {
                    Some(length) => header.value_end(open.end, length)?,
                    None => open.end,
                };
                let item = Open {
                    tag: open.tag,
                    end,
                    is_undefined: length.is_none(),
                    context: open.context.clone(),
                    needs_utf8: false,
                    content: Content::DataSet(Vec::new()),
                };
                self.count_element()?;
                self.at = header.value_at;
                self.stack.push(item);
                Ok(())
            }
            _ => Err(header.broken(format!("found where an item of {} must start", open.tag))),
        }
    }

    fn step_in_data_set(&mut self) -> Result<(), DicomError> {
        let header = self.next_header()?;
        match header.tag {
            ITEM_END if self.top().is_undefined => {
                self.at = header.value_at;
                self.close();
                return Ok(());
            }
            ITEM_END | SEQUENCE_END if header.length == Some(0) && !self.top().is_undefined => {
                self.at = header.value_at;
                self.tolerated.stray_delimiters += 1;
                return Ok(());
            }
            tag if tag.group() == 0xFFFE => {
                return Err(header.broken("found where a data element must start"));
            }
            _ => {}
        }
        self.count_element()?;
        let (vr, is_un_sequence) = self.resolve_vr(&header);
        match (vr, header.length) {
            (VR::SQ, length) => self.open_sequence(&header, length, is_un_sequence),
            (_, None) if header.tag == PIXEL_DATA => self.read_fragments(&header),
            (_, None) => {
                Err(header.broken("undefined length, but neither sequence nor pixel data"))
            }
            (vr, Some(length)) => self.read_value(&header, vr, length),
        }
    }

    /// The VR to read the value by, and whether it is a sequence that was written as UN: such
    /// content is implicit VR little endian whatever surrounds it (PS3.5 §6.2.2, CP-246).
    fn resolve_vr(&mut self, header: &Header) -> (VR, bool) {
        let context = &self.top().context;
        match (header.vr, header.length) {
            (Some(VR::UN), None) => (VR::SQ, true),
            (Some(VR::UN), Some(_)) if context.encoding.is_little_endian() => {
                let known = value::dictionary_vr(header.tag, context.is_signed);
                let vr = known.filter(|_| header.tag.group().is_multiple_of(2)).unwrap_or(VR::UN);
                (vr, vr == VR::SQ)
            }
            (Some(vr), _) => (vr, false),
            (None, length) => {
                let known = value::dictionary_vr(header.tag, context.is_signed);
                let unknown = if length.is_none() { VR::SQ } else { VR::UN };
                (known.unwrap_or(unknown), false)
            }
        }
    }

    fn open_sequence(
        &mut self,
        header: &Header,
        length: Option<u32>,
        is_un_sequence: bool,
    ) -> Result<(), DicomError> {
        let depth_max = self.limits.nesting_depth_max;
        // Sequences and items alternate above the root.
        if self.stack.len() / 2 >= depth_max {
            return Err(DicomError::TooDeep { tag: header.tag, offset: header.offset, depth_max });
        }
        let open = self.top();
        let end = match length {
            Some(length) => header.value_end(open.end, length)?,
            None => open.end,
        };
        let mut context = open.context.clone();
        if is_un_sequence {
            context.encoding = Encoding::ImplicitLittle;
            self.tolerated.un_sequences += 1;
        }
        self.at = header.value_at;
        self.stack.push(Open {
            tag: header.tag,
            end,
            is_undefined: length.is_none(),
            context,
            needs_utf8: false,
            content: Content::Sequence(C::new()),
        });
        Ok(())
    }

    fn read_value(&mut self, header: &Header, vr: VR, length: u32) -> Result<(), DicomError> {
        let open = self.stack.last().expect("the root stays open until the walk ends");
        let end = header.value_end(open.end, length)?;
        let bytes = &self.bytes[header.value_at..end];
        let texts = value::text_value_count(vr, bytes);
        self.texts_left = self.texts_left.checked_sub(texts).ok_or(DicomError::TooLarge {
            what: "count of text values",
            found: texts as u64,
            max: self.limits.element_count_max as u64 * TEXT_VALUES_PER_ELEMENT as u64,
        })?;
        let (value, is_mangled) = value::decode(vr, header.tag, bytes, &open.context);
        self.tolerated.mangled_texts += usize::from(is_mangled);
        self.top().needs_utf8 |= is_mangled;
        self.tolerated.odd_lengths += usize::from(length % 2 == 1);
        if header.tag == PIXEL_DATA {
            let at = header.value_at;
            self.note_pixels(header, PixelValuePlace::Native { at, length: end - at });
        }
        self.at = end;
        self.put(DataElement::new(header.tag, vr, value));
        Ok(())
    }

    /// Notes where the pixel data of the root are; those of an icon are inside an item.
    fn note_pixels(&mut self, header: &Header, value: PixelValuePlace) {
        if self.stack.len() == 1 {
            self.pixel_place = Some(PixelPlace { header_at: header.offset, value });
        }
    }

    /// Reads encapsulated pixel data: an item with the Basic Offset Table, then fragments
    /// (PS3.5 §A.4). Lengths lead the way; what looks like a delimiter inside a fragment is data.
    fn read_fragments(&mut self, header: &Header) -> Result<(), DicomError> {
        let mut offset_table: Option<C<u32>> = None;
        let mut fragments: C<Vec<u8>> = C::new();
        let mut places = Vec::new();
        self.at = header.value_at;
        loop {
            let item = self.next_header()?;
            let open = self.stack.last().expect("the root stays open until the walk ends");
            match (item.tag, item.length) {
                (SEQUENCE_END, _) => {
                    self.at = item.value_at;
                    break;
                }
                (ITEM, Some(length)) => {
                    let end = item.value_end(open.end, length)?;
                    let bytes = &self.bytes[item.value_at..end];
                    if offset_table.is_none() {
                        offset_table = Some(offsets(bytes));
                    } else {
                        self.count_element()?;
                        fragments.push(bytes.to_vec());
                        places.push((item.value_at, bytes.len()));
                    }
                    self.at = end;
                }
                (ITEM, None) => return Err(item.broken("a fragment of undefined length")),
                _ => return Err(item.broken("found where a fragment must start")),
            }
        }
        self.note_pixels(header, PixelValuePlace::Fragments(places));
        let value = PixelFragmentSequence::new(offset_table.unwrap_or_default(), fragments);
        let length = dicom_core::Length::UNDEFINED;
        self.put(DataElement::new_with_len(header.tag, VR::OB, length, value));
        Ok(())
    }
}

fn offsets(bytes: &[u8]) -> C<u32> {
    bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}
