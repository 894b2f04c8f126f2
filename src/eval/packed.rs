//! Masks as bits: many fit in memory, and two are compared quickly.

use ndarray::Array3;

use super::EvalError;
use crate::geometry::VolumeGeometry;
use crate::volume::Mask;

/// A mask with eight voxels a byte, on a known shape.
///
/// Voxel `n` of the row-major `[slice, row, column]` order is bit `n % 64` of word `n / 64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedMask {
    shape: [usize; 3],
    words: Vec<u64>,
}

impl PackedMask {
    /// No voxel inside.
    pub fn empty(shape: [usize; 3]) -> Self {
        let count: usize = shape.iter().product();
        Self { shape, words: vec![0; count.div_ceil(64)] }
    }

    /// Packs voxels `[slice, row, column]`.
    pub fn of(voxels: &Array3<bool>) -> Self {
        let (slices, rows, columns) = voxels.dim();
        let mut packed = Self::empty([slices, rows, columns]);
        for (index, inside) in voxels.iter().enumerate() {
            packed.words[index / 64] |= u64::from(*inside) << (index % 64);
        }
        packed
    }

    /// The mask on its grid.
    ///
    /// # Errors
    /// When the grid has another shape.
    pub fn unpack(&self, geometry: &VolumeGeometry) -> Result<Mask, EvalError> {
        if geometry.shape() != self.shape {
            return Err(EvalError::Shapes { left: self.shape, right: geometry.shape() });
        }
        let [_, rows, columns] = self.shape;
        let voxels = Array3::from_shape_fn(self.shape, |(slice, row, column)| {
            let index = (slice * rows + row) * columns + column;
            self.words[index / 64] >> (index % 64) & 1 == 1
        });
        Ok(Mask { geometry: *geometry, voxels })
    }

    /// `[slices, rows, columns]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// How many voxels are inside.
    pub fn voxel_count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// How many voxels are inside both.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn overlap(&self, other: &Self) -> Result<u64, EvalError> {
        self.same_shape(other)?;
        let pairs = self.words.iter().zip(&other.words);
        Ok(pairs.map(|(a, b)| u64::from((a & b).count_ones())).sum())
    }

    /// Adds the voxels of another mask.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn add(&mut self, other: &Self) -> Result<(), EvalError> {
        self.same_shape(other)?;
        for (a, b) in self.words.iter_mut().zip(&other.words) {
            *a |= b;
        }
        Ok(())
    }

    /// `[slice, row, column]` of every inside voxel, in row-major order.
    pub fn inside(&self) -> impl Iterator<Item = [usize; 3]> + '_ {
        let [_, rows, columns] = self.shape;
        self.words.iter().enumerate().flat_map(move |(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                let index = at * 64 + bit;
                Some([index / (rows * columns), index / columns % rows, index % columns])
            })
        })
    }

    fn same_shape(&self, other: &Self) -> Result<(), EvalError> {
        if self.shape == other.shape {
            return Ok(());
        }
        Err(EvalError::Shapes { left: self.shape, right: other.shape })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::{Affine, PatientPoint};

    #[test]
    fn packs_unpacks_counts_and_unites() {
        let shape = [3, 5, 7];
        let columns = [[0.0, 0.0, 2.0], [0.0, 1.0, 0.0], [1.5, 0.0, 0.0]];
        let grid =
            VolumeGeometry::new(shape, Affine::from_columns(columns, PatientPoint([0.0; 3])))
                .expect("a good grid");
        let of = |rule: fn(usize) -> bool| {
            Array3::from_shape_fn(shape, |(s, r, c)| rule((s * 5 + r) * 7 + c))
        };
        let (third, fifth) = (of(|n| n % 3 == 0), of(|n| n % 5 == 0));
        let (a, b) = (PackedMask::of(&third), PackedMask::of(&fifth));
        assert_eq!((a.voxel_count(), b.voxel_count()), (35, 21));
        assert_eq!(a.overlap(&b).expect("one shape"), 7);
        assert_eq!(a.unpack(&grid).expect("one shape").voxels, third);
        let places: Vec<_> = a.inside().collect();
        assert_eq!(places.len(), 35);
        assert!(places.iter().all(|&at| third[at]));
        let mut both = a;
        both.add(&b).expect("one shape");
        assert_eq!(both.voxel_count(), 35 + 21 - 7);
        assert!(both.overlap(&PackedMask::empty([3, 7, 5])).is_err());
    }
}
