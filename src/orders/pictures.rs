//! The pictures of an order, for people: what the reasoner saw and what came out.

use std::io::Write;
use std::path::Path;

use super::Walked;
use crate::answer::{Answer, Target};
use crate::dicom_seg::SegmentCoding;
use crate::view;
use crate::volume::{Mask, Volume};

/// Writes the views and, when there are masks, the overlay as PNG files.
///
/// # Errors
/// When the folder cannot be written.
pub fn keep_pictures(folder: &Path, volume: &Volume, walked: &Walked) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for view in &walked.views {
        write_whole(&folder.join(format!("view-{}.png", view.number)), &view.png())?;
    }
    if let (Answer::Segment(targets), false) = (&walked.answer, walked.masks.is_empty()) {
        let picture = overlay(volume, targets, &walked.masks);
        write_whole(&folder.join("overlay.png"), &view::png(&picture))?;
    }
    Ok(())
}

/// Draws the masks of targets over their volume.
pub(super) fn overlay(volume: &Volume, targets: &[Target], masks: &[Mask]) -> image::RgbImage {
    let overlays: Vec<view::Overlay<'_>> = targets
        .iter()
        .zip(masks)
        .map(|(target, mask)| view::Overlay {
            mask,
            label: target.name().to_owned(),
            rgb: SegmentCoding::of(target, 1).0.rgb(),
        })
        .collect();
    view::overlay(volume, &overlays)
}

/// Writes beside the file and renames, so that a reader sees all of it or nothing.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Whether a name is one that [`keep_pictures`] writes; anything else never reaches a path.
pub(super) fn is_artefact_name(name: &str) -> bool {
    let number = name.strip_prefix("view-").and_then(|rest| rest.strip_suffix(".png"));
    name == "overlay.png"
        || number
            .is_some_and(|n| (1..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()))
}
