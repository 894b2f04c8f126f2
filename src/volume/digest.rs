//! One hash for one mask.

use sha2::{Digest, Sha256};

use super::Mask;

impl Mask {
    /// SHA-256 of the mask's voxels, in lower-case hex.
    ///
    /// Hashed are the shape `[slices, rows, columns]` as three little-endian 64-bit numbers and the
    /// voxels in that order, eight to a byte, the first in the lowest bit, without padding between
    /// rows or slices; the last byte is filled with zeros. Geometry is not part of it: the record
    /// names the series, which fixes the grid.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        for length in self.voxels.shape() {
            hasher.update((*length as u64).to_le_bytes());
        }
        let mut packed = Vec::with_capacity(1 << 16);
        let (mut byte, mut count) = (0_u8, 0_u32);
        for inside in &self.voxels {
            byte |= u8::from(*inside) << (count % 8);
            count = (count + 1) % 8;
            if count == 0 {
                packed.push(byte);
                byte = 0;
                if packed.len() == packed.capacity() {
                    hasher.update(&packed);
                    packed.clear();
                }
            }
        }
        if count > 0 {
            packed.push(byte);
        }
        hasher.update(&packed);
        hex::encode(hasher.finalize())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array3;

    use super::*;
    use crate::geometry::{Affine, PatientPoint, VolumeGeometry};

    fn mask(shape: [usize; 3], inside: &[usize]) -> Mask {
        let columns = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
        let affine = Affine::from_columns(columns, PatientPoint([0.0; 3]));
        let geometry = VolumeGeometry::new(shape, affine).expect("an invertible grid");
        let mut voxels = Array3::from_elem(shape, false);
        for (index, voxel) in voxels.iter_mut().enumerate() {
            *voxel = inside.contains(&index);
        }
        Mask { geometry, voxels }
    }

    #[test]
    fn hashes_shape_and_bits_as_documented() {
        let mut bytes: Vec<u8> = Vec::new();
        for length in [1_u64, 3, 5] {
            bytes.extend(length.to_le_bytes());
        }
        bytes.extend([0b1000_0001, 0b0100_0000]);
        let expected = hex::encode(Sha256::digest(&bytes));
        assert_eq!(mask([1, 3, 5], &[0, 7, 14]).sha256(), expected);
    }

    #[test]
    fn differs_by_one_voxel_and_by_shape() {
        let base = mask([2, 3, 5], &[4]).sha256();
        assert_ne!(mask([2, 3, 5], &[5]).sha256(), base);
        assert_ne!(mask([2, 5, 3], &[4]).sha256(), base);
        assert_eq!(mask([2, 3, 5], &[4]).sha256(), base);
    }
}
