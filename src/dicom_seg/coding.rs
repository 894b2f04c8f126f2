//! What a target is in codes, and what tracks it.

use super::elements::sct;
use super::{SegmentCoding, Tracking};
use crate::answer::Target;
use crate::dicom::SopInstanceUid;
use crate::error::Finding;
use crate::runtime::vocabulary::{Code, Concept, Laterality};

/// Colours for targets without a concept, in turn: CIELab, DICOM's 16-bit numbers.
const SPARE_COLOURS: [[u16; 3]; 6] = [
    [45746, 34112, 48234],
    [36568, 52318, 41230],
    [40255, 23201, 38904],
    [38132, 37250, 22070],
    [49020, 26310, 52112],
    [42308, 46650, 28660],
];

impl SegmentCoding {
    /// The coding of a target that becomes segment `number`. A target without a concept is an
    /// image region (DCM 111030), with a finding.
    pub fn of(target: &Target, number: u16) -> (Self, Option<Finding>) {
        match &target.concept {
            Some(concept) => (Self::of_concept(concept), None),
            None => {
                let message = format!("segment {number} has no coded concept; coded as region");
                (Self::uncoded(number), Some(Finding::new("segment_not_coded", message)))
            }
        }
    }

    /// The display colour as 8-bit sRGB, for pictures of our own.
    ///
    /// DICOM's numbers are CIELab under D50 (PS3.3 C.10.7.1.1): L* 0 to 100 and a*, b* -128 to 127
    /// over 0 to 65535. Colours outside sRGB are clipped.
    pub fn rgb(&self) -> [u8; 3] {
        let [l, a, b] = self.cielab.map(|value| f64::from(value) / 65535.0);
        let (l, a, b) = (l * 100.0, a * 255.0 - 128.0, b * 255.0 - 128.0);
        let y = (l + 16.0) / 116.0;
        let linear = |t: f64| if t > 6.0 / 29.0 { t.powi(3) } else { (t - 4.0 / 29.0) / 7.787 };
        let xyz = [linear(y + a / 500.0) * 0.9642, linear(y), linear(y - b / 200.0) * 0.8249];
        // D50 XYZ to linear sRGB (Bradford-adapted primaries).
        let matrix = [
            [3.133_856, -1.616_867, -0.490_615],
            [-0.978_768, 1.916_142, 0.033_454],
            [0.071_945, -0.228_991, 1.405_243],
        ];
        matrix.map(|row| {
            let value: f64 = row.iter().zip(xyz).map(|(m, x)| m * x).sum();
            let value = value.clamp(0.0, 1.0);
            let gamma = if value <= 0.003_130_8 {
                12.92 * value
            } else {
                1.055 * value.powf(1.0 / 2.4) - 0.055
            };
            (gamma * 255.0).round() as u8
        })
    }

    fn of_concept(concept: &Concept) -> Self {
        Self {
            category: concept.category.clone(),
            property_type: concept.property_type.clone(),
            modifier: concept.modifier.clone().or_else(|| side(concept.laterality)),
            cielab: concept.cielab,
        }
    }

    fn uncoded(number: u16) -> Self {
        let turn = usize::from(number.saturating_sub(1)) % SPARE_COLOURS.len();
        Self {
            category: sct("309825002", "Spatial and Relational Concept"),
            property_type: Code {
                value: "111030".to_owned(),
                scheme: "DCM".to_owned(),
                meaning: "Image Region".to_owned(),
            },
            modifier: None,
            cielab: SPARE_COLOURS[turn],
        }
    }
}

/// Laterality as a modifier (PS3.16 CID 244).
fn side(laterality: Laterality) -> Option<Code> {
    match laterality {
        Laterality::Left => Some(sct("7771000", "Left")),
        Laterality::Right => Some(sct("24028007", "Right")),
        Laterality::Both => Some(sct("51440002", "Right and left")),
        Laterality::None => None,
    }
}

impl Tracking {
    /// The tracking of segment `number` of an order; the same for the same order.
    pub fn derive(order_hash: &str, number: u16) -> Self {
        let number = number.to_string();
        let uid = SopInstanceUid::derive(&["segment tracking", order_hash, &number]);
        let short: String = order_hash.chars().take(16).collect();
        Self { id: format!("seer-{short}-{number}"), uid: uid.as_str().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(laterality: Laterality, modifier: Option<Code>) -> Target {
        let concept = Concept {
            name: "kidney".to_owned(),
            synonyms: Vec::new(),
            laterality,
            prompt: "kidney".to_owned(),
            category: sct("91723000", "Anatomical Structure"),
            property_type: sct("64033007", "Kidney"),
            modifier,
            cielab: [1, 2, 3],
            body_regions: Vec::new(),
            modalities: Vec::new(),
            parts: Vec::new(),
            caution: None,
        };
        Target { phrase: "kidney".to_owned(), prompt: "kidney".to_owned(), concept: Some(concept) }
    }

    #[test]
    fn codes_the_side_as_a_modifier() {
        let check = |laterality, modifier: Option<Code>, expected: Option<&str>| {
            let (coding, finding) = SegmentCoding::of(&target(laterality, modifier), 1);
            assert_eq!(coding.modifier.map(|code| code.value).as_deref(), expected);
            assert_eq!(finding, None);
        };
        check(Laterality::Left, None, Some("7771000"));
        check(Laterality::Right, None, Some("24028007"));
        check(Laterality::None, None, None);
        check(Laterality::Left, Some(sct("261089000", "Inferior")), Some("261089000"));
    }

    #[test]
    fn says_when_a_target_has_no_code() {
        let unknown = Target { concept: None, ..target(Laterality::None, None) };
        let (coding, finding) = SegmentCoding::of(&unknown, 2);
        assert_eq!(coding.property_type.value, "111030");
        assert_eq!(finding.map(|finding| finding.code).as_deref(), Some("segment_not_coded"));
        assert_ne!(coding.cielab, SegmentCoding::of(&unknown, 3).0.cielab);
    }

    #[test]
    fn tracks_each_segment_of_an_order_by_its_own_uid() {
        assert_eq!(Tracking::derive("abc", 1), Tracking::derive("abc", 1));
        assert_ne!(Tracking::derive("abc", 1).uid, Tracking::derive("abc", 2).uid);
        assert_ne!(Tracking::derive("abc", 1).uid, Tracking::derive("abd", 1).uid);
    }
}
