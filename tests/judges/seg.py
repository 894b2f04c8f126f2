"""Judges a Segmentation written by the server with readers that are not ours.

Usage: python seg.py JUDGE CASE_FOLDER

CASE_FOLDER holds seg.dcm, source/*.dcm, expected.u8 (one byte a voxel, [segment, frame, row,
column]) and case.json (shape; position, orientation and spacing of each frame, LPS in mm; SOP
Instance UID and frame number of its source). JUDGE is one of
  dciodvfy, dcentvfy   no errors (dicom3tools);
  highdicom            get_volume: every voxel, at its place in the patient;
  highdicom-frames     frame by frame through the source references (any stack);
  dcmqi                segimage2itkimage: every voxel, at its place in the patient;
  pydicom-seg          the same;
  pydicom              the stored values of a LABELMAP, frame by frame.
Prints one line; exit status 0 when the judge agrees.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

BIN = Path(sys.executable).parent
# Positions and directions are decimal strings; ITK keeps float64.
TOLERANCE_MM = 1e-3


class Case:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.facts = json.loads((self.folder / "case.json").read_text())
        self.shape = tuple(self.facts["shape"])
        raw = np.fromfile(self.folder / "expected.u8", np.uint8)
        self.expected = raw.reshape(self.shape).astype(bool)
        self.seg = self.folder / "seg.dcm"

    def points(self, segment):
        """LPS positions of the voxels inside one segment, from the source's own geometry."""
        f, r, c = np.nonzero(self.expected[segment])
        positions = np.array([frame["position"] for frame in self.facts["frames"]])
        along_row, along_column = np.array(self.facts["orientation"]).reshape(2, 3)
        between_rows, between_columns = self.facts["spacing"]
        return (
            positions[f]
            + c[:, None] * between_columns * along_row
            + r[:, None] * between_rows * along_column
        )


def agree(case, segment, array, index_to_lps, who):
    """`array[index]` is inside exactly at the expected positions; index_to_lps is 4x4."""
    points = case.points(segment)
    index = (points - index_to_lps[:3, 3]) @ np.linalg.inv(index_to_lps[:3, :3]).T
    nearest = np.rint(index).astype(int)
    if len(points):
        off = np.abs((index - nearest) @ index_to_lps[:3, :3].T).max()
        assert off < TOLERANCE_MM, f"{who}: voxels of segment {segment + 1} are off by {off} mm"
        in_range = ((nearest >= 0) & (nearest < array.shape)).all()
        assert in_range, f"{who}: segment {segment + 1} reaches out of the volume"
        inside = array[tuple(nearest.T)].astype(bool).all()
        assert inside, f"{who}: segment {segment + 1} misses voxels"
    found, expected = int((array != 0).sum()), len(points)
    assert found == expected, f"{who}: segment {segment + 1} has {found} voxels, not {expected}"


def highdicom(case):
    import highdicom

    volume = highdicom.seg.segread(case.seg).get_volume(combine_segments=False)
    for segment in range(case.shape[0]):
        agree(case, segment, volume.array[..., segment], volume.affine, "highdicom")
    return f"{case.expected.sum()} voxels of {case.shape[0]} segments exact"


def highdicom_frames(case):
    import highdicom

    seg = highdicom.seg.segread(case.seg)
    frames = case.facts["frames"]
    if "frame" in frames[0] and len({frame["sop"] for frame in frames}) == 1:
        numbers = [frame["frame"] for frame in frames]
        found = seg.get_pixels_by_source_frame(frames[0]["sop"], numbers)
    else:
        found = seg.get_pixels_by_source_instance([frame["sop"] for frame in frames])
    found = np.moveaxis(found, -1, 0).astype(bool)
    assert (found == case.expected).all(), "frames differ by source reference"
    positions = {
        (
            item.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
            tuple(float(v) for v in item.PlanePositionSequence[0].ImagePositionPatient),
        )
        for item in seg.PerFrameFunctionalGroupsSequence
    }
    for number in range(1, case.shape[0] + 1):
        for frame in frames:
            near = any(
                number == n and np.abs(np.subtract(p, frame["position"])).max() < 1e-6
                for n, p in positions
            )
            assert near, f"segment {number} has no frame at {frame['position']}"
    return f"{len(positions)} frames exact by reference, positions within 1e-6 mm"


def dcmqi(case):
    import nibabel

    with tempfile.TemporaryDirectory() as out:
        command = [BIN / "segimage2itkimage", "--inputDICOM", case.seg, "--outputDirectory", out]
        done = subprocess.run([*command, "-t", "nii"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-400:] + done.stderr[-400:]
        files = sorted(Path(out).glob("*.nii.gz"))
        for segment in range(case.shape[0]):
            # A label map comes as one image of segment numbers.
            is_label_map = len(files) == 1 and case.shape[0] > 1
            name = files[0] if is_label_map else next(Path(out).glob(f"*{segment + 1}.nii.gz"))
            image = nibabel.load(name)
            index_to_lps = np.diag([-1, -1, 1, 1]) @ image.affine
            array = np.asarray(image.dataobj)
            if is_label_map:
                array = array == segment + 1
            if case.expected[segment].any():
                agree(case, segment, array, index_to_lps, "dcmqi")
            else:
                assert not array.any(), f"dcmqi: segment {segment + 1} is not empty"
    return f"{case.expected.sum()} voxels of {case.shape[0]} segments exact"


def pydicom_seg(case):
    import pydicom
    import pydicom_seg

    result = pydicom_seg.SegmentReader().read(pydicom.dcmread(case.seg))
    for segment in range(case.shape[0]):
        image = result.segment_image(segment + 1)
        # SimpleITK is LPS with index (x, y, z); its arrays are [z, y, x].
        steps = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        index_to_lps = np.eye(4)
        index_to_lps[:3, :3] = steps
        index_to_lps[:3, 3] = image.GetOrigin()
        array = np.transpose(result.segment_data(segment + 1), (2, 1, 0))
        agree(case, segment, array, index_to_lps, "pydicom-seg")
    return f"{case.expected.sum()} voxels of {case.shape[0]} segments exact"


def pydicom_values(case):
    import pydicom

    seg = pydicom.dcmread(case.seg)
    numbers = np.arange(1, case.shape[0] + 1).reshape(-1, 1, 1, 1)
    expected = (case.expected * numbers).max(axis=0)
    assert (seg.pixel_array == expected).all(), "stored values differ"
    return f"{case.expected.sum()} values of {case.shape[0]} segments exact"


def lines(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).splitlines()


def dciodvfy(case):
    said = lines([BIN / "dciodvfy", "-new", case.seg])
    errors = [line for line in said if line.startswith("Error")]
    assert said and not errors, "\n".join(errors) or "dciodvfy said nothing"
    warnings = sorted({line for line in said if line.startswith("Warning")})
    return f"no errors, {len(warnings)} warnings {warnings}"


def dcentvfy(case):
    said = lines([BIN / "dcentvfy", *sorted(case.folder.glob("source/*.dcm")), case.seg])
    # What the source's own files lack or contradict among themselves is not judged.
    said = [line for line in said if "seg.dcm" in line]
    assert not said, "\n".join(said[:5])
    return "consistent with the source"


JUDGES = {
    "dciodvfy": dciodvfy,
    "dcentvfy": dcentvfy,
    "highdicom": highdicom,
    "highdicom-frames": highdicom_frames,
    "dcmqi": dcmqi,
    "pydicom-seg": pydicom_seg,
    "pydicom": pydicom_values,
}


def main():
    judge, folder = sys.argv[1:]
    try:
        print(f"{judge}: {JUDGES[judge](Case(folder))}")
    except AssertionError as error:
        raise SystemExit(f"{judge}: {error}") from None


if __name__ == "__main__":
    main()
