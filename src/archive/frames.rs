//! Frames of stored instances, read one by one.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::{Archive, ArchiveError, InstanceRecord, Scope, index, io_error};
use crate::dicom::{FramePlaces, GreyFrame, Instance, RgbFrame};

/// The frames of one stored instance. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StoredFrames {
    record: InstanceRecord,
    instance: Arc<Instance>,
    /// Unknown for the few files whose frames cannot be read apart; then `instance` is whole.
    places: Option<Arc<FramePlaces>>,
}

impl Archive {
    /// Opens the frames of an instance. Of its file only what stands before the pixel data is
    /// read, unless they are deflated with the rest or big-endian.
    ///
    /// # Errors
    /// [`ArchiveError::Unknown`]; when the disk fails, or the instance has no pixel data.
    pub fn frames(&self, scope: &Scope) -> Result<StoredFrames, ArchiveError> {
        let record = self.instances(scope)?.swap_remove(0);
        let sql = "SELECT frames FROM instance WHERE SOPInstanceUID = ?";
        let uid = record.sop_instance.as_str();
        let packed: Option<Vec<u8>> = self.0.index.read(|connection| {
            connection.prepare_cached(sql)?.query_row([uid], |row| row.get(0))
        })?;
        let Some(places) = packed.as_deref().and_then(index::unpack_places) else {
            let instance = Arc::new(self.load(&record.path)?);
            return Ok(StoredFrames { record, instance, places: None });
        };
        let header = read_range(&record, (0, places.header_size_bytes))?;
        let instance = Instance::parse_header(&header, &self.0.settings.limits)?;
        Ok(StoredFrames { record, instance: Arc::new(instance), places: Some(Arc::new(places)) })
    }
}

impl StoredFrames {
    /// The attributes of the instance, without its pixel data where these are read apart.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// What is stored.
    pub fn record(&self) -> &InstanceRecord {
        &self.record
    }

    /// How many frames there are.
    pub fn count(&self) -> u32 {
        self.places.as_ref().map_or(self.instance.frame_count(), |places| places.count())
    }

    /// Bytes that this value keeps in memory, roughly.
    pub fn kept_bytes(&self) -> u64 {
        match &self.places {
            Some(places) => places.header_size_bytes * 2,
            None => self.record.size_bytes,
        }
    }

    /// The byte range of all native pixel data in the file, where they lie there as Explicit VR
    /// Little Endian has them.
    pub fn native_range(&self) -> Option<(u64, u64)> {
        self.places.as_ref()?.native_range()
    }

    /// Whether [`StoredFrames::stored`] gives compressed bytes.
    pub fn is_compressed(&self) -> bool {
        self.places.as_ref().is_some_and(|places| !places.is_native())
    }

    /// One frame as it is stored, compressed or not; `None` where that cannot be cut out of the
    /// file. `number` counts from 1.
    ///
    /// # Errors
    /// When there is no such frame, or the disk fails.
    pub fn stored(&self, number: u32) -> Result<Option<Vec<u8>>, ArchiveError> {
        match self.places.as_ref().filter(|places| places.is_byte_aligned()) {
            Some(places) => self.read(places, number).map(Some),
            None => Ok(None),
        }
    }

    /// One frame as Explicit VR Little Endian has it.
    ///
    /// # Errors
    /// As [`Instance::native_frame`], and when the disk fails.
    pub fn native(&self, number: u32) -> Result<Vec<u8>, ArchiveError> {
        let Some(places) = &self.places else { return Ok(self.instance.native_frame(number)?) };
        let bytes = self.read(places, number)?;
        match places.is_native() && places.is_byte_aligned() {
            true => Ok(bytes),
            false => Ok(self.instance.native_frame_from(number, &bytes)?),
        }
    }

    /// One grey frame as stored values.
    ///
    /// # Errors
    /// As [`Instance::decode_frame`], and when the disk fails.
    pub fn grey(&self, number: u32) -> Result<GreyFrame, ArchiveError> {
        let Some(places) = &self.places else { return Ok(self.instance.decode_frame(number)?) };
        Ok(self.instance.decode_frame_from(number, &self.read(places, number)?)?)
    }

    /// One colour frame as red, green and blue.
    ///
    /// # Errors
    /// As [`Instance::decode_rgb`], and when the disk fails.
    pub fn rgb(&self, number: u32) -> Result<RgbFrame, ArchiveError> {
        let Some(places) = &self.places else { return Ok(self.instance.decode_rgb(number)?) };
        Ok(self.instance.decode_rgb_from(number, &self.read(places, number)?)?)
    }

    fn read(&self, places: &FramePlaces, number: u32) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        for range in places.ranges(number)? {
            match bytes.is_empty() {
                true => bytes = read_range(&self.record, range)?,
                false => bytes.extend(read_range(&self.record, range)?),
            }
        }
        Ok(bytes)
    }
}

/// Reads `(start, length)` of a stored file. A file that was deleted since it was looked up is no
/// fault of the disk.
fn read_range(
    record: &InstanceRecord,
    (start, length): (u64, u64),
) -> Result<Vec<u8>, ArchiveError> {
    let file = match File::open(&record.path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let uid = record.sop_instance.to_string();
            return Err(ArchiveError::Unknown { what: "instance", uid });
        }
        Err(error) => return Err(io_error("open a stored instance")(error)),
    };
    // The index may be of a file that was cut since.
    let length = length.min(record.size_bytes.saturating_sub(start));
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, start).map_err(io_error("read a stored instance"))?;
    Ok(bytes)
}
