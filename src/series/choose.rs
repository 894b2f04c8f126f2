//! The series of a study that a segmentation order most likely means.

use dicom_dictionary_std::tags;

use super::attributes::{FrameAttributes, number, texts};
use super::{Modality, SeriesError};
use crate::dicom::{Instance, SeriesUid};

/// What choosing needs to know of a series; all of it stands in one instance's header.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesCandidate {
    /// (0020,000E)
    pub series_uid: SeriesUid,
    /// (0008,0060)
    pub modality: Modality,
    /// Image frames of all instances together; 0 for objects without pixels.
    pub frame_count: usize,
    /// Image Type (0008,0008), its values in order.
    pub image_type: Vec<String>,
    /// Samples per Pixel (0028,0002); 1 for grey.
    pub samples_per_pixel: u16,
    /// Rows (0028,0010) times Columns (0028,0011).
    pub pixels_per_frame: usize,
    /// Image Position and Orientation (Patient) are there.
    pub has_plane: bool,
}

impl SeriesCandidate {
    /// Describes a series by one of its instances and by how many instances it has.
    pub fn of(instance: &Instance, instance_count: usize) -> Self {
        let attributes = FrameAttributes::of(instance, 1);
        let text = |tag| attributes.root(tag).map(texts).unwrap_or_default();
        let count = |tag| attributes.root(tag).and_then(number).unwrap_or(0.0) as usize;
        let plane =
            attributes.anywhere(tags::PLANE_POSITION_SEQUENCE, tags::IMAGE_POSITION_PATIENT).and(
                attributes
                    .anywhere(tags::PLANE_ORIENTATION_SEQUENCE, tags::IMAGE_ORIENTATION_PATIENT),
            );
        Self {
            series_uid: instance.identity().series.clone(),
            modality: Modality::parse(&text(tags::MODALITY).join("")),
            frame_count: instance.frame_count() as usize * instance_count,
            image_type: text(tags::IMAGE_TYPE),
            samples_per_pixel: count(tags::SAMPLES_PER_PIXEL).max(1) as u16,
            pixels_per_frame: count(tags::ROWS) * count(tags::COLUMNS),
            has_plane: plane.is_some(),
        }
    }

    /// Why this series cannot be segmented, if so.
    fn unsuitable(&self) -> Option<String> {
        if !matches!(self.modality, Modality::Ct | Modality::Mr) {
            return Some(format!("modality is {:?}, not CT or MR", self.modality.code()));
        }
        if self.frame_count == 0 {
            return Some("it has no images".to_owned());
        }
        if self.samples_per_pixel != 1 {
            return Some("its images are in colour".to_owned());
        }
        if self.image_type.iter().any(|value| value == "LOCALIZER") {
            return Some("it is a localizer".to_owned());
        }
        if self.frame_count == 1 {
            return Some("it has 1 image".to_owned());
        }
        if !self.has_plane {
            return Some("its images have no position in the patient".to_owned());
        }
        None
    }

    fn is_original(&self) -> bool {
        self.image_type.first().is_none_or(|value| value != "DERIVED")
    }
}

/// The series chosen, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesChoice {
    /// (0020,000E)
    pub series_uid: SeriesUid,
    /// One sentence without patient data.
    pub reason: String,
}

/// Chooses the series to segment: CT or MR, placed in the patient, grey, no localizer, at least
/// two images; original before derived, then the most images, then the finest matrix, then the
/// smallest UID.
///
/// # Errors
/// [`SeriesError::NoSuitableSeries`] with a reason for each series.
pub fn choose(mut candidates: Vec<SeriesCandidate>) -> Result<SeriesChoice, SeriesError> {
    candidates.sort_by(|a, b| a.series_uid.cmp(&b.series_uid));
    let best = candidates
        .iter()
        .rev()
        .filter(|candidate| candidate.unsuitable().is_none())
        .max_by_key(|c| (c.is_original(), c.frame_count, c.pixels_per_frame));
    match best {
        Some(best) => Ok(SeriesChoice {
            series_uid: best.series_uid.clone(),
            reason: reason(best, &candidates),
        }),
        None => Err(SeriesError::NoSuitableSeries { reasons: reasons(&candidates) }),
    }
}

fn reason(best: &SeriesCandidate, candidates: &[SeriesCandidate]) -> String {
    let origin = if best.is_original() { "original" } else { "derived" };
    let suitable = candidates.iter().filter(|c| c.unsuitable().is_none()).count();
    let (code, count) = (best.modality.code(), best.frame_count);
    match (suitable, candidates.len()) {
        (_, 1) => format!("the only series of the study: {code}, {count} images"),
        (1, all) => format!("the only suitable one of {all} series: {code}, {count} images"),
        (_, all) => format!(
            "the largest {origin} one of {suitable} suitable series ({all} in the study): {code}, \
             {count} images"
        ),
    }
}

fn reasons(candidates: &[SeriesCandidate]) -> Vec<String> {
    let numbered = candidates.iter().enumerate();
    numbered
        .filter_map(|(index, candidate)| {
            let reason = candidate.unsuitable()?;
            Some(format!("series {} ({}): {reason}", index + 1, candidate.modality.code()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn candidate(uid: &str, modality: &str, frame_count: usize) -> SeriesCandidate {
        SeriesCandidate {
            series_uid: SeriesUid::parse(uid).unwrap(),
            modality: Modality::parse(modality),
            frame_count,
            image_type: ["ORIGINAL", "PRIMARY", "AXIAL"].map(str::to_owned).to_vec(),
            samples_per_pixel: 1,
            pixels_per_frame: 512 * 512,
            has_plane: true,
        }
    }

    #[test]
    fn prefers_original_then_more_images_then_finer_matrix_then_smaller_uid() {
        let check = |candidates: Vec<SeriesCandidate>, expected: &str| {
            let mut reversed = candidates.clone();
            reversed.reverse();
            for order in [candidates, reversed] {
                assert_eq!(choose(order).unwrap().series_uid.as_str(), expected);
            }
        };
        let a = candidate("1.1", "CT", 100);
        check(vec![a.clone(), candidate("1.2", "CT", 101)], "1.2");
        check(vec![a.clone(), candidate("1.2", "CT", 100)], "1.1");
        let derived = SeriesCandidate {
            image_type: vec!["DERIVED".to_owned()],
            ..candidate("1.2", "CT", 400)
        };
        check(vec![a.clone(), derived], "1.1");
        let fine = SeriesCandidate { pixels_per_frame: 1 << 20, ..candidate("1.2", "CT", 100) };
        check(vec![a.clone(), fine], "1.2");
        check(vec![a, candidate("1.0", "SEG", 900), candidate("1.3", "PT", 900)], "1.1");
    }

    #[test]
    fn says_of_each_series_why_it_does_not_serve() {
        let localizer = SeriesCandidate {
            image_type: vec!["ORIGINAL".to_owned(), "PRIMARY".to_owned(), "LOCALIZER".to_owned()],
            ..candidate("1.1", "CT", 2)
        };
        let flat = SeriesCandidate { has_plane: false, ..candidate("1.2", "MR", 20) };
        let error =
            choose(vec![candidate("1.4", "SR", 0), candidate("1.3", "CT", 1), localizer, flat]);
        assert_eq!(
            error.unwrap_err().to_string(),
            "study has no suitable series: series 1 (CT): it is a localizer; series 2 (MR): its \
             images have no position in the patient; series 3 (CT): it has 1 image; series 4 \
             (SR): modality is \"SR\", not CT or MR"
        );
        let empty = choose(Vec::new()).unwrap_err();
        assert_eq!(empty.to_string(), "study has no suitable series: it has none at all");
    }
}
