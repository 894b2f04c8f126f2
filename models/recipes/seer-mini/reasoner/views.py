"""Renders the four axial views of a scan as the server does, from a box laid through a source volume.

A box is a scan that might have been taken: centre, size, tilt and stretch in the source's space. Rows
of a view run from front to back, columns from the patient's right to the left (radiological display).
"""
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

SIZE = 128
FRACTIONS = np.linspace(0.10, 0.90, 4)
CT_CENTER, CT_WIDTH = 50.0, 400.0
PERCENTILES = (0.5, 99.5)


@dataclass
class Box:
    centre: np.ndarray  # voxels, [x, y, z]
    size: np.ndarray  # mm of the new scan, [x, y, z]
    tilt: np.ndarray  # radians about x, y, z
    stretch: np.ndarray  # source mm per mm of the new scan, [x, y, z]
    flip: bool = False  # mirrored left to right


def rotation(tilt):
    (cx, cy, cz), (sx, sy, sz) = np.cos(tilt), np.sin(tilt)
    return (np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
            @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]))


def points(box, spacing, step_mm):
    """Source voxel coordinates (3, 4, rows, columns) of the four views, one sample each `step_mm`."""
    columns, rows = (max(8, int(round(s / step_mm))) for s in box.size[:2])
    across = (np.arange(columns) + 0.5) / columns - 0.5
    down = (np.arange(rows) + 0.5) / rows - 0.5
    x = -across * box.size[0] * (-1 if box.flip else 1)  # the first column is the patient's right
    y = -down * box.size[1]  # the first row is the front
    z = (FRACTIONS - 0.5) * box.size[2]
    grid = np.stack(np.broadcast_arrays(x[None, None, :], y[None, :, None], z[:, None, None]), -1).astype(np.float32)
    matrix = (rotation(box.tilt) * box.stretch[None, :]) / spacing[:, None]
    return (grid @ matrix.T.astype(np.float32) + box.centre.astype(np.float32)).transpose(3, 0, 1, 2)


def nearest(labels, at):
    """Labels at points, 0 outside the volume."""
    index = np.rint(at).astype(np.int32)
    inside = np.ones(at.shape[1:], bool)
    for axis, length in enumerate(labels.shape):
        inside &= (index[axis] >= 0) & (index[axis] < length)
        np.clip(index[axis], 0, length - 1, out=index[axis])
    return labels[index[0], index[1], index[2]] * inside


def linear(image, at, outside):
    return ndimage.map_coordinates(image, at, order=1, mode="constant", cval=outside)


def window(slices, modality, center=CT_CENTER, width=CT_WIDTH):
    """Grey values 0..255 as uint8; MR by percentiles of each slice."""
    if modality == "CT":
        grey = (slices - (center - width / 2)) / width
    else:
        low, high = np.percentile(slices, PERCENTILES, axis=(1, 2), keepdims=True)
        grey = np.where(high > low, (slices - low) / np.maximum(high - low, 1e-6), 0)
    return (np.clip(grey, 0, 1) * 255).astype(np.uint8)


def fit(slice_, row_mm, column_mm, resample=Image.BILINEAR):
    """Resizes to SIZE x SIZE with square millimetres, centred on black."""
    rows, columns = slice_.shape
    side = max(rows * row_mm, columns * column_mm)
    new_rows, new_columns = (max(1, int(round(SIZE * n * mm / side))) for n, mm in ((rows, row_mm), (columns, column_mm)))
    small = np.asarray(Image.fromarray(slice_).resize((new_columns, new_rows), resample))
    canvas = np.zeros((SIZE, SIZE), np.uint8)
    top, left = (SIZE - new_rows) // 2, (SIZE - new_columns) // 2
    canvas[top:top + new_rows, left:left + new_columns] = small
    return canvas


def scan_views(volume, spacing, modality):
    """The views of a whole volume [x, y, z] in RAS order, exactly by the view plan."""
    last = volume.shape[2] - 1
    at = np.rint(np.linspace(round(0.10 * last), round(0.90 * last), 4)).astype(int)
    slices = volume[::-1, ::-1, at].transpose(2, 1, 0).astype(np.float32)
    return np.stack([fit(s, spacing[1], spacing[0]) for s in window(slices, modality)])
