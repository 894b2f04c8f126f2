//! Laws of affines and axis orders, on oblique, anisotropic, sheared, non-square grids.

use ndarray::Array3;
use proptest::prelude::*;
use seer::geometry::{
    Affine, AxisOrder, AxisPermutation, PatientPoint, VolumeGeometry, VoxelPoint,
};
use seer::volume::resample::reorder;

const ORDERS: [AxisOrder; 4] = [
    AxisOrder::SuperiorAnteriorRight,
    AxisOrder::SuperiorPosteriorLeft,
    AxisOrder::PosteriorInferiorLeft,
    AxisOrder::LeftInferiorPosterior,
];

/// Steps of three axes in LPS, and the anatomical directions nibabel 5.4 (`aff2axcodes`) gives
/// them.
const NIBABEL: [([[f64; 3]; 3], &str); 14] = [
    ([[-1.11, -0.06, 0.23], [-1.55, -0.78, -1.35], [0.35, -2.54, 1.07]], "RIA"),
    ([[-2.05, 0.48, 3.35], [-0.46, -0.01, -0.28], [-0.15, -3.62, 0.43]], "SRA"),
    ([[-1.24, 0.81, -3.95], [2.90, -1.37, -1.19], [-1.56, -3.17, -0.16]], "ILA"),
    ([[1.90, 1.39, -0.62], [2.83, -1.52, 0.25], [-0.11, -0.40, -1.24]], "PLI"),
    ([[-1.13, 2.22, 2.11], [-2.99, -0.79, -0.77], [-0.02, -3.35, 3.52]], "PRS"),
    ([[-1.36, -2.21, -1.30], [-2.92, 2.12, -0.55], [-0.24, -0.18, 0.56]], "ARS"),
    ([[-0.43, -1.17, 0.15], [0.82, -2.20, -1.14], [1.86, -0.42, 2.14]], "ALS"),
    ([[2.49, 0.29, -3.91], [0.24, -2.98, -0.07], [3.21, 0.21, 2.06]], "IAL"),
    ([[-2.15, 1.79, -1.17], [0.49, -0.53, -1.72], [-2.12, -2.45, 0.15]], "RIA"),
    ([[0.98, 0.64, 0.22], [0.57, 0.91, -1.30], [1.12, -1.51, -0.57]], "LIA"),
    ([[-4.43, 0.03, 0.46], [0.06, -0.14, 0.62], [0.09, 3.03, 0.69]], "RSP"),
    ([[3.63, -1.26, -0.78], [-0.73, -2.49, 0.66], [-1.06, -0.69, -3.80]], "LAI"),
    ([[-1.05, 3.50, 0.31], [-2.73, -0.16, 1.18], [1.36, 0.13, 3.17]], "PRS"),
    ([[-0.48, -2.94, 1.55], [-2.14, 0.10, -0.48], [0.35, -0.98, -1.76]], "ARI"),
];

#[test]
fn names_axes_as_nibabel_does() {
    for (columns, codes) in NIBABEL {
        let affine = Affine::from_columns(columns, PatientPoint([1.0, 2.0, 3.0]));
        let geometry = VolumeGeometry::new([3, 4, 5], affine).unwrap();
        let found = AxisPermutation::closest(&geometry, AxisOrder::SuperiorAnteriorRight);
        let codes: Vec<char> = codes.chars().collect();
        for (k, pair) in [['S', 'I'], ['A', 'P'], ['R', 'L']].into_iter().enumerate() {
            let source_axis = codes.iter().position(|code| pair.contains(code)).unwrap();
            assert_eq!(found.source_axes()[k], source_axis, "{columns:?} {codes:?}");
            assert_eq!(found.flipped()[k], codes[source_axis] == pair[1], "{columns:?} {codes:?}");
        }
    }
}

fn any_grid() -> impl Strategy<Value = VolumeGeometry> {
    let columns = prop::array::uniform3(prop::array::uniform3(-4.0_f64..4.0));
    let shape = [1_usize..6, 1_usize..7, 1_usize..8];
    (shape, columns, prop::array::uniform3(-200.0_f64..200.0)).prop_filter_map(
        "nearly flat grids are no scans",
        |(shape, columns, origin)| {
            let affine = Affine::from_columns(columns, PatientPoint(origin));
            let grid = VolumeGeometry::new(shape, affine).ok()?;
            let [a, b, c] = grid.spacing_mm();
            (grid.voxel_volume_mm3() > 0.05 * a * b * c && a.min(b).min(c) > 0.2).then_some(grid)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn patients_and_voxels_lead_to_one_another(
        grid in any_grid(), at in prop::array::uniform3(-20.0_f64..20.0),
    ) {
        let there = grid.voxel_to_patient().apply(VoxelPoint(at));
        let back = grid.patient_to_voxel().apply(there);
        let round_trip = grid.voxel_to_patient().then(grid.patient_to_voxel());
        for axis in 0..3 {
            prop_assert!((back.0[axis] - at[axis]).abs() < 1e-7, "{back:?} is not {at:?}");
            prop_assert!((round_trip.column(axis)[axis] - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn reordered_voxels_stay_where_they_were(grid in any_grid()) {
        let [slices, rows, columns] = grid.shape();
        // Each voxel holds its own number.
        let voxels = Array3::from_shape_fn((slices, rows, columns), |(k, j, i)| (k, j, i));
        for order in ORDERS {
            let permutation = AxisPermutation::closest(&grid, order);
            let moved = permutation.apply(&grid);
            let reordered = reorder(&voxels, &permutation);
            prop_assert_eq!(reordered.shape(), moved.shape());
            for ((a, b, c), (k, j, i)) in reordered.indexed_iter() {
                let at = moved.voxel_to_patient().apply(VoxelPoint([a, b, c].map(|v| v as f64)));
                let was = VoxelPoint([*k, *j, *i].map(|v| v as f64));
                let was = grid.voxel_to_patient().apply(was);
                prop_assert!((0..3).all(|axis| (at.0[axis] - was.0[axis]).abs() < 1e-9));
            }
            let undone = permutation.inverse();
            prop_assert_eq!(reorder(&reordered, &undone), voxels.clone());
            prop_assert!(undone.apply(&moved).is_close(&grid, 1e-9));
            let again = AxisPermutation::closest(&moved, order);
            prop_assert_eq!((again.source_axes(), again.flipped()), ([0, 1, 2], [false; 3]));
        }
    }

    #[test]
    fn finer_grids_stay_in_place_and_reach_the_old_centres(
        grid in any_grid(), spacing in prop::array::uniform3(0.3_f64..1.0),
    ) {
        let even = grid.with_spacing(spacing).unwrap();
        let [a, b, c] = [0, 1, 2].map(|axis| even.voxel_to_patient().column(axis));
        let dot = |p: [f64; 3], q: [f64; 3]| p[0] * q[0] + p[1] * q[1] + p[2] * q[2];
        prop_assert!(dot(a, b).abs() + dot(b, c).abs() + dot(a, c).abs() < 1e-9);
        for corner in 0..8 {
            let last = grid.shape().map(|n| (n - 1) as f64);
            let at: [f64; 3] =
                std::array::from_fn(|axis| if corner >> axis & 1 == 1 { last[axis] } else { 0.0 });
            let at = grid.voxel_to_patient().apply(VoxelPoint(at));
            let VoxelPoint(at) = even.patient_to_voxel().apply(at);
            for axis in 0..3 {
                let end = (even.shape()[axis] - 1) as f64;
                prop_assert!(at[axis] > -1.01 && at[axis] < end + 1.01, "{at:?}");
            }
        }
    }
}
