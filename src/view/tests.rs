//! Views against a reference renderer, against the patient, and against themselves.

use ndarray::{Array3, Axis};
use proptest::prelude::*;

use super::*;
use crate::geometry::{VolumeGeometry, VoxelPoint, norm};

/// Columns run to the back, rows to the feet, slices to the right; oblique, anisotropic, sheared.
fn oblique() -> Volume {
    let geometry = VolumeGeometry::new(
        [9, 14, 11],
        Affine::from_columns(
            [[-3.1, 0.3, -0.2], [0.06, -0.08, -1.3], [0.1, 0.85, -0.05]],
            PatientPoint([17.0, -40.0, 25.0]),
        ),
    )
    .expect("a good grid");
    let value = |(k, j, i): (usize, usize, usize)| {
        ((k * 37 + j * 11 + i * 5 + (k * j * i) % 97) % 251) as f32 * 4.0 - 300.0
    };
    Volume { geometry, voxels: Array3::from_shape_fn([9, 14, 11], value), modality: Modality::Ct }
}

fn plan(size: usize, fit: Fit, runs: &[(Plane, usize, f64, f64)]) -> ViewPlan {
    let run = |&(plane, count, from, to): &_| PlaneRun { plane, count, from, to };
    ViewPlan {
        name: "test".to_owned(),
        size,
        fit,
        gamma: 1.0,
        letters: false,
        planes: runs.iter().map(run).collect(),
        window: BTreeMap::from([
            ("CT".to_owned(), Window::Fixed { center_hu: 50.0, width_hu: 400.0 }),
            ("default".to_owned(), Window::Percentile { low: 0.5, high: 99.5 }),
        ]),
    }
}

fn all_planes(size: usize, fit: Fit) -> ViewPlan {
    let planes = [Plane::Axial, Plane::Coronal, Plane::Sagittal].map(|plane| (plane, 3, 0.1, 0.9));
    plan(size, fit, &planes)
}

/// Hashes of nibabel 5.4 (`as_closest_canonical`), numpy 2.4 and Pillow 11.3 on the same voxels.
#[test]
fn views_are_those_of_the_python_renderer_byte_by_byte() {
    let hashes = |volume: &Volume, plan: &ViewPlan| -> Vec<String> {
        render(volume, plan).expect("a good plan").into_iter().map(|view| view.sha256).collect()
    };
    let padded = plan(
        64,
        Fit::Pad,
        &[
            (Plane::Axial, 4, 0.1, 0.9),
            (Plane::Coronal, 2, 0.25, 0.75),
            (Plane::Sagittal, 1, 0.5, 0.5),
        ],
    );
    assert_eq!(
        hashes(&oblique(), &padded),
        [
            "3b66f06b14198aa59c5312fa84264e57e734d6981521d73e9ec2072222d1774d",
            "a1fd774897eb7a97a2d15fc6ac89437df40c818594a48bdd09d9aa842b15f384",
            "50bc8d312d4385b6e150024187dfc59a026d0527dc47b5eec81b77c4d2931c00",
            "e6c2a70c8857db053afd6ee9afb7ea90f63c0223dde2fbb943d945b0d367d748",
            "0ae0438bd012583882e903ff85c8efaa5d9a6ac118b9e1f191ff57c6c4de8335",
            "fcee0cdc2425ea1387cc3b4f16d74ac62ea8aca91bff36fd344bc0d2e9fddc85",
            "7559af37baa826b1c9bf5c6743a2a4bc20e127406850cb64dcf46322727cdfe1",
        ]
    );
    let mut stretched = plan(
        56,
        Fit::Stretch,
        &[
            (Plane::Axial, 3, 0.1, 0.9),
            (Plane::Coronal, 1, 0.5, 0.5),
            (Plane::Sagittal, 2, 0.0, 1.0),
        ],
    );
    stretched.gamma = 1.4;
    let volume = Volume { modality: Modality::Mr, ..oblique() };
    assert_eq!(
        hashes(&volume, &stretched),
        [
            "8b3fe0ca5f9d9583c937d9a63377666c557bdd57a4aa7c6fbc272b60ee789f4b",
            "9cc85209495b0733f9228f5c6ccaefd81d1b5d688efcfc3b7b9be4edb6a2b826",
            "37227ac1ec0a57130f1530e6e133ff75eb9ad77e34c1fee555b749af454efd05",
            "e0b9a87d1938a500e6cc67ccd9ff701350dc38362f57a255dc33522e59aebcdf",
            "1fe11e7d707eb0512be2581b7ca807354fc1b1ea6c7e04a7038031e3cee5ca6a",
            "888592b2ddb7621cd8fca070fd5f590e72a0afe6948d843ca5297c898fda3fac",
        ]
    );
}

/// The same anatomy, stored with its axes reordered and run backwards.
fn stored_as(volume: &Volume, order: [usize; 3], flipped: [bool; 3]) -> Volume {
    let old = &volume.geometry;
    let shape = order.map(|axis| old.shape()[axis]);
    let mut first = [0.0; 3];
    let mut columns = [[0.0; 3]; 3];
    let mut voxels = volume.voxels.view().permuted_axes(order);
    for k in 0..3 {
        let sense = if flipped[k] { -1.0 } else { 1.0 };
        columns[k] = old.voxel_to_patient().column(order[k]).map(|v| v * sense);
        if flipped[k] {
            first[order[k]] = (shape[k] - 1) as f64;
            voxels.invert_axis(Axis(k));
        }
    }
    let origin = old.voxel_to_patient().apply(VoxelPoint(first));
    Volume {
        geometry: VolumeGeometry::new(shape, Affine::from_columns(columns, origin))
            .expect("a reordered grid is good"),
        voxels: voxels.as_standard_layout().into_owned(),
        modality: volume.modality.clone(),
    }
}

#[test]
fn the_same_anatomy_in_any_storage_order_gives_the_same_views() {
    let volume = oblique();
    let plan = all_planes(48, Fit::Pad);
    let expected = render(&volume, &plan).expect("a good plan");
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for order in orders {
        for flips in 0..8 {
            let flipped = std::array::from_fn(|axis| flips >> axis & 1 == 1);
            let views = render(&stored_as(&volume, order, flipped), &plan).expect("a good plan");
            for (view, expected) in views.iter().zip(&expected) {
                assert_eq!(view.pixels, expected.pixels, "{order:?} {flipped:?}");
                let middle = ViewPoint([0.0, 11.0, 30.0]);
                let (a, b) =
                    (view.view_to_patient.apply(middle), expected.view_to_patient.apply(middle));
                assert!(norm(std::array::from_fn(|i| a.0[i] - b.0[i])) < 1e-9);
            }
        }
    }
}

/// A bright block at the patient's left, front and head, far from the middle.
#[test]
fn the_patients_left_front_and_head_are_where_radiologists_look_for_them() {
    let mut volume = oblique();
    let shape = volume.geometry.shape();
    let center = VoxelPoint(shape.map(|n| (n - 1) as f64 / 2.0));
    let center = volume.geometry.voxel_to_patient().apply(center).0;
    let to_patient = *volume.geometry.voxel_to_patient();
    volume.voxels.indexed_iter_mut().for_each(|((k, j, i), value)| {
        let at = to_patient.apply(VoxelPoint([k as f64, j as f64, i as f64])).0;
        let is_left_front_head =
            at[0] > center[0] + 3.0 && at[1] < center[1] - 1.0 && at[2] > center[2] + 3.0;
        *value = if is_left_front_head { 1000.0 } else { -1000.0 };
    });
    // Which half of the picture the bright pixels lie in: (right, bottom).
    let brightest = |plane: Plane| {
        let views = render(&volume, &plan(90, Fit::Pad, &[(plane, shape[0].max(14), 0.0, 1.0)]));
        let (mut x, mut y, mut count) = (0, 0, 0);
        for view in views.expect("a good plan") {
            for (at, _) in view.pixels.iter().enumerate().filter(|(_, grey)| **grey > 127) {
                (x, y, count) = (x + at % 90, y + at / 90, count + 1);
            }
        }
        assert!(count > 50, "{plane:?}: the block is visible");
        (x as f64 / count as f64 > 44.5, y as f64 / count as f64 > 44.5)
    };
    assert_eq!(brightest(Plane::Axial), (true, false), "left is right, front is up");
    assert_eq!(brightest(Plane::Coronal), (true, false), "left is right, head is up");
    assert_eq!(brightest(Plane::Sagittal), (false, false), "front is left, head is up");
}

#[test]
fn slices_run_from_foot_to_head_from_front_to_back_and_from_right_to_left() {
    let volume = oblique();
    let ends = |plane: Plane| {
        let views = render(&volume, &plan(32, Fit::Pad, &[(plane, 2, 0.0, 1.0)]));
        let views = views.expect("a good plan");
        (views[0].position_mm, views[1].position_mm)
    };
    for plane in [Plane::Axial, Plane::Coronal, Plane::Sagittal] {
        let (first, last) = ends(plane);
        assert!(first < last, "{plane:?}: {first} to {last}");
    }
}

#[test]
fn letters_are_burnt_in_only_when_asked_for() {
    let volume = oblique();
    let mut plan = plan(64, Fit::Pad, &[(Plane::Axial, 1, 0.5, 0.5)]);
    let bare = render(&volume, &plan).expect("a good plan");
    plan.letters = true;
    let lettered = render(&volume, &plan).expect("a good plan");
    let differing: Vec<usize> =
        (0..64 * 64).filter(|at| bare[0].pixels[*at] != lettered[0].pixels[*at]).collect();
    assert!(!differing.is_empty() && differing.iter().all(|at| lettered[0].pixels[*at] == 255));
    assert_ne!(bare[0].sha256, lettered[0].sha256);
}

#[test]
fn png_holds_the_pixels() {
    let views = render(&oblique(), &all_planes(40, Fit::Stretch)).expect("a good plan");
    let picture = image::load_from_memory(&views[0].png()).expect("a PNG").to_luma8();
    assert_eq!(picture.dimensions(), (40, 40));
    assert_eq!(picture.into_raw(), views[0].pixels);
}

#[test]
fn refuses_plans_that_cannot_be_drawn() {
    let check = |change: fn(&mut ViewPlan), expected: &str| {
        let mut plan = plan(32, Fit::Pad, &[(Plane::Axial, 1, 0.5, 0.5)]);
        change(&mut plan);
        assert_eq!(render(&oblique(), &plan).expect_err("a bad plan").to_string(), expected);
    };
    check(
        |plan| plan.window.clear(),
        "view plan test has no window for modality CT and no default",
    );
    check(|plan| plan.size = 0, "view plan test is unusable: size is 0, not 1 to 4096");
    check(|plan| plan.gamma = f32::NAN, "view plan test is unusable: gamma is NaN");
    check(
        |plan| plan.planes[0].count = 0,
        "view plan test is unusable: a run has 0 slices from 0.5 to 0.5",
    );
    check(
        |plan| plan.planes[0].to = 1.5,
        "view plan test is unusable: a run has 1 slices from 0.5 to 1.5",
    );
}

fn any_volume() -> impl Strategy<Value = Volume> {
    let shape = [2_usize..7, 2_usize..9, 2_usize..8];
    let angles = [-3.1_f64..3.1, -1.5..1.5, -3.1..3.1];
    let spacing = [0.4_f64..6.0, 0.3..2.0, 0.3..2.0];
    let origin = [-90.0_f64..90.0, -90.0..90.0, -90.0..90.0];
    let parts = (shape, angles, spacing, origin, -0.3_f64..0.3, any::<[bool; 3]>());
    parts.prop_map(|(shape, angles, spacing, origin, lean, negated)| {
        let [(sa, ca), (sb, cb), (sc, cc)] = angles.map(f64::sin_cos);
        let rotation = [
            [ca * cb, sa * cb, -sb],
            [ca * sb * sc - sa * cc, sa * sb * sc + ca * cc, cb * sc],
            [ca * sb * cc + sa * sc, sa * sb * cc - ca * sc, cb * cc],
        ];
        let mut columns: [[f64; 3]; 3] = std::array::from_fn(|axis| {
            let sense = if negated[axis] { -spacing[axis] } else { spacing[axis] };
            rotation[axis].map(|v| v * sense)
        });
        // Gantry tilt: the slice step leans along the rows' direction.
        columns[0] = std::array::from_fn(|i| columns[0][i] + lean * spacing[0] * rotation[1][i]);
        let geometry =
            VolumeGeometry::new(shape, Affine::from_columns(columns, PatientPoint(origin)));
        Volume {
            geometry: geometry.expect("a leaning rotation is invertible"),
            voxels: Array3::from_shape_fn(shape, |(k, j, i)| (k * 31 + j * 7 + i * 3) as f32),
            modality: Modality::Mr,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// view → patient → voxel → patient → view comes back, and lands on a whole slice whose
    /// pixels lie inside the volume's box.
    #[test]
    fn every_view_knows_its_way_to_the_patient_and_back(
        volume in any_volume(), size in 8_usize..40, pad in any::<bool>(),
        row in 0.0..1.0, column in 0.0..1.0,
    ) {
        let fit = if pad { Fit::Pad } else { Fit::Stretch };
        for view in render(&volume, &all_planes(size, fit)).expect("a good plan") {
            let last = (size - 1) as f64;
            let at = ViewPoint([0.0, row * last, column * last]);
            let patient = view.view_to_patient.apply(at);
            let voxel = volume.geometry.patient_to_voxel().apply(patient);
            let whole = voxel.0.iter().filter(|v| (*v - v.round()).abs() < 1e-7).count();
            prop_assert!(whole >= 1, "no axis of {voxel:?} is on a slice");
            if fit == Fit::Stretch {
                for axis in 0..3 {
                    let end = volume.geometry.shape()[axis] as f64 - 0.5;
                    prop_assert!((-0.5 - 1e-6..=end + 1e-6).contains(&voxel.0[axis]));
                }
            }
            let again = volume.geometry.voxel_to_patient().apply(voxel);
            let back = view.view_to_patient.inverse().expect("invertible").apply(again);
            for axis in 0..3 {
                prop_assert!((back.0[axis] - at.0[axis]).abs() < 1e-6, "{back:?} is not {at:?}");
            }
        }
    }

    /// A pixel of a view shows the voxel that its way back leads to, where no resizing blurs it.
    #[test]
    fn pixels_show_the_voxels_they_point_at(volume in any_volume()) {
        for plane in [Plane::Axial, Plane::Coronal, Plane::Sagittal] {
            let slices = Slices::of(&volume, plane);
            for index in 0..slices.count() {
                let slice = slices.slice(index);
                let placement =
                    Placement { top: 0, left: 0, rows: slice.nrows(), columns: slice.ncols() };
                let to_patient = slices.view_to_patient(index, placement);
                for ((row, column), value) in slice.indexed_iter() {
                    let at = to_patient.apply(ViewPoint([0.0, row as f64, column as f64]));
                    let voxel = volume.geometry.patient_to_voxel().apply(at);
                    let voxel = voxel.0.map(|v| v.round() as usize);
                    prop_assert_eq!(volume.voxels[voxel], *value);
                }
            }
        }
    }
}
