//! Frames, points and affines: where a voxel lies in the patient.
//!
//! Patient space is always DICOM's LPS in millimetres (PS3.3 C.7.6.2.1.1): x grows to the
//! patient's **left**, y to the **back**, z to the **head**. Voxel indices are
//! `[slice, row, column]`, counted from 0; voxel centres lie on whole numbers.
//!
//! ```
//! use seer::geometry::{PatientPoint, VolumeGeometry, VoxelPoint};
//! let geometry = VolumeGeometry::from_frames(
//!     [2, 3, 4],
//!     PatientPoint([10.0, 20.0, 30.0]),
//!     [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
//!     [0.5, 0.8],
//!     [0.0, 0.0, 2.0],
//! )?;
//! let at = geometry.voxel_to_patient().apply(VoxelPoint([1.0, 0.0, 2.0]));
//! assert_eq!(at, PatientPoint([11.6, 20.0, 32.0]));
//! # Ok::<(), seer::geometry::GeometryError>(())
//! ```

mod axes;
mod grid;

use std::marker::PhantomData;

use crate::error::{ErrorKind, Kind};

pub use axes::{AxisOrder, AxisPermutation};

/// What can be wrong with a geometry.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GeometryError {
    /// The affine has no inverse.
    #[error("affine cannot be inverted: determinant is {determinant:e}")]
    Singular {
        /// The determinant of the linear part, in mm³.
        determinant: f64,
    },
    /// A number is not finite.
    #[error("affine holds a value that is not finite")]
    NotFinite,
    /// One of the axes has no voxels.
    #[error("volume shape {shape:?} has an empty axis")]
    Empty {
        /// `[slices, rows, columns]`.
        shape: [usize; 3],
    },
}

impl Kind for GeometryError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

/// A position that an [`Affine`] can start from or end at.
pub trait Coordinates: Copy {
    /// The three numbers.
    fn to_array(self) -> [f64; 3];
    /// From the three numbers.
    fn from_array(values: [f64; 3]) -> Self;
}

macro_rules! point {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name(pub [f64; 3]);
        impl Coordinates for $name {
            fn to_array(self) -> [f64; 3] {
                self.0
            }
            fn from_array(values: [f64; 3]) -> Self {
                Self(values)
            }
        }
    };
}

point!(
    /// A position in voxels: `[slice, row, column]`, centres on whole numbers.
    VoxelPoint
);
point!(
    /// A position in the patient: LPS, millimetres.
    PatientPoint
);
point!(
    /// A position in a view: `[0, row, column]` in pixels, centres on whole numbers.
    ViewPoint
);

/// Maps positions in one frame to positions in another.
///
/// Row-major 4×4 with the last row `0 0 0 1`; column vectors. `Affine<VoxelPoint, PatientPoint>`
/// takes `(slice, row, column)` in voxels and gives LPS in millimetres.
#[derive(Debug)]
pub struct Affine<From, To> {
    matrix: [[f64; 4]; 4],
    ends: PhantomData<fn(From) -> To>,
}

impl<A, B> Clone for Affine<A, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<A, B> Copy for Affine<A, B> {}
impl<A, B> PartialEq for Affine<A, B> {
    fn eq(&self, other: &Self) -> bool {
        self.matrix == other.matrix
    }
}

impl<A: Coordinates, B: Coordinates> Affine<A, B> {
    /// From three columns (the steps along the first, second and third input axis) and the image
    /// of the origin.
    pub fn from_columns(columns: [[f64; 3]; 3], origin: B) -> Self {
        let origin = origin.to_array();
        let mut matrix = [[0.0; 4]; 4];
        for row in 0..3 {
            for column in 0..3 {
                matrix[row][column] = columns[column][row];
            }
            matrix[row][3] = origin[row];
        }
        matrix[3][3] = 1.0;
        Self { matrix, ends: PhantomData }
    }

    /// The row-major 4×4 matrix.
    pub fn matrix(&self) -> &[[f64; 4]; 4] {
        &self.matrix
    }

    /// The step in the output frame for one unit along input axis `axis` (0, 1 or 2).
    pub fn column(&self, axis: usize) -> [f64; 3] {
        [self.matrix[0][axis], self.matrix[1][axis], self.matrix[2][axis]]
    }

    /// Where the input origin lands.
    pub fn origin(&self) -> B {
        B::from_array(self.column(3))
    }

    /// Maps one position.
    pub fn apply(&self, point: A) -> B {
        let p = point.to_array();
        let m = &self.matrix;
        B::from_array(std::array::from_fn(|r| {
            m[r][0] * p[0] + m[r][1] * p[1] + m[r][2] * p[2] + m[r][3]
        }))
    }

    /// Follows `self` by `next`; compiles only when the frames meet.
    pub fn then<C: Coordinates>(&self, next: &Affine<B, C>) -> Affine<A, C> {
        let (a, b) = (&next.matrix, &self.matrix);
        let matrix = std::array::from_fn(|r| {
            std::array::from_fn(|c| (0..4).map(|k| a[r][k] * b[k][c]).sum())
        });
        Affine { matrix, ends: PhantomData }
    }

    /// The way back.
    ///
    /// # Errors
    /// [`GeometryError::Singular`] when the linear part has no inverse.
    pub fn inverse(&self) -> Result<Affine<B, A>, GeometryError> {
        let m = &self.matrix;
        if m.iter().flatten().any(|value| !value.is_finite()) {
            return Err(GeometryError::NotFinite);
        }
        let columns = [self.column(0), self.column(1), self.column(2)];
        let determinant = dot(cross(columns[0], columns[1]), columns[2]);
        let scale = norm(columns[0]) * norm(columns[1]) * norm(columns[2]);
        if scale == 0.0 || determinant.abs() < 1e-9 * scale {
            return Err(GeometryError::Singular { determinant });
        }
        let rows = [
            cross(columns[1], columns[2]).map(|v| v / determinant),
            cross(columns[2], columns[0]).map(|v| v / determinant),
            cross(columns[0], columns[1]).map(|v| v / determinant),
        ];
        let origin = self.column(3);
        let mut inverse = [[0.0; 4]; 4];
        for r in 0..3 {
            inverse[r][..3].copy_from_slice(&rows[r]);
            inverse[r][3] = -dot(rows[r], origin);
        }
        inverse[3][3] = 1.0;
        Ok(Affine { matrix: inverse, ends: PhantomData })
    }
}

/// The grid of a volume: its shape and where its voxels lie. A value apart from the voxels.
///
/// The affine may be oblique and may be sheared (gantry tilt), but always has an inverse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VolumeGeometry {
    shape: [usize; 3],
    voxel_to_patient: Affine<VoxelPoint, PatientPoint>,
    patient_to_voxel: Affine<PatientPoint, VoxelPoint>,
}

impl VolumeGeometry {
    /// A grid of `shape` `[slices, rows, columns]` placed by `voxel_to_patient`.
    ///
    /// # Errors
    /// When an axis is empty or the affine has no inverse.
    pub fn new(
        shape: [usize; 3],
        voxel_to_patient: Affine<VoxelPoint, PatientPoint>,
    ) -> Result<Self, GeometryError> {
        if shape.contains(&0) {
            return Err(GeometryError::Empty { shape });
        }
        let patient_to_voxel = voxel_to_patient.inverse()?;
        Ok(Self { shape, voxel_to_patient, patient_to_voxel })
    }

    /// A grid from what DICOM frames say (PS3.3 C.7.6.2.1.1).
    ///
    /// `orientation` is Image Orientation (Patient): the direction along a row (to the next
    /// column), then along a column (to the next row). `pixel_spacing_mm` is Pixel Spacing:
    /// between rows, then between columns. `slice_step_mm` leads from one slice's position to the
    /// next; for a single slice any vector off the plane will do.
    ///
    /// # Errors
    /// As [`VolumeGeometry::new`].
    pub fn from_frames(
        shape: [usize; 3],
        first_position: PatientPoint,
        orientation: [[f64; 3]; 2],
        pixel_spacing_mm: [f64; 2],
        slice_step_mm: [f64; 3],
    ) -> Result<Self, GeometryError> {
        let to_next_row = orientation[1].map(|v| v * pixel_spacing_mm[0]);
        let to_next_column = orientation[0].map(|v| v * pixel_spacing_mm[1]);
        Self::new(
            shape,
            Affine::from_columns([slice_step_mm, to_next_row, to_next_column], first_position),
        )
    }

    /// `[slices, rows, columns]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// How many voxels there are.
    pub fn voxel_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// From voxels to LPS millimetres.
    pub fn voxel_to_patient(&self) -> &Affine<VoxelPoint, PatientPoint> {
        &self.voxel_to_patient
    }

    /// From LPS millimetres to voxels.
    pub fn patient_to_voxel(&self) -> &Affine<PatientPoint, VoxelPoint> {
        &self.patient_to_voxel
    }

    /// Length of a step along `[slice, row, column]`, in millimetres.
    pub fn spacing_mm(&self) -> [f64; 3] {
        std::array::from_fn(|axis| norm(self.voxel_to_patient.column(axis)))
    }

    /// The volume of one voxel, in mm³; right for sheared grids too.
    pub fn voxel_volume_mm3(&self) -> f64 {
        let step = |axis| self.voxel_to_patient.column(axis);
        dot(cross(step(0), step(1)), step(2)).abs()
    }

    /// Whether both grids have one shape and every voxel lies within `tolerance_mm` of its twin.
    pub fn is_close(&self, other: &Self, tolerance_mm: f64) -> bool {
        if self.shape != other.shape {
            return false;
        }
        let last = self.shape.map(|n| (n - 1) as f64);
        (0..8).all(|corner| {
            let at = VoxelPoint(std::array::from_fn(|axis| {
                if corner >> axis & 1 == 1 { last[axis] } else { 0.0 }
            }));
            let (a, b) = (self.voxel_to_patient.apply(at), other.voxel_to_patient.apply(at));
            norm(std::array::from_fn(|i| a.0[i] - b.0[i])) <= tolerance_mm
        })
    }
}

/// The scalar product.
pub fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// The vector product.
pub fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// The Euclidean length.
pub fn norm(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}
