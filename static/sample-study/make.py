"""Writes the sample study: the MNI152 T1 template as a classic MR series.

Usage: python make.py [OUTPUT_FOLDER]   (packages: requirements.txt)

The template is resampled onto slightly oblique axial slices of 2 mm, as a technologist angles
them along the anterior and posterior commissure, with a soft coil shading and Rician noise.
Patient coordinates are MNI coordinates: x and y change sign, because DICOM counts to the
patient's left and back (LPS) and NIfTI to the right and front (RAS).
The same packages give the same bytes.
"""

import datetime
import hashlib
import sys
import uuid
from pathlib import Path

import nibabel
import nilearn
import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from scipy.ndimage import map_coordinates

TEMPLATE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
TEMPLATE_SHA256 = "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6"
SLICES, ROWS, COLUMNS = 80, 224, 176
PIXEL_MM, SLICE_MM = 0.9375, 2.0
CENTRE_LPS = np.array([1.5, 17.0, 5.0])
PITCH, TURN, TILT = np.radians([9.0, 3.0, 2.0])
STUDY_TIME = datetime.datetime(2026, 1, 5, 10, 12, 30)


def uid(name):
    """A UID that is always the same for one name (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, 'seer:sample-study:mni152-t1:' + name).int}"


def orientation():
    """Unit vectors (LPS) to the next column, the next row and the next slice."""
    cp, sp, ct, st, cl, sl = (f(a) for a in (PITCH, TURN, TILT) for f in (np.cos, np.sin))
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn = np.array([[ct, -st, 0], [st, ct, 0], [0, 0, 1]])
    tilt = np.array([[cl, 0, sl], [0, 1, 0], [-sl, 0, cl]])
    return (turn @ tilt @ pitch).T


def positions(column, row, normal):
    """The centre of the first pixel of every slice (LPS, mm), feet to head."""
    corner = CENTRE_LPS - PIXEL_MM * ((COLUMNS - 1) / 2 * column + (ROWS - 1) / 2 * row)
    return [corner + (k - (SLICES - 1) / 2) * SLICE_MM * normal for k in range(SLICES)]


def template():
    """The template's voxels and its way from RAS millimetres to voxels."""
    path = Path(nilearn.__file__).parent / TEMPLATE
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != TEMPLATE_SHA256:
        raise SystemExit(f"{path} has sha256 {found}, not {TEMPLATE_SHA256}")
    image = nibabel.load(path)
    return np.asarray(image.dataobj, np.float64), np.linalg.inv(image.affine)


def sample(voxels, ras_to_voxel, position, column, row, normal):
    """One slice: the mean over three planes within its thickness, cubic interpolation."""
    r, c = np.mgrid[:ROWS, :COLUMNS][..., None] * PIXEL_MM
    planes = []
    for offset in (-SLICE_MM / 3, 0.0, SLICE_MM / 3):
        lps = position + offset * normal + r * row + c * column
        ras = lps * [-1, -1, 1]
        index = ras @ ras_to_voxel[:3, :3].T + ras_to_voxel[:3, 3]
        planes.append(map_coordinates(voxels, np.moveaxis(index, -1, 0), order=3, cval=0.0))
    return np.clip(np.mean(planes, axis=0), 0, None)


def scan(pixels, position, column, row, random):
    """What a receiver coil makes of it: shading by position, Rician noise, 12 bits."""
    r, c = np.mgrid[:ROWS, :COLUMNS][..., None] * PIXEL_MM
    off_centre = position + r * row + c * column - CENTRE_LPS
    shading = 1 + off_centre @ [0.0005, 0.0006, 0.0002]
    noise = random.normal(0, 14, (2, ROWS, COLUMNS))
    value = np.hypot(6 * pixels * shading + noise[0], noise[1])
    return np.clip(np.rint(value), 0, 4095).astype("<u2")


def ds(values):
    """Decimal strings of at most 16 characters."""
    return [f"{v:.10f}"[:16] for v in np.atleast_1d(values)]


def header(number, position, column, row, pixels):
    """One classic MR Image Storage instance (PS3.3 A.4)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid(f"instance:{number}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    meta.ImplementationVersionName = "SEER-SAMPLE"
    d = FileDataset(None, Dataset(), preamble=b"\0" * 128, file_meta=meta)
    acquired = STUDY_TIME + datetime.timedelta(minutes=6)
    d.SpecificCharacterSet = "ISO_IR 100"
    d.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"]
    d.InstanceCreationDate = d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = (
        STUDY_TIME.strftime("%Y%m%d")
    )
    d.InstanceCreationTime = d.ContentTime = (acquired + datetime.timedelta(minutes=1)).strftime(
        "%H%M%S"
    )
    d.StudyTime = STUDY_TIME.strftime("%H%M%S")
    d.SeriesTime = d.AcquisitionTime = acquired.strftime("%H%M%S.%f")
    d.SOPClassUID, d.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    d.AccessionNumber, d.Modality = "SAMPLE01", "MR"
    d.Manufacturer, d.ManufacturerModelName = "SEER sample maker", "MNI152 template, resampled"
    d.InstitutionName, d.StationName = "SEER sample study", "SAMPLE"
    d.DeviceSerialNumber, d.SoftwareVersions = "0", "1"
    d.ReferringPhysicianName = ""
    d.StudyDescription = "MRI brain without contrast (sample)"
    d.SeriesDescription = "t1_mprage_ax_2mm"
    d.PatientName, d.PatientID = "SAMPLE^MNI152", "SAMPLE-MNI152"
    d.PatientBirthDate, d.PatientSex, d.PatientAge, d.PatientWeight = "", "O", "", ""
    d.PatientIdentityRemoved = "YES"
    d.DeidentificationMethod = "Average of 152 heads; shows no person"
    d.BodyPartExamined = "BRAIN"
    d.ScanningSequence, d.SequenceVariant, d.ScanOptions = ["GR", "IR"], ["SK", "SP", "MP"], "PFP"
    d.MRAcquisitionType, d.SequenceName, d.AngioFlag = "3D", "*tfl3d1", "N"
    d.SliceThickness, d.SpacingBetweenSlices = "2", "2"
    d.RepetitionTime, d.EchoTime, d.InversionTime, d.FlipAngle = "2300", "2.98", "900", "9"
    d.NumberOfAverages, d.ImagingFrequency, d.ImagedNucleus = "1", "123.25", "1H"
    d.EchoNumbers, d.MagneticFieldStrength, d.EchoTrainLength = "1", "3", "1"
    d.NumberOfPhaseEncodingSteps, d.PercentSampling = "224", "100"
    d.PercentPhaseFieldOfView, d.PixelBandwidth = "78.5714286", "240"
    d.ProtocolName, d.TransmitCoilName = "t1_mprage_ax_2mm", "Body"
    d.AcquisitionMatrix = [0, ROWS, COLUMNS, 0]
    d.InPlanePhaseEncodingDirection, d.VariableFlipAngleFlag, d.SAR = "ROW", "N", "0.05"
    d.PatientPosition = "HFS"
    d.StudyInstanceUID, d.SeriesInstanceUID = uid("study"), uid("series")
    d.FrameOfReferenceUID, d.PositionReferenceIndicator = uid("frame-of-reference"), ""
    d.StudyID, d.SeriesNumber, d.AcquisitionNumber, d.InstanceNumber = "1", "4", "1", str(number)
    d.ImagePositionPatient = ds(position)
    d.ImageOrientationPatient = ds(np.concatenate([column, row]))
    d.SliceLocation = ds(position @ np.cross(column, row))[0]
    d.ImageComments = "Made from the ICBM 152 2009a template; see README.md for its notice"
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns, d.PixelSpacing = ROWS, COLUMNS, [str(PIXEL_MM)] * 2
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
    d.SmallestImagePixelValue, d.LargestImagePixelValue = int(pixels.min()), int(pixels.max())
    d.WindowCenter, d.WindowWidth, d.WindowCenterWidthExplanation = "750", "1500", "Algo1"
    d.PixelData = pixels.tobytes()
    return d


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "mni152-t1"
    folder.mkdir(parents=True, exist_ok=True)
    voxels, ras_to_voxel = template()
    column, row, normal = orientation()
    random = np.random.default_rng(152)
    sums = []
    for k, position in enumerate(positions(column, row, normal)):
        pixels = sample(voxels, ras_to_voxel, position, column, row, normal)
        pixels = scan(pixels, position, column, row, random)
        path = folder / f"IM{k + 1:04}.dcm"
        header(k + 1, position, column, row, pixels).save_as(path, enforce_file_format=True)
        sums.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    (folder / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
