//! Abbreviations as they stand in orders; some mean two things, and the scan decides.

use super::Scene;
use crate::eval::random::Random;

/// Words and their short forms.
const SHORT: [(&str, &[&str]); 56] = [
    ("left", &["L", "lt", "lft", "(L)", "LT"]),
    ("right", &["R", "rt", "rgt", "(R)", "RT"]),
    ("both", &["bilat", "b/l", "bil"]),
    ("bilateral", &["bilat", "b/l"]),
    ("hippocampus", &["hipp", "hippoc", "HC"]),
    ("hippocampi", &["hipps", "hippoc"]),
    ("amygdala", &["amyg"]),
    ("thalamus", &["thal"]),
    ("caudate nucleus", &["caud", "caudate nuc"]),
    ("caudate", &["caud"]),
    ("putamen", &["put"]),
    ("globus pallidus", &["GP", "glob pall"]),
    ("nucleus accumbens", &["NAc", "nuc acc"]),
    ("basal ganglia", &["BG"]),
    ("lateral ventricle", &["lat vent", "lat ventr"]),
    ("lateral ventricles", &["lat vents"]),
    ("third ventricle", &["3rd vent", "V3"]),
    ("fourth ventricle", &["4th vent", "V4"]),
    ("ventricles", &["vents"]),
    ("cerebellum", &["cbl", "cerebell"]),
    ("cerebellar", &["cbl"]),
    ("cerebral", &["cereb"]),
    ("hemisphere", &["hemi", "hemisph"]),
    ("hemispheres", &["hemis"]),
    ("white matter", &["WM"]),
    ("grey matter", &["GM"]),
    ("gray matter", &["GM"]),
    ("cortex", &["ctx"]),
    ("brainstem", &["BS", "brainst"]),
    ("brain stem", &["BS"]),
    ("ventral diencephalon", &["VDC", "ventral DC"]),
    ("spinal cord", &["SC", "cord"]),
    ("parotid gland", &["parotid", "par gl"]),
    ("parotid glands", &["parotids"]),
    ("mandible", &["mand"]),
    ("oesophagus", &["oes", "oesoph"]),
    ("esophagus", &["eso", "esoph"]),
    ("larynx", &["lar"]),
    ("kidney", &["kid", "kdny"]),
    ("kidneys", &["kids", "kdnys"]),
    ("liver", &["liv"]),
    ("spleen", &["spl"]),
    ("stomach", &["stom"]),
    ("gallbladder", &["GB"]),
    ("urinary bladder", &["UB", "bladd"]),
    ("bladder", &["bladd"]),
    ("vertebrae", &["verts", "vertebr"]),
    ("vertebra", &["vert"]),
    ("hip bone", &["hipb", "innominate"]),
    ("femur", &["fem"]),
    ("inferior vena cava", &["IVC"]),
    ("superior vena cava", &["SVC"]),
    ("adrenal gland", &["adr", "adrenal"]),
    ("metastases", &["mets"]),
    ("metastasis", &["met"]),
    ("tumour", &["ca", "tu"]),
];

/// Abbreviations that mean different things in different scans: letters, the target that they mean,
/// and the region in which they mean it. `LV` is the left ventricle in a heart and, without a side,
/// the lateral ventricles in a brain.
const AMBIGUOUS: [(&str, &str, &str); 27] = [
    ("LV", "both lateral ventricles", "head"),
    ("LLV", "left lateral ventricle", "head"),
    ("LV", "left ventricle", "chest"),
    ("RLV", "right lateral ventricle", "head"),
    ("RV", "right ventricle", "chest"),
    ("LA", "left amygdala", "head"),
    ("LA", "left atrium", "chest"),
    ("RA", "right amygdala", "head"),
    ("RA", "right atrium", "chest"),
    ("LT", "left thalamus", "head"),
    ("RT", "right thalamus", "head"),
    ("LC", "left caudate nucleus", "head"),
    ("RC", "right caudate nucleus", "head"),
    ("LH", "left hippocampus", "head"),
    ("RH", "right hippocampus", "head"),
    ("BS", "brainstem", "head"),
    ("CB", "cerebellum", "head"),
    ("SC", "spinal cord", "neck"),
    ("LP", "left parotid gland", "neck"),
    ("RP", "right parotid gland", "neck"),
    ("LK", "left kidney", "abdomen"),
    ("RK", "right kidney", "abdomen"),
    ("LL", "left lung", "chest"),
    ("RL", "right lung", "chest"),
    ("AO", "aorta", "chest"),
    ("PA", "pulmonary artery", "chest"),
    ("LF", "left femur", "pelvis"),
];

/// A short form of the phrase: as it stands where nothing in it has one.
pub(super) fn short(phrase: &str, random: &mut Random) -> String {
    let mut text = format!(" {} ", phrase.to_lowercase());
    let mut entries: Vec<&(&str, &[&str])> = SHORT.iter().collect();
    entries.sort_by_key(|(long, _)| std::cmp::Reverse(long.len()));
    let mut shortened = 0;
    for (long, forms) in entries {
        let whole = format!(" {long} ");
        if shortened < 2 && text.contains(&whole) {
            text = text.replacen(&whole, &format!(" {} ", random.pick(forms)), 1);
            shortened += 1;
        }
    }
    text.trim().to_owned()
}

/// An abbreviation that only the scan decides; none where the phrase has none in this region.
pub(super) fn ambiguous(phrase: &str, scene: &Scene, random: &mut Random) -> Option<String> {
    let phrase = full_sides(phrase);
    let here = |region: &str| scene.body_regions.iter().any(|r| r == region);
    let forms: Vec<&str> = AMBIGUOUS
        .iter()
        .filter(|(_, meaning, region)| *meaning == phrase && here(region))
        .map(|(letters, ..)| *letters)
        .collect();
    if forms.is_empty() {
        return None;
    }
    let letters = *random.pick(&forms);
    Some(match random.below(4) {
        0 => letters.to_lowercase(),
        1 if letters.len() == 2 => format!("{}.{}.", &letters[..1], &letters[1..]),
        _ => letters.to_owned(),
    })
}

/// What an abbreviation can mean, and in which region.
#[cfg(test)]
pub(super) fn meanings(letters: &str) -> Vec<(&'static str, &'static str)> {
    let plain: String = letters.chars().filter(|c| c.is_alphanumeric()).collect();
    let same =
        |entry: &&(&'static str, &'static str, &'static str)| entry.0.eq_ignore_ascii_case(&plain);
    AMBIGUOUS.iter().filter(same).map(|(_, meaning, region)| (*meaning, *region)).collect()
}

fn full_sides(phrase: &str) -> String {
    let words = phrase.to_lowercase();
    let full = |word: &str| match word {
        "l" | "lt" => "left".to_owned(),
        "r" | "rt" => "right".to_owned(),
        word => word.to_owned(),
    };
    words.split(' ').map(full).collect::<Vec<_>>().join(" ")
}
