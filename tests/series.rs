//! Series and volumes: from files in any order to voxels in the patient, and back onto the files.

mod real;
mod scans;

use std::sync::Arc;

use dicom_core::{PrimitiveValue, VR};
use dicom_dictionary_std::tags;
use ndarray::Array3;
use scans::*;
use seer::dicom::Instance;
use seer::error::Finding;
use seer::geometry::{PatientPoint, VoxelPoint, norm};
use seer::series::{self, Series, SeriesCandidate};
use seer::volume::{self, Mask, Volume};

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

/// Which slices (by the pixels they hold) a series shows, in order.
fn shown(series: &Series) -> Vec<usize> {
    let first_value = |index: usize| {
        let frame = &series.frames[index];
        let instance = &series.instances[frame.instance_index];
        instance.decode_frame(frame.frame_number).unwrap().values[0] as u16
    };
    let slice_of = |value: u16| (0..40).find(|k| pixels(*k)[0] == value).unwrap();
    (0..series.frames.len()).map(first_value).map(slice_of).collect()
}

/// Assembles and compares what comes out, with the instances in three orders.
fn check(instances: Vec<Arc<Instance>>, slices: &[usize], expected_codes: &[&str]) -> Series {
    let mut orders = vec![instances.clone(), instances.clone(), instances];
    orders[1].reverse();
    let half = orders[2].len() / 2;
    orders[2].rotate_left(half);
    let mut last = None;
    for order in orders {
        let (series, findings) = series::assemble(order).unwrap();
        assert_eq!(shown(&series), slices);
        assert_eq!(codes(&findings), expected_codes, "{findings:?}");
        last = Some(series);
    }
    last.unwrap()
}

fn check_refused(instances: Vec<Arc<Instance>>, expected: &str) {
    let error = series::assemble(instances).err().expect("the series is refused");
    assert_eq!(error.to_string(), expected);
}

fn voxels_of(series: &Series) -> (Volume, Vec<Finding>) {
    volume::assemble(series).unwrap()
}

#[test]
fn orders_slices_along_the_normal_whatever_their_numbers_say() {
    let series = check(classic("MR", 5, |_, _| {}), &[0, 1, 2, 3, 4], &[]);
    let (volume, findings) = voxels_of(&series);
    assert!(findings.is_empty());
    let grid = volume.geometry;
    assert_eq!(grid.shape(), [5, usize::from(ROWS), usize::from(COLUMNS)]);
    let at = grid.voxel_to_patient().apply(VoxelPoint([2.0, 3.0, 4.0])).0;
    let expected: [f64; 3] = std::array::from_fn(|i| {
        position(2.0)[i] + 3.0 * PIXEL_SPACING[0] * COLUMN[i] + 4.0 * PIXEL_SPACING[1] * ROW[i]
    });
    assert!(
        norm(std::array::from_fn(|i| at[i] - expected[i])) < 1e-4,
        "{at:?} is not {expected:?}"
    );
    let pixel = pixels(2)[3 * usize::from(COLUMNS) + 4];
    assert_eq!(volume.voxels[[2, 3, 4]], f32::from(pixel));
}

#[test]
fn leaves_localizers_other_planes_and_other_matrices_out() {
    let with = |extra: usize, edit: &dyn Fn(&mut dicom_object::InMemDicomObject)| {
        let mut instances = classic("CT", 4, |_, _| {});
        let mut object = slice("CT", extra);
        put(&mut object, tags::SOP_INSTANCE_UID, VR::UI, format!("1.2.3.5.{extra}"));
        edit(&mut object);
        instances.push(instance(object));
        instances
    };
    let all = [0, 1, 2, 3];
    let localizer =
        with(9, &|o| put_texts(o, tags::IMAGE_TYPE, &["ORIGINAL", "PRIMARY", "LOCALIZER"]));
    check(localizer, &all, &["localizers"]);
    let sagittal = with(9, &|o| {
        put_numbers(o, tags::IMAGE_ORIENTATION_PATIENT, &[0.0, 1.0, 0.0, 0.0, 0.0, -1.0]);
    });
    check(sagittal, &all, &["mixed_orientations"]);
    let spacing = with(4, &|o| put_numbers(o, tags::PIXEL_SPACING, &[0.5, 0.5]));
    check(spacing, &all, &["mixed_pixel_spacings"]);
    let unplaced = with(4, &|o| {
        o.remove_element(tags::IMAGE_POSITION_PATIENT);
    });
    check(unplaced, &all, &["unplaced_frames"]);
    let frame = with(4, &|o| put(o, tags::FRAME_OF_REFERENCE_UID, VR::UI, "1.2.3.33"));
    check(frame, &all, &["several_frames_of_reference"]);
}

#[test]
fn keeps_one_echo_one_time_point_and_the_lowest_b_value() {
    let twice = |edit: &dyn Fn(usize, &mut dicom_object::InMemDicomObject)| {
        let mut instances = Vec::new();
        for repeat in 0..2 {
            for k in 0..4 {
                // The second repeat shows other anatomy: slices 20 to 23.
                let mut object = slice("MR", k);
                put_pixels(&mut object, pixels(k + 20 * repeat));
                put(
                    &mut object,
                    tags::SOP_INSTANCE_UID,
                    VR::UI,
                    format!("1.2.3.4.{}", 99 - k - 50 * repeat),
                );
                edit(repeat, &mut object);
                instances.push(instance(object));
            }
        }
        instances
    };
    let all = [0, 1, 2, 3];
    let echoes = twice(&|n, o| put(o, tags::ECHO_NUMBERS, VR::IS, (n + 1).to_string()));
    check(echoes, &all, &["several_echoes"]);
    let times =
        twice(&|n, o| put(o, tags::TEMPORAL_POSITION_IDENTIFIER, VR::IS, (n + 9).to_string()));
    check(times, &all, &["several_temporal_positions"]);
    let diffusion = twice(&|n, o| put(o, tags::DIFFUSION_B_VALUE, VR::FD, 1000.0 * n as f64));
    check(diffusion, &all, &["several_b_values"]);
    let phase = twice(&|n, o| {
        put_texts(o, tags::IMAGE_TYPE, &["ORIGINAL", "PRIMARY", ["M", "P"][n]]);
    });
    check(phase, &all, &["several_image_types"]);
    let unnamed = twice(&|n, o| put(o, tags::ACQUISITION_TIME, VR::TM, format!("10150{n}")));
    check(unnamed, &all, &["repeated_positions"]);
}

#[test]
fn drops_copies_of_slices() {
    let mut instances = classic("MR", 4, |_, _| {});
    instances.push(Arc::clone(&instances[1]));
    check(instances.clone(), &[0, 1, 2, 3], &["duplicate_instances"]);
    instances.pop();
    let mut copy = slice("MR", 2);
    put(&mut copy, tags::SOP_INSTANCE_UID, VR::UI, "1.2.3.4.1");
    instances.push(instance(copy));
    check(instances, &[0, 1, 2, 3], &["duplicate_slices"]);
}

#[test]
fn fills_missing_slices_and_evens_uneven_ones() {
    let mut instances = classic("MR", 6, |_, _| {});
    instances.remove(3); // Slice 2, the highest comes first.
    let series = check(instances, &[0, 1, 3, 4, 5], &["missing_slices"]);
    let (volume, findings) = voxels_of(&series);
    assert_eq!(codes(&findings), ["interpolated_slices"]);
    assert_eq!(volume.geometry.shape()[0], 6);
    let mean = (f32::from(pixels(1)[7]) + f32::from(pixels(3)[7])) / 2.0;
    assert!((volume.voxels[[2, 0, 7]] - mean).abs() < 0.01);
    assert_eq!(volume.voxels[[5, 0, 7]], f32::from(pixels(5)[7]));

    let at = [0.0, 1.0, 2.0, 2.6, 4.1];
    let uneven = classic("MR", 5, |k, o| {
        put_numbers(o, tags::IMAGE_POSITION_PATIENT, &position(at[k]));
        // A field that grows by 100 a step of STEP_MM: linear interpolation must keep it so.
        put_pixels(o, vec![(100.0 * at[k] + 50.0).round() as u16; pixels(k).len()]);
    });
    let (series, findings) = series::assemble(uneven).unwrap();
    assert_eq!(codes(&findings), ["uneven_spacing"]);
    assert_eq!(findings[0].message, "slice spacing varies from 2.100 mm to 5.250 mm");
    let (volume, _) = voxels_of(&series);
    for k in 0..volume.geometry.shape()[0] {
        let patient = volume.geometry.voxel_to_patient().apply(VoxelPoint([k as f64, 0.0, 0.0])).0;
        let along: f64 =
            (0..3).map(|i| (patient[i] - position(0.0)[i]) * NORMAL[i]).sum::<f64>() / STEP_MM;
        let error = f64::from(volume.voxels[[k, 2, 2]]) - (100.0 * along + 50.0);
        assert!(error.abs() < 0.1, "slice {k}: {error}");
    }
}

#[test]
fn parts_a_stack_at_a_wide_gap() {
    let instances = classic("MR", 7, |k, o| {
        let at = if k >= 4 { k as f64 + 30.0 } else { k as f64 };
        put_numbers(o, tags::IMAGE_POSITION_PATIENT, &position(at));
    });
    check(instances, &[0, 1, 2, 3], &["parted_stack"]);
}

#[test]
fn keeps_a_tilted_stack_as_it_is_and_tells_the_angle() {
    let instances = classic("CT", 4, |k, o| {
        let lean: [f64; 3] =
            std::array::from_fn(|i| position(k as f64)[i] + k as f64 * 0.7 * COLUMN[i]);
        put_numbers(o, tags::IMAGE_POSITION_PATIENT, &lean);
    });
    let (series, findings) = series::assemble(instances).unwrap();
    assert_eq!(codes(&findings), ["gantry_tilt"]);
    assert_eq!(findings[0].message, "the stack leans by 11.3 degrees (gantry tilt)");
    let (volume, _) = voxels_of(&series);
    for (k, frame) in series.frames.iter().enumerate() {
        let at = volume.geometry.voxel_to_patient().apply(VoxelPoint([k as f64, 0.0, 0.0])).0;
        assert!(norm(std::array::from_fn(|i| at[i] - frame.position.0[i])) < 1e-5);
    }
    let mm3 = PIXEL_SPACING[0] * PIXEL_SPACING[1] * STEP_MM;
    assert!((volume.geometry.voxel_volume_mm3() - mm3).abs() < 1e-3, "shear keeps the volume");
}

#[test]
fn reads_enhanced_objects_through_their_functional_groups() {
    // Frames of two time points, slices out of order, each with a rescale of its own.
    let group = |time: u32, slope: f64| {
        move |item: &mut dicom_object::InMemDicomObject| {
            put_group(item, tags::FRAME_CONTENT_SEQUENCE, |content| {
                put(content, tags::TEMPORAL_POSITION_INDEX, VR::UL, PrimitiveValue::from(time));
            });
            put_group(item, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, |transformation| {
                put_numbers(transformation, tags::RESCALE_SLOPE, &[slope]);
                put_numbers(transformation, tags::RESCALE_INTERCEPT, &[-5.0]);
            });
        }
    };
    let (late, first, second, third) =
        (group(2, 9.0), group(1, 1.0), group(1, 0.5), group(1, 0.25));
    let object =
        enhanced(&[(1, &late), (2, &third), (0, &late), (0, &first), (2, &late), (1, &second)]);
    let series = check(vec![instance(object)], &[0, 1, 2], &["several_temporal_positions"]);
    let numbers: Vec<u32> = series.frames.iter().map(|frame| frame.frame_number).collect();
    assert_eq!(numbers, [4, 6, 2]);
    let (volume, _) = voxels_of(&series);
    for (k, slope) in [1.0, 0.5, 0.25].into_iter().enumerate() {
        assert_eq!(volume.voxels[[k, 0, 3]], f32::from(pixels(k)[3]) * slope - 5.0);
    }
}

#[test]
fn refuses_what_makes_no_volume_and_names_the_fact() {
    check_refused(Vec::new(), "series has no instances");
    check_refused(
        classic("CT", 1, |_, _| {}),
        "series has 1 usable slice(s), a volume needs at least 2",
    );
    check_refused(
        classic("MR", 3, |_, o| {
            o.remove_element(tags::IMAGE_POSITION_PATIENT);
        }),
        "none of 3 frames has Image Position (Patient) (0020,0032)",
    );
    check_refused(
        classic("MR", 3, |_, o| {
            o.remove_element(tags::IMAGE_ORIENTATION_PATIENT);
        }),
        "none of 3 frames has Image Orientation (Patient) (0020,0037)",
    );
    check_refused(
        classic("MR", 3, |_, o| put_numbers(o, tags::PIXEL_SPACING, &[0.0, 1.0])),
        "Pixel Spacing (0028,0030) is unusable: \"0.000000\\\\1.000000\"",
    );
    check_refused(
        classic("CT", 3, |_, o| {
            put_texts(o, tags::IMAGE_TYPE, &["ORIGINAL", "PRIMARY", "LOCALIZER"])
        }),
        "all 3 frames are localizers",
    );
    let colour = |k: usize, o: &mut dicom_object::InMemDicomObject| {
        put(o, tags::SAMPLES_PER_PIXEL, VR::US, 3_u16);
        put(o, tags::PLANAR_CONFIGURATION, VR::US, 0_u16);
        put(o, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "RGB");
        put_pixels(o, [pixels(k), pixels(k), pixels(k)].concat());
    };
    check_refused(classic("MR", 3, colour), "pixels are in colour (RGB), grey is needed");
    check_refused(
        classic("MR", 3, |k, o| put(o, tags::SERIES_INSTANCE_UID, VR::UI, format!("1.2.{k}"))),
        "instances belong to 3 series, not to one",
    );
    check_refused(
        classic("MR", 4, |k, o| {
            let bent: [f64; 3] = std::array::from_fn(|i| {
                position(k as f64)[i] + if k == 2 { 9.0 * ROW[i] } else { 0.0 }
            });
            put_numbers(o, tags::IMAGE_POSITION_PATIENT, &bent);
        }),
        "slice positions leave a straight line by 9.0 mm, more than 1.2 mm",
    );
}

#[test]
fn rescales_and_turns_padding_into_air_or_nothing() {
    let with_padding = |k: usize, o: &mut dicom_object::InMemDicomObject| {
        let mut values = pixels(k);
        values[0] = 4000;
        values[1] = 4050;
        put_pixels(o, values);
        put(o, tags::PIXEL_PADDING_VALUE, VR::US, 4000_u16);
        put(o, tags::PIXEL_PADDING_RANGE_LIMIT, VR::US, 4060_u16);
        put_numbers(o, tags::RESCALE_SLOPE, &[2.0]);
        put_numbers(o, tags::RESCALE_INTERCEPT, &[-1000.0]);
    };
    let (series, _) = series::assemble(classic("CT", 3, with_padding)).unwrap();
    let (volume, findings) = voxels_of(&series);
    assert_eq!(volume.voxels[[1, 0, 0]], -1024.0);
    assert_eq!(volume.voxels[[1, 0, 1]], -1024.0);
    assert_eq!(volume.voxels[[1, 0, 2]], 2.0 * f32::from(pixels(1)[2]) - 1000.0);
    assert_eq!(findings[0].message, "6 padding voxels were set to -1024");

    let zero = |k: usize, o: &mut dicom_object::InMemDicomObject| {
        with_padding(k, o);
        put_numbers(o, tags::RESCALE_INTERCEPT, &[7.0]);
    };
    let (series, _) = series::assemble(classic("MR", 3, zero)).unwrap();
    assert_eq!(voxels_of(&series).0.voxels[[2, 0, 0]], 0.0);
}

/// Scanners write Pixel Padding Value -2000 as the unsigned number with the same bits.
#[test]
fn reads_padding_by_its_bits() {
    let signed = |k: usize, o: &mut dicom_object::InMemDicomObject| {
        put(o, tags::BITS_STORED, VR::US, 16_u16);
        put(o, tags::HIGH_BIT, VR::US, 15_u16);
        put(o, tags::PIXEL_REPRESENTATION, VR::US, 1_u16);
        let mut values = pixels(k);
        values[5] = -2000_i16 as u16;
        put_pixels(o, values);
        put(o, tags::PIXEL_PADDING_VALUE, VR::US, -2000_i16 as u16);
    };
    let (series, _) = series::assemble(classic("CT", 3, signed)).unwrap();
    assert_eq!(voxels_of(&series).0.voxels[[0, 0, 5]], -1024.0);
}

#[test]
fn turns_monochrome1_round_but_leaves_hounsfield_units_alone() {
    let inverted = |_: usize, o: &mut dicom_object::InMemDicomObject| {
        put(o, tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
    };
    let (series, _) = series::assemble(classic("MR", 3, inverted)).unwrap();
    let (volume, findings) = voxels_of(&series);
    assert_eq!(volume.voxels[[1, 0, 4]], 4095.0 - f32::from(pixels(1)[4]));
    assert_eq!(codes(&findings), ["monochrome1"]);
    let (series, _) = series::assemble(classic("CT", 3, inverted)).unwrap();
    assert_eq!(voxels_of(&series).0.voxels[[1, 0, 4]], f32::from(pixels(1)[4]));
}

#[test]
fn refuses_volumes_without_contrast_or_with_unusable_values() {
    let refused = |edit: &dyn Fn(usize, &mut dicom_object::InMemDicomObject)| {
        let (series, _) = series::assemble(classic("MR", 3, edit)).unwrap();
        volume::assemble(&series).unwrap_err().to_string()
    };
    let flat = refused(&|k, o| put_pixels(o, vec![12; pixels(k).len()]));
    assert_eq!(flat, "all voxels hold one value, 12");
    let slope =
        refused(&|k, o| put(o, tags::RESCALE_SLOPE, VR::DS, if k == 1 { "NaN" } else { "1" }));
    assert_eq!(slope, "slice 2 has an unusable rescale slope or intercept");
}

#[test]
fn masks_come_back_onto_the_frames_they_belong_to() {
    let lean = |k: f64, tilt: f64| {
        let at: [f64; 3] = std::array::from_fn(|i| position(k)[i] + k * tilt * COLUMN[i]);
        at
    };
    type Place = fn(usize) -> f64;
    let stacks: [(&str, Place, f64); 3] = [
        ("even", |k| k as f64, 0.0),
        ("tilted", |k| k as f64, 0.9),
        ("uneven and tilted", |k| k as f64 + if k > 3 { 0.8 * (k - 3) as f64 } else { 0.0 }, 0.5),
    ];
    for (name, place, tilt) in stacks {
        let instances = classic("MR", 7, |k, o| {
            put_numbers(o, tags::IMAGE_POSITION_PATIENT, &lean(place(k), tilt));
        });
        let (series, _) = series::assemble(instances).unwrap();
        let (volume, _) = voxels_of(&series);
        // A half-space and a slab, as seen by the volume's grid and by the frames.
        let inside = |at: PatientPoint| at.0[0] > 67.0 && (at.0[2] - 124.0).abs() < 6.0;
        let grid = volume.geometry;
        let voxels = Array3::from_shape_fn(grid.shape(), |(k, j, i)| {
            inside(grid.voxel_to_patient().apply(VoxelPoint([k as f64, j as f64, i as f64])))
        });
        let mask = Mask { geometry: grid, voxels };
        let pixels = volume::onto_source(&mask, &series).unwrap();
        let (mut wrong, mut right) = (0, 0);
        for ((f, row, column), found) in pixels.indexed_iter() {
            let at = std::array::from_fn(|i| {
                series.frames[f].position.0[i]
                    + row as f64 * PIXEL_SPACING[0] * COLUMN[i]
                    + column as f64 * PIXEL_SPACING[1] * ROW[i]
            });
            *(if *found == inside(PatientPoint(at)) { &mut right } else { &mut wrong }) += 1;
        }
        assert!(pixels.iter().any(|p| *p) && !pixels.iter().all(|p| *p), "{name}");
        let allowed = if name == "even" || name == "tilted" { 0 } else { right / 12 };
        assert!(wrong <= allowed, "{name}: {wrong} of {} pixels", right + wrong);
    }
}

#[test]
fn a_mask_that_lies_elsewhere_is_refused() {
    let (series, _) = series::assemble(classic("MR", 4, |_, _| {})).unwrap();
    let (volume, _) = voxels_of(&series);
    let mask = Mask { geometry: volume.geometry, voxels: volume.voxels.mapv(|v| v > 400.0) };
    assert_eq!(volume::onto_source(&mask, &series).unwrap(), mask.voxels);
    let (short, _) = series::assemble(classic("MR", 2, |_, _| {})).unwrap();
    let (small, _) = voxels_of(&short);
    let mask = Mask { geometry: small.geometry, voxels: small.voxels.mapv(|v| v > 400.0) };
    let error = volume::onto_source(&mask, &series).unwrap_err();
    assert_eq!(error.to_string(), "mask does not cover slice 4 of the series");
}

#[test]
fn describes_a_series_by_one_instance() {
    let instances = classic("CT", 3, |_, _| {});
    let candidate = SeriesCandidate::of(&instances[0], instances.len());
    let choice = series::choose(vec![candidate]).unwrap();
    assert_eq!(choice.series_uid.as_str(), "1.2.3.2");
    assert_eq!(choice.reason, "the only series of the study: CT, 3 images");
}
