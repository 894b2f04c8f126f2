//! Grids made from grids.

use super::{Affine, GeometryError, PatientPoint, VolumeGeometry, VoxelPoint, cross, dot, norm};

impl VolumeGeometry {
    /// An orthogonal grid of the given spacing over the same part of the patient.
    ///
    /// Axes keep their order and sense. The new grid is centred on the old one and covers its
    /// extent from voxel edge to voxel edge: `max(1, round(extent / spacing))` voxels per axis,
    /// halves away from zero. Of a sheared grid (gantry tilt) the two most orthogonal axes stay
    /// and the third becomes their normal; the new box then encloses the sheared one.
    ///
    /// # Errors
    /// [`GeometryError::NotFinite`] when a spacing is not a positive finite number.
    pub fn with_spacing(&self, spacing_mm: [f64; 3]) -> Result<Self, GeometryError> {
        if spacing_mm.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(GeometryError::NotFinite);
        }
        let directions = self.orthogonal_directions();
        let (low, high) = self.extent_along(directions);
        let mut shape = [1; 3];
        let mut origin = [0.0; 3];
        let mut columns = [[0.0; 3]; 3];
        for axis in 0..3 {
            let extent = high[axis] - low[axis];
            shape[axis] = (extent / spacing_mm[axis]).round().max(1.0) as usize;
            let span = (shape[axis] - 1) as f64 * spacing_mm[axis];
            let first = (low[axis] + high[axis] - span) / 2.0;
            columns[axis] = directions[axis].map(|v| v * spacing_mm[axis]);
            for (value, direction) in origin.iter_mut().zip(directions[axis]) {
                *value += first * direction;
            }
        }
        Self::new(shape, Affine::from_columns(columns, PatientPoint(origin)))
    }

    /// The angle by which the slice step leans from the slice plane's normal, in degrees: 0 for
    /// an orthogonal grid, the gantry tilt for a sheared one.
    pub fn shear_deg(&self) -> f64 {
        let step = |axis| self.voxel_to_patient().column(axis);
        let normal = cross(step(1), step(2));
        let cosine = dot(normal, step(0)).abs() / (norm(normal) * norm(step(0)));
        cosine.clamp(-1.0, 1.0).acos().to_degrees()
    }

    /// Unit directions of the three axes, made orthogonal by bending the most oblique one.
    fn orthogonal_directions(&self) -> [[f64; 3]; 3] {
        let unit: [[f64; 3]; 3] = std::array::from_fn(|axis| {
            let step = self.voxel_to_patient().column(axis);
            step.map(|v| v / norm(step))
        });
        let (mut bent, mut least) = (0, f64::INFINITY);
        for axis in 0..3 {
            let cosine = dot(unit[(axis + 1) % 3], unit[(axis + 2) % 3]).abs();
            if cosine < least - 1e-12 {
                (bent, least) = (axis, cosine);
            }
        }
        let (a, b) = (unit[(bent + 1) % 3], unit[(bent + 2) % 3]);
        let along = dot(a, b);
        let b: [f64; 3] = std::array::from_fn(|i| b[i] - along * a[i]);
        let b = b.map(|v| v / norm(b));
        let normal = cross(a, b);
        let sense = dot(normal, unit[bent]).signum();
        let mut directions = unit;
        directions[(bent + 2) % 3] = b;
        directions[bent] = normal.map(|v| v * sense);
        directions
    }

    /// The least and the greatest coordinate along each direction of any voxel's outer edge.
    fn extent_along(&self, directions: [[f64; 3]; 3]) -> ([f64; 3], [f64; 3]) {
        let (mut low, mut high) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
        for corner in 0..8 {
            let at = VoxelPoint(std::array::from_fn(|axis| {
                if corner >> axis & 1 == 1 { self.shape()[axis] as f64 - 0.5 } else { -0.5 }
            }));
            let at = self.voxel_to_patient().apply(at).0;
            for axis in 0..3 {
                let along = dot(at, directions[axis]);
                low[axis] = low[axis].min(along);
                high[axis] = high[axis].max(along);
            }
        }
        (low, high)
    }
}
