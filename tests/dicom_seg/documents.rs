//! Label maps, reports and key images beside the BINARY Segmentation.

use dicom_dictionary_std::tags;
use ndarray::{Array3, Axis};
use seer::dicom::Attributes;
use seer::dicom_seg::{
    EmptyFrames, Picture, ResultObject, SegError, SegInput, SegmentationType, read, write,
    write_key_image, write_key_objects, write_report,
};

use super::fixtures::{Made, Recipe, Stack, make, parse};
use super::judges::{judge, judge_documents};
use super::{input, three_masks};

/// pydicom-seg knows no label map.
const LABELMAP: [&str; 5] = ["dciodvfy", "dcentvfy", "pydicom", "highdicom", "dcmqi"];

/// Three segments of which no two share a voxel; the second leaves frames empty.
fn apart(made: &Made) -> Vec<Array3<bool>> {
    let mut masks = three_masks(&made.series);
    for later in 1..masks.len() {
        let (before, after) = masks.split_at_mut(later);
        for earlier in before {
            ndarray::Zip::from(&mut after[0]).and(&*earlier).for_each(|v, taken| *v &= !taken);
        }
    }
    masks
}

fn labelmap(input: &mut SegInput<'_>) {
    input.options.segmentation_type = SegmentationType::Labelmap;
}

#[test]
fn a_label_map_comes_back_exactly() {
    for (name, recipe) in [
        ("labelmap classic", Recipe::default()),
        ("labelmap multi-frame", Recipe { multi_frame: true, ..Recipe::default() }),
    ] {
        let made = make(recipe);
        let masks = apart(&made);
        let mut wanted = input(&made.series, &masks);
        labelmap(&mut wanted);
        let (object, findings) = write(&wanted).expect("a right input");
        assert_eq!(findings, [], "{name}");
        let seg = parse(&object.bytes);
        assert_eq!(seg.i64_opt(tags::NUMBER_OF_FRAMES).expect("a number"), Some(7));
        let (segments, _) = read(&seg, &made.series).expect("our own object");
        let found: Vec<_> = segments.into_iter().map(|segment| segment.mask).collect();
        assert_eq!(found, masks, "{name}");
        judge(name, &made.series, &made.files, &masks, &object.bytes, &LABELMAP);
    }
}

#[test]
fn a_sparse_label_map_and_one_of_a_tilted_stack_come_back_exactly() {
    let made = make(Recipe { stack: Stack::Tilted, ..Recipe::default() });
    let mut masks = apart(&made);
    for mask in &mut masks {
        mask.index_axis_mut(Axis(0), 3).fill(false);
    }
    let mut sparse = input(&made.series, &masks);
    labelmap(&mut sparse);
    sparse.options.empty_frames = EmptyFrames::Drop;
    let (object, _) = write(&sparse).expect("a right input");
    let seg = parse(&object.bytes);
    assert_eq!(seg.i64_opt(tags::NUMBER_OF_FRAMES).expect("a number"), Some(6));
    let (segments, _) = read(&seg, &made.series).expect("our own object");
    let found: Vec<_> = segments.into_iter().map(|segment| segment.mask).collect();
    assert_eq!(found, masks);
}

#[test]
fn more_segments_than_a_byte_counts_take_two() {
    let made = make(Recipe::default());
    let (rows, columns) = (made.series.rows, made.series.columns);
    let masks: Vec<Array3<bool>> = (0..300)
        .map(|index| {
            let mut mask = Array3::from_elem((made.series.frames.len(), rows, columns), false);
            let at = [index / (rows * columns), index / columns % rows, index % columns];
            mask[at] = true;
            mask
        })
        .collect();
    let mut many = input(&made.series, &masks);
    labelmap(&mut many);
    let (object, _) = write(&many).expect("a right input");
    let seg = parse(&object.bytes);
    assert_eq!(seg.u16_opt(tags::BITS_ALLOCATED).expect("a number"), Some(16));
    let (segments, _) = read(&seg, &made.series).expect("our own object");
    assert_eq!(segments.len(), 300);
    assert!(segments.iter().zip(&masks).all(|(segment, mask)| segment.mask == *mask));
    judge("labelmap 16 bit", &made.series, &made.files, &masks, &object.bytes, &LABELMAP[..3]);
    // highdicom 0.28 gives single segments as 8-bit numbers, so that 257 is 1 there.
}

#[test]
fn a_label_map_cannot_hold_segments_that_overlap() {
    let made = make(Recipe::default());
    let masks = three_masks(&made.series);
    let mut wanted = input(&made.series, &masks);
    labelmap(&mut wanted);
    let both = Array3::from_shape_fn(masks[0].dim(), |at| masks[0][at] && masks[2][at]);
    assert!(both.iter().any(|inside| *inside), "the first and the last share a voxel");
    let error = write(&wanted).expect_err("they overlap").to_string();
    assert!(error.ends_with("overlap, which a label map cannot say"), "{error}");
}

struct Documents {
    seg: ResultObject,
    report: ResultObject,
    key_objects: ResultObject,
    key_image: ResultObject,
}

const VOLUMES_ML: [f64; 3] = [12.345, 0.0, 1234.5];

fn documents(input: &SegInput<'_>) -> Documents {
    let (seg, _) = write(input).expect("a right input");
    let rgb: Vec<u8> = (0..5 * 4 * 3).collect();
    let picture = Picture { columns: 5, rows: 4, rgb: &rgb };
    let key_image = write_key_image(input, &picture).expect("a picture");
    let key_objects = write_key_objects(input, &seg, Some(&key_image)).expect("key objects");
    let report = write_report(input, &seg, &VOLUMES_ML).expect("a report");
    Documents { seg, report, key_objects, key_image }
}

#[test]
fn report_and_key_images_say_what_other_readers_find() {
    for (name, recipe) in [
        ("documents classic", Recipe::default()),
        ("documents multi-frame", Recipe { multi_frame: true, ..Recipe::default() }),
    ] {
        let made = make(recipe);
        let masks = three_masks(&made.series);
        let input = input(&made.series, &masks);
        let made_documents = documents(&input);
        let mut key_frames: Vec<usize> = masks.iter().map(largest_frame).collect();
        key_frames.sort_unstable();
        key_frames.dedup();
        let sop = |index: &usize| {
            let frame = &made.series.frames[*index];
            made.series.instances[frame.instance_index].identity().sop_instance.to_string()
        };
        let facts = serde_json::json!({
            "volumes_ml": VOLUMES_ML,
            "tracking_uids": input.segments.iter().map(|s| &s.tracking.uid).collect::<Vec<_>>(),
            "key_sops": key_frames.iter().map(sop).collect::<Vec<_>>(),
        });
        let files = [
            ("seg", &made_documents.seg),
            ("report", &made_documents.report),
            ("key_objects", &made_documents.key_objects),
            ("key_image", &made_documents.key_image),
        ];
        judge_documents(name, &made.files, &files, &facts);
    }
}

fn largest_frame(mask: &Array3<bool>) -> usize {
    let count = |index: &usize| mask.index_axis(Axis(0), *index).iter().filter(|v| **v).count();
    // The first of equals.
    (0..mask.len_of(Axis(0))).rev().max_by_key(count).expect("a frame")
}

#[test]
fn the_same_order_gives_the_same_documents() {
    let made = make(Recipe::default());
    let masks = three_masks(&made.series);
    let (first, second) =
        (documents(&input(&made.series, &masks)), documents(&input(&made.series, &masks)));
    assert_eq!(first.report, second.report);
    assert_eq!(first.key_objects, second.key_objects);
    assert_eq!(first.key_image, second.key_image);
    let uids = [&first.seg, &first.report, &first.key_objects, &first.key_image]
        .map(|object| object.series_uid.to_string());
    assert_eq!(std::collections::BTreeSet::from(uids).len(), 4, "each has a series of its own");
}

#[test]
fn a_wrong_document_cannot_be_written() {
    let made = make(Recipe::default());
    let masks = three_masks(&made.series);
    let input = input(&made.series, &masks);
    let (seg, _) = write(&input).expect("a right input");
    let refused =
        |volumes: &[f64]| write_report(&input, &seg, volumes).expect_err("wrong").to_string();
    assert_eq!(refused(&[1.0]), "1 volumes for 3 segments");
    assert_eq!(refused(&[1.0, f64::NAN, 2.0]), "volume of segment 2 is NaN ml");
    let picture = Picture { columns: 5, rows: 4, rgb: &[0; 59] };
    let error: SegError = write_key_image(&input, &picture).expect_err("a byte is missing");
    assert_eq!(error.to_string(), "key image has 59 bytes, not 60");
}
