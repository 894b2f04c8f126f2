use ndarray::Array3;
use proptest::prelude::*;

use super::*;
use crate::geometry::{PatientPoint, norm};
use crate::series::Modality;
use crate::volume::Volume;

fn grid(shape: [usize; 3], columns: [[f64; 3]; 3], origin: [f64; 3]) -> VolumeGeometry {
    VolumeGeometry::new(shape, Affine::from_columns(columns, PatientPoint(origin)))
        .expect("a good grid")
}

fn oblique() -> VolumeGeometry {
    grid([5, 8, 6], [[-0.2, 0.5, -3.0], [0.1, -1.1, -0.2], [-0.8, -0.05, 0.02]], [12.0, -30.0, 7.0])
}

/// A plane through the patient: exactly what linear interpolation must give back.
fn ramp(geometry: &VolumeGeometry) -> Array3<f32> {
    Array3::from_shape_fn(geometry.shape(), |(k, j, i)| {
        let at = VoxelPoint([k as f64, j as f64, i as f64]);
        let PatientPoint([x, y, z]) = geometry.voxel_to_patient().apply(at);
        (3.0 * x - 2.0 * y + 0.5 * z + 10.0) as f32
    })
}

/// Compares wherever `target` lies between the outermost centres of `source`.
fn check_ramp(source: &VolumeGeometry, target: &VolumeGeometry) -> usize {
    let found = trilinear(&ramp(source), source, target, f32::NAN);
    let expected = ramp(target);
    let mut compared = 0;
    for ((k, j, i), value) in found.indexed_iter() {
        let at = target.voxel_to_patient().apply(VoxelPoint([k as f64, j as f64, i as f64]));
        let VoxelPoint(at) = source.patient_to_voxel().apply(at);
        let within = |margin: f64| {
            (0..3).all(|axis| {
                at[axis] >= -margin && at[axis] <= (source.shape()[axis] - 1) as f64 + margin
            })
        };
        if within(-1e-9) {
            let error = (value - expected[[k, j, i]]).abs();
            assert!(error < 1e-3, "{value} instead of {} at {at:?}", expected[[k, j, i]]);
            compared += 1;
        }
        assert_eq!(value.is_nan(), !within(0.5 + 1e-6), "outside starts half a voxel out: {at:?}");
    }
    compared
}

#[test]
fn gives_a_linear_field_back_on_any_grid() {
    let source = oblique();
    let parallel = source.with_spacing([1.5, 0.7, 0.9]).expect("a good spacing");
    assert!(check_ramp(&source, &parallel) > 200);
    let axial =
        grid([9, 7, 8], [[0.0, 0.0, 1.3], [0.0, 0.9, 0.0], [0.7, 0.0, 0.0]], [6.5, -38.0, -7.0]);
    assert!(check_ramp(&source, &axial) > 50);
    assert!(check_ramp(&axial, &source) > 5);
}

#[test]
fn a_grid_onto_itself_is_bit_for_bit_the_same() {
    let source = oblique();
    let voxels = ramp(&source);
    assert_eq!(trilinear(&voxels, &source, &source, f32::NAN), voxels);
    let flipped = crate::geometry::AxisPermutation::closest(
        &source,
        crate::geometry::AxisOrder::SuperiorAnteriorRight,
    );
    let there = trilinear(&voxels, &source, &flipped.apply(&source), f32::NAN);
    assert_eq!(there, reorder(&voxels, &flipped), "permuted axes need no interpolation");
    assert_eq!(nearest(&there, &flipped.apply(&source), &source, f32::NAN), voxels);
}

#[test]
fn both_paths_agree() {
    let source = oblique();
    let target = source.with_spacing([1.1, 0.63, 0.48]).expect("a good spacing");
    // A thousandth of a degree is enough to leave the path for parallel axes.
    let mut columns: [[f64; 3]; 3] =
        std::array::from_fn(|axis| target.voxel_to_patient().column(axis));
    columns[2][2] += 1e-5;
    let turned = grid(target.shape(), columns, target.voxel_to_patient().origin().0);
    let voxels = ramp(&source);
    let (a, b) =
        (trilinear(&voxels, &source, &target, 0.0), trilinear(&voxels, &source, &turned, 0.0));
    let inside = a.iter().zip(&b).filter(|(a, b)| **a != 0.0 && **b != 0.0);
    let worst = inside.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 0.01, "{worst}");
}

#[test]
fn finer_grids_cover_the_same_part_of_the_patient() {
    let source = oblique();
    let target = source.with_spacing([1.0, 1.0, 1.0]).expect("a good spacing");
    let middle = |g: &VolumeGeometry| {
        let at = VoxelPoint(g.shape().map(|n| (n - 1) as f64 / 2.0));
        g.voxel_to_patient().apply(at).0
    };
    let (a, b) = (middle(&source), middle(&target));
    assert!(norm(std::array::from_fn(|i| a[i] - b[i])) < 1e-9, "centres agree");
    assert!(target.spacing_mm().iter().all(|mm| (mm - 1.0).abs() < 1e-12));
    let millilitres = |g: &VolumeGeometry| g.voxel_count() as f64 * g.voxel_volume_mm3();
    assert!((millilitres(&target) / millilitres(&source) - 1.0).abs() < 0.2);
    assert!(source.with_spacing([0.0, 1.0, 1.0]).is_err());
    assert!(source.with_spacing([f64::NAN, 1.0, 1.0]).is_err());
}

#[test]
fn an_even_grid_of_a_tilted_stack_is_orthogonal_and_encloses_it() {
    let tilted =
        grid([6, 10, 12], [[0.0, -1.5, 4.0], [0.0, 0.9, 0.0], [0.8, 0.0, 0.0]], [-5.0, 3.0, 80.0]);
    assert!((tilted.shear_deg() - (1.5_f64 / 4.0).atan().to_degrees()).abs() < 1e-9);
    let even = tilted.with_spacing([2.0, 0.9, 0.8]).expect("a good spacing");
    assert!(even.shear_deg() < 1e-9);
    for corner in 0..8 {
        let at = VoxelPoint(std::array::from_fn(|axis| {
            if corner >> axis & 1 == 1 { (tilted.shape()[axis] - 1) as f64 } else { 0.0 }
        }));
        let at = even.patient_to_voxel().apply(tilted.voxel_to_patient().apply(at));
        assert!(nearest_index(at, even.shape()).is_some(), "{at:?} is outside");
    }
}

#[test]
fn canonical_axes_point_to_the_head_the_front_and_the_right() {
    let geometry = oblique();
    let volume = Volume { voxels: ramp(&geometry), geometry, modality: Modality::Mr };
    let (voxels, canonical) = canonical_ras_zyx(&volume);
    let step = |axis: usize| canonical.voxel_to_patient().column(axis);
    assert!(step(0)[2] > 0.0 && step(1)[1] < 0.0 && step(2)[0] < 0.0);
    let moved = (&voxels - &ramp(&canonical)).mapv(f32::abs).into_iter().fold(0.0, f32::max);
    assert!(moved < 1e-3, "voxels stay where they were");
    assert_eq!(from_canonical_ras_zyx(&voxels, &volume.geometry), volume.voxels);
}

#[test]
fn crops_pads_and_pastes_without_moving_anything() {
    let geometry = oblique();
    let mut voxels = Array3::zeros(geometry.shape());
    voxels[[1, 2, 3]] = 5.0;
    voxels[[3, 6, 3]] = -1.0;
    let region = Region::of_nonzero(voxels.view());
    assert_eq!(region, Region([1..4, 2..7, 3..4]));
    let (inside, cropped) = crop(&voxels, &geometry, &region);
    let at = cropped.voxel_to_patient().apply(VoxelPoint([0.0, 0.0, 0.0]));
    assert_eq!(at, geometry.voxel_to_patient().apply(VoxelPoint([1.0, 2.0, 3.0])));
    assert_eq!(paste(&inside, &region, geometry.shape(), 0.0), voxels);
    let margins = Margins { before: [1, 2, 3], after: [1, 1, 2] };
    let (padded, wide) = pad(&inside, &cropped, margins, 0.0);
    assert_eq!(padded, voxels);
    assert!(wide.is_close(&geometry, 1e-9));
    let nothing = Array3::<f32>::zeros([2, 3, 4]);
    assert_eq!(Region::of_nonzero(nothing.view()), Region::whole([2, 3, 4]));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Interpolated values never leave the range of their source.
    #[test]
    fn interpolation_never_overshoots(
        values in prop::collection::vec(-1000.0_f32..1000.0, 5 * 8 * 6),
        shift in [-4.0..4.0, -4.0..4.0, -4.0..4.0],
    ) {
        let source = oblique();
        let voxels = Array3::from_shape_vec(source.shape(), values).expect("the right length");
        let origin = source.voxel_to_patient().origin().0;
        let moved = grid(
            [5, 5, 5],
            [[0.3, 0.1, 2.0], [0.0, 1.0, 0.3], [1.0, 0.0, 0.1]],
            std::array::from_fn(|i| origin[i] + shift[i]),
        );
        let (low, high) = voxels.iter().fold((0.0_f32, 0.0_f32), |(a, b), v| (a.min(*v), b.max(*v)));
        for value in trilinear(&voxels, &source, &moved, 0.0) {
            prop_assert!((low - 1e-3..=high + 1e-3).contains(&value));
        }
    }
}
