//! NIfTI's affines and ours.

use nifti::NiftiHeader;

use super::VolumeError;
use crate::error::Finding;
use crate::geometry::{Affine, PatientPoint, VolumeGeometry, VoxelPoint, cross, dot, norm};

/// Steps in RAS millimetres along i, j and k, and where the first voxel lies.
struct RasAffine {
    columns: [[f64; 3]; 3],
    origin: [f64; 3],
}

/// From `[k, j, i]` voxels to LPS, by nibabel's precedence.
pub(super) fn voxel_to_patient(
    header: &NiftiHeader,
    shape: [usize; 3],
) -> Result<(Affine<VoxelPoint, PatientPoint>, Vec<Finding>), VolumeError> {
    let mut findings = Vec::new();
    let ras = if header.sform_code > 0 {
        sform(header)
    } else if header.qform_code > 0 {
        qform(header)?
    } else {
        let message = "the file does not say how its axes lie in the patient; rows were taken to \
                       run from the patient's right to the left";
        findings.push(Finding::new("no_orientation", message));
        base(header, shape)
    };
    let lps = |v: [f64; 3]| [-v[0], -v[1], v[2]];
    let [i, j, k] = ras.columns.map(lps);
    Ok((Affine::from_columns([k, j, i], PatientPoint(lps(ras.origin))), findings))
}

fn sform(header: &NiftiHeader) -> RasAffine {
    let rows = [header.srow_x, header.srow_y, header.srow_z].map(|row| row.map(f64::from));
    let column = |c: usize| std::array::from_fn(|r| rows[r][c]);
    RasAffine { columns: [column(0), column(1), column(2)], origin: column(3) }
}

/// A rotation given as a unit quaternion, zooms, and the sense of the third axis
/// (`nifti1.h`, method 2).
fn qform(header: &NiftiHeader) -> Result<RasAffine, VolumeError> {
    let [b, c, d] = [header.quatern_b, header.quatern_c, header.quatern_d].map(f64::from);
    let rest = 1.0 - (b * b + c * c + d * d);
    if !(rest.is_finite() && rest > -1e-5) {
        return Err(VolumeError::Nifti(format!("its quaternion ({b}, {c}, {d}) is no rotation")));
    }
    let a = rest.max(0.0).sqrt();
    let s = 2.0 / (a * a + b * b + c * c + d * d);
    let rotation = [
        [1.0 - s * (c * c + d * d), s * (b * c + a * d), s * (b * d - a * c)],
        [s * (b * c - a * d), 1.0 - s * (b * b + d * d), s * (c * d + a * b)],
        [s * (b * d + a * c), s * (c * d - a * b), 1.0 - s * (b * b + c * c)],
    ];
    let third_axis_sense = if header.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
    let mut zooms = zooms(header);
    zooms[2] *= third_axis_sense;
    let columns = std::array::from_fn(|axis| rotation[axis].map(|v: f64| v * zooms[axis]));
    let origin = [header.quatern_x, header.quatern_y, header.quatern_z].map(f64::from);
    Ok(RasAffine { columns, origin })
}

/// Centred on the volume, the first axis against RAS (nibabel's `get_base_affine`).
fn base(header: &NiftiHeader, shape: [usize; 3]) -> RasAffine {
    let mut zooms = zooms(header);
    zooms[0] = -zooms[0];
    let mut columns = [[0.0; 3]; 3];
    for (axis, column) in columns.iter_mut().enumerate() {
        column[axis] = zooms[axis];
    }
    let origin = std::array::from_fn(|axis| -((shape[2 - axis] - 1) as f64) / 2.0 * zooms[axis]);
    RasAffine { columns, origin }
}

fn zooms(header: &NiftiHeader) -> [f64; 3] {
    std::array::from_fn(|axis| f64::from(header.pixdim[axis + 1]).abs())
}

/// A header that places `geometry`'s grid; millimetres.
pub(super) fn header_for(geometry: &VolumeGeometry) -> NiftiHeader {
    let ras = |v: [f64; 3]| [-v[0], -v[1], v[2]];
    let to_patient = geometry.voxel_to_patient();
    let columns = [2, 1, 0].map(|axis| ras(to_patient.column(axis)));
    let origin = ras(to_patient.origin().0);
    let row = |r: usize| [columns[0][r], columns[1][r], columns[2][r], origin[r]].map(|v| v as f32);
    let mut header = NiftiHeader {
        sform_code: 1,
        srow_x: row(0),
        srow_y: row(1),
        srow_z: row(2),
        xyzt_units: 2,
        ..NiftiHeader::default()
    };
    header.pixdim = [1.0; 8];
    for (axis, column) in columns.into_iter().enumerate() {
        header.pixdim[axis + 1] = norm(column) as f32;
    }
    if let Some(quaternion) = Quaternion::of(columns) {
        header.qform_code = 1;
        header.pixdim[0] = quaternion.third_axis_sense as f32;
        [header.quatern_b, header.quatern_c, header.quatern_d] = quaternion.bcd.map(|v| v as f32);
        [header.quatern_x, header.quatern_y, header.quatern_z] = origin.map(|v| v as f32);
    }
    header
}

/// The rotation of an orthogonal grid.
struct Quaternion {
    bcd: [f64; 3],
    third_axis_sense: f64,
}

impl Quaternion {
    /// None when the steps are not perpendicular to one another (to 0.0001).
    fn of(columns: [[f64; 3]; 3]) -> Option<Self> {
        let mut unit = columns.map(|column| column.map(|v| v / norm(column)));
        let skewed = (0..3).any(|axis| dot(unit[axis], unit[(axis + 1) % 3]).abs() > 1e-4);
        if skewed {
            return None;
        }
        let third_axis_sense = dot(cross(unit[0], unit[1]), unit[2]).signum();
        unit[2] = unit[2].map(|v| v * third_axis_sense);
        let m = |row: usize, column: usize| unit[column][row];
        // The largest of the four squared components comes first: no cancellation.
        let squares = [
            1.0 + m(0, 0) + m(1, 1) + m(2, 2),
            1.0 + m(0, 0) - m(1, 1) - m(2, 2),
            1.0 - m(0, 0) + m(1, 1) - m(2, 2),
            1.0 - m(0, 0) - m(1, 1) + m(2, 2),
        ];
        let mut largest = 0;
        for candidate in 1..4 {
            if squares[candidate] > squares[largest] {
                largest = candidate;
            }
        }
        let s = 2.0 * squares[largest].sqrt();
        let [a, b, c, d] = match largest {
            0 => {
                [s / 4.0, (m(2, 1) - m(1, 2)) / s, (m(0, 2) - m(2, 0)) / s, (m(1, 0) - m(0, 1)) / s]
            }
            1 => {
                [(m(2, 1) - m(1, 2)) / s, s / 4.0, (m(0, 1) + m(1, 0)) / s, (m(0, 2) + m(2, 0)) / s]
            }
            2 => {
                [(m(0, 2) - m(2, 0)) / s, (m(0, 1) + m(1, 0)) / s, s / 4.0, (m(1, 2) + m(2, 1)) / s]
            }
            _ => {
                [(m(1, 0) - m(0, 1)) / s, (m(0, 2) + m(2, 0)) / s, (m(1, 2) + m(2, 1)) / s, s / 4.0]
            }
        };
        let sign = if a < 0.0 { -1.0 } else { 1.0 };
        Some(Self { bcd: [b, c, d].map(|v| v * sign), third_axis_sense })
    }
}
