//! Bulk data of stored instances, by the paths that the metadata name.

use std::path::PathBuf;

use dicom_core::header::Header;
use dicom_core::value::Value;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use super::metadata::{element_at, is_bulk};
use super::{Archive, ArchiveError, Scope, StoredFrames, json_key};
use crate::dicom::{Attributes as _, Instance};

/// One bulk value of an instance.
#[derive(Debug, Clone)]
pub struct Bulk {
    /// Its path below the instance's `bulkdata/`.
    pub path: String,
    /// What it is: `application/octet-stream`, or the type of an encapsulated document.
    pub media_type: String,
    /// Where its bytes are.
    pub source: BulkSource,
}

/// Where the bytes of a bulk value are.
#[derive(Debug, Clone)]
pub enum BulkSource {
    /// A part of a file.
    File {
        /// The file.
        path: PathBuf,
        /// Where the value starts.
        start: u64,
        /// How many bytes it has.
        length: u64,
    },
    /// In memory, in little endian.
    Memory(Vec<u8>),
    /// Compressed pixel data: frame by frame.
    Frames(StoredFrames),
}

impl Archive {
    /// The bulk value of an instance at a path.
    ///
    /// # Errors
    /// [`ArchiveError::Unknown`] and [`ArchiveError::UnknownBulk`]; when the disk fails.
    pub fn bulk(&self, scope: &Scope, path: &str) -> Result<Bulk, ArchiveError> {
        if path == json_key(tags::PIXEL_DATA)
            && let Some(bulk) = self.pixel_bulk(scope)?
        {
            return Ok(bulk);
        }
        let instance = self.load_instance(scope)?;
        let element = element_at(instance.object(), path);
        let unknown = ArchiveError::UnknownBulk { length: path.len() };
        element.and_then(|element| bulk_of(&instance, element, path)).ok_or(unknown)
    }

    /// Every bulk value of an instance, pixel data included.
    ///
    /// # Errors
    /// As [`Archive::bulk`].
    pub fn bulks(&self, scope: &Scope) -> Result<Vec<Bulk>, ArchiveError> {
        let instance = self.load_instance(scope)?;
        let mut paths = Vec::new();
        bulk_paths(instance.object(), "", &mut paths);
        let mut bulks = Vec::with_capacity(paths.len());
        for path in paths {
            let own = match path == json_key(tags::PIXEL_DATA) {
                true => self.pixel_bulk(scope)?,
                false => None,
            };
            let element = element_at(instance.object(), &path);
            bulks.extend(own.or_else(|| bulk_of(&instance, element?, &path)));
        }
        Ok(bulks)
    }

    /// Pixel data without reading them.
    fn pixel_bulk(&self, scope: &Scope) -> Result<Option<Bulk>, ArchiveError> {
        let frames = match self.frames(scope) {
            Ok(frames) => frames,
            Err(ArchiveError::Dicom(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let source = match frames.native_range() {
            Some((start, length)) => {
                BulkSource::File { path: frames.record().path.clone(), start, length }
            }
            None if frames.is_compressed() => BulkSource::Frames(frames),
            None => return Ok(None),
        };
        let (path, media_type) = (json_key(tags::PIXEL_DATA), octets());
        Ok(Some(Bulk { path, media_type, source }))
    }
}

fn octets() -> String {
    "application/octet-stream".to_owned()
}

fn bulk_of(instance: &Instance, element: &InMemElement, path: &str) -> Option<Bulk> {
    let bytes = match element.value() {
        Value::Primitive(value) => value.to_bytes().into_owned(),
        Value::PixelSequence(fragments) => fragments.fragments().concat(),
        Value::Sequence(_) => return None,
    };
    let media_type = match element.tag() {
        tags::ENCAPSULATED_DOCUMENT => instance
            .string_opt(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT)
            .filter(|media_type| is_media_type(media_type))
            .unwrap_or_else(octets),
        _ => octets(),
    };
    Some(Bulk { path: path.to_owned(), media_type, source: BulkSource::Memory(bytes) })
}

/// The text goes into a header, so it must be what it claims. Types that a browser would run as a
/// page of this server are not named.
fn is_media_type(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"/+-._".contains(&byte);
    let harmless = ["application/pdf", "text/plain", "image/", "model/", "video/"];
    text.bytes().all(letter)
        && text.matches('/').count() == 1
        && harmless.iter().any(|start| text.starts_with(start))
        && text != "image/svg+xml"
}

/// Recursion is as deep as the guard allows sequences.
fn bulk_paths(object: &InMemDicomObject, prefix: &str, paths: &mut Vec<String>) {
    for element in object.iter() {
        let path = format!("{prefix}{}", json_key(element.tag()));
        for (number, item) in (1..).zip(element.items().unwrap_or_default()) {
            bulk_paths(item, &format!("{path}.{number}."), paths);
        }
        if is_bulk(element) {
            paths.push(path);
        }
    }
}
