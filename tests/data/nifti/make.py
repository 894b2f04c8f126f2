"""Makes the files of this folder and what nibabel reads from them (expected.json)."""
import gzip, json, pathlib
import nibabel, numpy as np

here = pathlib.Path(__file__).parent
shape = (4, 3, 5)
index = np.arange(np.prod(shape)).reshape(shape)
oblique = np.array([[0.75, -0.2, 0.3, -20.5], [0.1, 1.15, -0.8, 33.25], [-0.05, 0.4, 2.9, 4.125], [0, 0, 0, 1]])
rotated = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.3, -0.7, 1.1) @ np.diag([0.8, 1.1, -2.5]), [12.5, -7.25, 90])


def plain(data, affine, codes, slope=None):
    image = nibabel.Nifti1Image(data, None)
    sform, qform = codes
    image.header.set_sform(affine if sform else None, sform)
    if qform:
        image.header.set_qform(affine if qform else None, qform)
    image.header.set_zooms(list(nibabel.affines.voxel_sizes(affine)) + [1] * (data.ndim - 3))
    if slope:
        image.header.set_slope_inter(*slope)
    return image


def save(name, image):
    raw = image.to_bytes()
    (here / name).write_bytes(gzip.compress(raw, mtime=0) if name.endswith(".gz") else raw)


def scaled(name, image, slope, inter):
    """nibabel resets the scaling of arrays on saving; write it into the bytes."""
    raw = bytearray(image.to_bytes())
    raw[112:120] = np.array([slope, inter], "<f4").tobytes()
    (here / name).write_bytes(gzip.compress(bytes(raw), mtime=0))


scaled("sform_i16_scaled.nii.gz", plain((index * 7 - 200).astype(np.int16), oblique, (1, 0)), 0.5, -1024.25)
save("qform_u8.nii.gz", plain((index * 4).astype(np.uint8), rotated, (0, 1)))
both = plain(index.astype(np.int32)[..., None] * 1000, oblique, (2, 0))
both.header.set_qform(rotated, 1)
save("both_i32_4d.nii.gz", both)
save("neither_f64.nii", plain(index / 7 - 3, np.diag([2, 3, 4, 1.0]), (0, 0)))
big = nibabel.Nifti1Image(index.astype(">u2") * 900, None, nibabel.Nifti1Header(endianness=">"))
big.header.set_sform(oblique, 1)
save("big_endian_u16.nii.gz", big)
holes = (index * 1.5).astype(np.float32)
holes[1, 2, 3] = np.nan
save("nan_f32.nii.gz", plain(holes, oblique, (1, 0)))
save("two_volumes_i8.nii.gz", plain(np.stack([index, index], -1).astype(np.int8), oblique, (1, 0)))

expected = {}
for file in sorted(here.glob("*.nii*")):
    image = nibabel.load(file)
    values = image.get_fdata().squeeze()
    if values.ndim == 3 and np.isfinite(values).all():
        expected[file.name] = {"affine": image.affine.tolist(), "values": values.transpose(2, 1, 0).ravel().tolist()}
(here / "expected.json").write_text(json.dumps(expected))
