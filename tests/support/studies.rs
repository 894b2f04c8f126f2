//! Small instances made for tests: oblique, anisotropic, non-square, with negated cosines.

use dicom_core::{DataElement, PrimitiveValue, VR, dicom_value};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

/// The patient's name in every instance; it must not show in logs or metrics.
pub const PATIENT_NAME: &str = "Zyxwvut^Recognisable";
/// The patient's id in every instance.
pub const PATIENT_ID: &str = "PID-QJ7-4431";
/// Rows of every slice.
pub const ROWS: u16 = 5;
/// Columns of every slice.
pub const COLUMNS: u16 = 7;

/// One slice of a study.
#[derive(Debug, Clone)]
pub struct Slice {
    pub study: String,
    pub series: String,
    pub number: u32,
    pub modality: &'static str,
    pub study_date: &'static str,
    pub patient_name: String,
}

impl Slice {
    /// Slice `number` of the first series of study `study`.
    pub fn new(study: u32, number: u32) -> Self {
        let study = format!("1.2.826.0.1.3680043.2.1143.{study}");
        Self {
            series: format!("{study}.1"),
            study,
            number,
            modality: "MR",
            study_date: "20240229",
            patient_name: PATIENT_NAME.to_owned(),
        }
    }

    /// The same slice in another series.
    pub fn in_series(mut self, number: u32) -> Self {
        self.series = format!("{}.{number}", self.study);
        self
    }

    pub fn sop_instance(&self) -> String {
        format!("{}.{}", self.series, self.number)
    }

    /// The stored pixel values.
    pub fn pixels(&self) -> Vec<u16> {
        (0..ROWS * COLUMNS).map(|n| n * 3 + self.number as u16).collect()
    }

    /// The slice as a Part 10 file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut object = InMemDicomObject::new_empty();
        let mut put = |tag, vr, value: PrimitiveValue| {
            object.put(DataElement::new(tag, vr, value));
        };
        put(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192".into());
        put(tags::IMAGE_TYPE, VR::CS, dicom_value!(Strs, ["ORIGINAL", "PRIMARY"]));
        put(tags::SOP_CLASS_UID, VR::UI, uids::MR_IMAGE_STORAGE.into());
        put(tags::SOP_INSTANCE_UID, VR::UI, self.sop_instance().into());
        put(tags::STUDY_DATE, VR::DA, self.study_date.into());
        put(tags::STUDY_TIME, VR::TM, "120059".into());
        put(tags::ACCESSION_NUMBER, VR::SH, "ACC-1".into());
        put(tags::MODALITY, VR::CS, self.modality.into());
        put(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "Doctor^Who".into());
        put(tags::STUDY_DESCRIPTION, VR::LO, "Head with contrast".into());
        put(tags::SERIES_DESCRIPTION, VR::LO, "T1 sagittal".into());
        put(tags::PATIENT_NAME, VR::PN, self.patient_name.as_str().into());
        put(tags::PATIENT_ID, VR::LO, PATIENT_ID.into());
        put(tags::PATIENT_BIRTH_DATE, VR::DA, "19010203".into());
        put(tags::PATIENT_SEX, VR::CS, "O".into());
        put(tags::STUDY_INSTANCE_UID, VR::UI, self.study.as_str().into());
        put(tags::SERIES_INSTANCE_UID, VR::UI, self.series.as_str().into());
        put(tags::STUDY_ID, VR::SH, "S1".into());
        put(tags::SERIES_NUMBER, VR::IS, "1".into());
        put(tags::INSTANCE_NUMBER, VR::IS, self.number.to_string().into());
        let z_mm = (f64::from(self.number) * 3.5).to_string();
        put(tags::IMAGE_POSITION_PATIENT, VR::DS, dicom_value!(Strs, ["10.5", "-20", z_mm]));
        let cosines = dicom_value!(Strs, ["-0.8", "0.6", "0", "-0.6", "-0.8", "0"]);
        put(tags::IMAGE_ORIENTATION_PATIENT, VR::DS, cosines);
        put(tags::FRAME_OF_REFERENCE_UID, VR::UI, format!("{}.99", self.study).into());
        put(tags::SAMPLES_PER_PIXEL, VR::US, 1_u16.into());
        put(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2".into());
        put(tags::ROWS, VR::US, ROWS.into());
        put(tags::COLUMNS, VR::US, COLUMNS.into());
        put(tags::PIXEL_SPACING, VR::DS, dicom_value!(Strs, ["0.5", "0.75"]));
        put(tags::BITS_ALLOCATED, VR::US, 16_u16.into());
        put(tags::BITS_STORED, VR::US, 12_u16.into());
        put(tags::HIGH_BIT, VR::US, 11_u16.into());
        put(tags::PIXEL_REPRESENTATION, VR::US, 0_u16.into());
        put(tags::PIXEL_DATA, VR::OW, PrimitiveValue::U16(self.pixels().into()));
        let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let file = object.with_meta(meta).expect("meta information");
        let mut bytes = Vec::new();
        file.write_all(&mut bytes).expect("write to memory");
        bytes
    }
}
