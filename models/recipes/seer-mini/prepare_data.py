"""Reads the training volumes once and stores them, cropped and reordered, as one compressed cache.

usage: python prepare_data.py --data DATA --out CACHE

All arrays are [z, y, x] = (superior, anterior, right); spacing_mm in the same order.
CACHE/brain_XX.npz     labels u8 (index into CACHE/brain_ids.npy), 1 mm
CACHE/headneck_CASE.npz, torso.npz, chest_CASE.npz     ct i16 (HU), labels u8, spacing_mm f32[3], contoured u8[]
"""

import argparse
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

BRAIN_TRAIN, BRAIN_TEST = range(1, 19), range(19, 21)
HEADNECK_TEST_COUNT = 8
#: (image, label value, brain only, values that are known); `ms_19` and `pgbm_*` are held out.
LESION_TRAIN = (("brain-lesions/pyradiomics_brain1_t1post", 1, False, (1, 2)),
                ("brain-lesions/pyradiomics_brain2_t1post", 1, False, (1, 2)),
                ("brain-lesions/ms_07_t1", 0, True, (3,)), ("brain-lesions/ms_07_flair", 2, True, (1, 2, 3)),
                ("brain-lesions/stroke_t1", 0, True, (3,)), ("brain-lesions/stroke_flair", 0, True, (3,)),
                ("brain-lesions/stroke_t2", 0, True, (3,)), ("brain-t1/mni152_2009a_sym_t1", 0, True, (1, 2, 3)))
CHEST_TRAIN, CHEST_TEST = ("pyradiomics_lung1", "lidc_0314"), ("pyradiomics_lung2",)


#: See heart_mask; drawn for this recipe on the two chest CTs of the training and the one that is held out.
HEARTS = {
    "lidc_0314": ((40, 160, 122, 28, 26), (52, 182, 145, 48, 45), (64, 187, 145, 45, 45), (76, 200, 147, 50, 48), (88, 205, 152, 36, 47),
                  (102, 205, 155, 32, 32)),
    "pyradiomics_lung1": ((2, 108, 105, 40, 30), (4, 105, 108, 52, 40), (7, 113, 108, 53, 38), (10, 118, 115, 46, 42), (13, 124, 118, 40, 36),
                          (17, 135, 122, 36, 32)),
    "pyradiomics_lung2": ((18, 115, 100, 55, 45), (20, 124, 105, 63, 52), (24, 130, 104, 66, 54), (27, 135, 106, 60, 50), (30, 140, 108, 50, 46),
                          (34, 147, 116, 42, 38)),
}


def read_ras(path):
    """(array [z, y, x], spacing_mm [z, y, x]) of a NIfTI file, whatever its axis order."""
    image = nibabel.as_closest_canonical(nibabel.load(path))
    spacing = np.asarray(image.header.get_zooms()[:3], np.float32)
    return np.asanyarray(image.dataobj).transpose(2, 1, 0), spacing[::-1].copy()


def bounding_box(mask, margin):
    slices = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(max(0, s.start - margin), s.stop + margin) for s in slices)


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    print(path.name, {k: getattr(v, "shape", v) for k, v in arrays.items()}, flush=True)


def prepare_brain(data, out):
    maps = {n: read_ras(data / f"brain-labelmaps/labelmap_{n:02d}.nii.gz")[0] for n in (*BRAIN_TRAIN, *BRAIN_TEST)}
    ids = np.unique(np.concatenate([np.unique(m) for m in maps.values()]))
    np.save(out / "brain_ids.npy", ids)
    table = np.zeros(ids.max() + 1, np.uint8)
    table[ids] = np.arange(len(ids))
    for number, labels in maps.items():
        labels = labels[bounding_box(labels > 0, 2)]
        save(out / f"brain_{number:02d}.npz", labels=table[labels])


def headneck_test_cases(data):
    """Eight cases with all seven structures, spread evenly over the sorted list."""
    names = sorted(p.name[:-len("_seg.nii.gz")] for p in (data / "headneck-ct").glob("*_seg.nii.gz"))
    complete = [n for n in names if len(np.unique(nibabel.load(data / f"headneck-ct/{n}_seg.nii.gz").dataobj)) == 8]
    return [complete[i * len(complete) // HEADNECK_TEST_COUNT] for i in range(HEADNECK_TEST_COUNT)]


def prepare_headneck(data, out):
    test = headneck_test_cases(data)
    (out / "headneck_test.txt").write_text("\n".join(test))
    for path in sorted((data / "headneck-ct").glob("*_ct.nii.gz")):
        name = path.name[:-len("_ct.nii.gz")]
        if name in test:
            continue
        ct, spacing = read_ras(path)
        labels, _ = read_ras(path.with_name(f"{name}_seg.nii.gz"))
        box = bounding_box(ct > -1000, 4)
        save(out / f"headneck_{name}.npz", ct=ct[box].astype(np.int16), labels=labels[box].astype(np.uint8),
             spacing_mm=spacing, contoured=np.unique(labels[labels > 0]).astype(np.uint8))


def prepare_torso(data, out):
    ct, spacing = read_ras(data / "torso-ct/abdomen_pelvis_ct.nii.gz")
    labels, _ = read_ras(data / "torso-ct/abdomen_pelvis_seg.nii.gz")
    save(out / "torso.npz", ct=ct.astype(np.int16), labels=labels.astype(np.uint8), spacing_mm=spacing,
         contoured=np.unique(labels[labels > 0]).astype(np.uint8))


def lung_labels(ct, spacing):
    """Left 1, right 2: enclosed air, split at the trachea's side; vessels inside are closed."""
    air = (ct < -400) & (ct > -985)
    air = ndimage.binary_opening(air, iterations=1)
    parts, count = ndimage.label(air)
    border = np.unique(np.concatenate([parts[:, f].ravel() for f in (0, -1)] + [parts[:, :, f].ravel() for f in (0, -1)]))
    voxel_ml = float(np.prod(spacing)) / 1000
    volumes = ndimage.sum_labels(np.ones_like(parts), parts, range(1, count + 1)) * voxel_ml
    keep = [i + 1 for i in np.argsort(volumes)[::-1] if volumes[i] > 300 and i + 1 not in border]
    labels = np.zeros(ct.shape, np.uint8)
    middle = ct.shape[2] / 2
    for part in keep:
        mask = parts == part
        x = np.nonzero(mask)[2]
        if min((x < middle).mean(), (x > middle).mean()) > 0.2:  # both lungs joined
            side = np.where(np.arange(ct.shape[2]) < middle, 1, 2).astype(np.uint8)
            labels[mask] = np.broadcast_to(side, ct.shape)[mask]
        else:
            labels[mask] = 1 if x.mean() < middle else 2
    radius = [max(1, round(4 / s)) for s in spacing]
    for value in (1, 2):
        grown = ndimage.binary_closing(labels == value, np.ones([2 * r + 1 for r in radius], bool))
        labels[grown & (labels == 0)] = value
    return labels


def heart_mask(ct, spacing, ellipses):
    """The heart as ellipses between which it is interpolated, less lung and fat: rough, drawn by eye.

    `ellipses` holds (slice, centre x, centre y, radius x, radius y); mm, x from the first column, y from the last row.
    """
    table = np.array(ellipses, float)
    z = np.arange(ct.shape[0])
    inside = (z >= table[0, 0]) & (z <= table[-1, 0])
    cx, cy, rx, ry = (np.interp(z, table[:, 0], table[:, i])[:, None, None] for i in range(1, 5))
    x = (np.arange(ct.shape[2]) * spacing[2])[None, None, :]
    y = ((ct.shape[1] - 1 - np.arange(ct.shape[1])) * spacing[1])[None, :, None]
    mask = (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1) & inside[:, None, None] & (ct > -50)
    return ndimage.binary_opening(mask, iterations=2)


def prepare_chest(data, out):
    for name in CHEST_TRAIN:
        ct, spacing = read_ras(data / f"chest-ct/{name}_ct.nii.gz")
        labels = lung_labels(ct, spacing)
        labels[heart_mask(ct, spacing, HEARTS[name]) & (labels == 0)] = 4
        save(out / f"chest_{name}.npz", ct=ct.astype(np.int16), labels=labels, spacing_mm=spacing,
             contoured=np.array([1, 2, 4], np.uint8))


def prepare_aorta(data, out):
    """The chest CT whose aorta is contoured; nothing else of it counts."""
    ct, spacing = read_ras(data / "torso-ct/thorax_cta_ct.nii.gz")
    labels, _ = read_ras(data / "torso-ct/thorax_cta_seg.nii.gz")
    save(out / "chest_thorax_cta.npz", ct=ct.astype(np.int16), labels=np.where(np.isin(labels, (1, 2, 3)), 3, 0).astype(np.uint8),
         spacing_mm=spacing, contoured=np.array([3], np.uint8))


def prepare_lesions(data, out):
    """Real MR: 1 tumour, 2 other lesion, 3 the rest of the brain where the skull was taken off."""
    for name, value, extracted, known in LESION_TRAIN:
        image, spacing = read_ras(data / f"{name}.nii.gz")
        folder, case = name.rsplit("/", 1)
        labels = np.zeros(image.shape, np.uint8)
        if extracted:
            labels = np.where(ndimage.binary_fill_holes(image > 0), 3, 0).astype(np.uint8)
        if value:
            seg = read_ras(data / f"{folder}/{case.rsplit('_', 1)[0]}_seg.nii.gz")[0]
            labels[seg > 0] = value
        box = bounding_box(image > 0, 2)
        scaled = np.clip(image[box] / np.quantile(image[image > 0], 0.999) * 1000, 0, 2000)
        save(out / f"lesion_{case}.npz", ct=scaled.astype(np.int16), labels=labels[box], spacing_mm=spacing,
             contoured=np.array(known, np.uint8))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for step in (prepare_aorta, prepare_lesions, prepare_chest, prepare_torso, prepare_headneck, prepare_brain):
        step(args.data, args.out)


if __name__ == "__main__":
    main()
