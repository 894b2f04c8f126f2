"""Judges the documents beside a Segmentation with readers that are not ours.

Usage: python documents.py JUDGE CASE_FOLDER

CASE_FOLDER holds seg.dcm, report.dcm, key_objects.dcm, key_image.dcm, source/*.dcm and
documents.json (volumes_ml and tracking_uids by segment; key_sops, the source instances that the
key objects must name). JUDGE is one of
  dciodvfy, dcentvfy   no errors (dicom3tools);
  highdicom            the report's groups by tracking UID, the key objects' references;
  dcmqi                tid1500reader: volumes and tracking UIDs;
  dsrdump              the tree can be read (dcmtk).
Prints one line; exit status 0 when the judge agrees.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

BIN = Path(sys.executable).parent
DOCUMENTS = ("report", "key_objects", "key_image")


class Case:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.facts = json.loads((self.folder / "documents.json").read_text())
        self.sources = sorted(self.folder.glob("source/*.dcm"))

    def file(self, name):
        return self.folder / f"{name}.dcm"


def lines(command):
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).splitlines()


def dciodvfy(case):
    for name in DOCUMENTS:
        said = lines([BIN / "dciodvfy", "-new", case.file(name)])
        errors = [line for line in said if line.startswith("Error")]
        assert said and not errors, f"{name}: " + ("\n".join(errors) or "nothing said")
    return f"no errors in {len(DOCUMENTS)} documents"


def dcentvfy(case):
    files = [case.file(name) for name in ("seg", *DOCUMENTS)]
    said = lines([BIN / "dcentvfy", *case.sources, *files])
    said = [line for line in said if any(f"{n}.dcm" in line for n in ("seg", *DOCUMENTS))]
    # The tool files Accession Number under Series for some storage classes and under Study for others.
    said = [line for line in said if "Different information entities" not in line]
    assert not said, "\n".join(said[:5])
    return "consistent with the source"


def highdicom(case):
    import highdicom
    import pydicom

    report = highdicom.sr.srread(case.file("report"))
    groups = report.content.get_volumetric_roi_measurement_groups()
    found = {}
    for group in groups:
        (volume,) = group.get_measurements(name=pydicom.sr.codedict.codes.SCT.Volume)
        assert volume.unit.value == "ml", volume.unit
        found[group.tracking_uid] = float(volume.value)
    expected = dict(zip(case.facts["tracking_uids"], case.facts["volumes_ml"]))
    assert found == expected, f"volumes {found}, not {expected}"
    objects = pydicom.dcmread(case.file("key_objects"))
    named = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in objects.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    others = [pydicom.dcmread(case.file(n)).SOPInstanceUID for n in ("seg", "key_image")]
    assert named == [*case.facts["key_sops"], *others], named
    image = pydicom.dcmread(case.file("key_image"))
    assert image.pixel_array.shape == (image.Rows, image.Columns, 3)
    return f"{len(found)} volumes, {len(named)} key objects"


def dcmqi(case):
    with tempfile.TemporaryDirectory() as out:
        metadata = Path(out) / "report.json"
        command = [BIN / "tid1500reader", "--inputDICOM", case.file("report")]
        done = subprocess.run(
            [*command, "--outputMetadata", metadata], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-400:] + done.stderr[-400:]
        groups = json.loads(metadata.read_text())["Measurements"]
    found = {
        group["TrackingUniqueIdentifier"]: float(group["measurementItems"][0]["value"])
        for group in groups
    }
    expected = dict(zip(case.facts["tracking_uids"], case.facts["volumes_ml"]))
    assert found == expected, f"volumes {found}, not {expected}"
    return f"{len(found)} volumes exact"


def dsrdump(case):
    for name in ("report", "key_objects"):
        command = ["dsrdump", case.file(name)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        complaints = [line for line in done.stderr.splitlines() if line[:2] in ("E:", "W:")]
        complaints = [line for line in complaints if "not yet supported" not in line]
        assert done.returncode == 0 and not complaints, complaints[:5]
    return "both trees read without a warning"


JUDGES = {
    "dciodvfy": dciodvfy,
    "dcentvfy": dcentvfy,
    "highdicom": highdicom,
    "dcmqi": dcmqi,
    "dsrdump": dsrdump,
}


def main():
    judge, folder = sys.argv[1:]
    try:
        print(f"{judge}: {JUDGES[judge](Case(folder))}")
    except AssertionError as error:
        raise SystemExit(f"{judge}: {error}") from None


if __name__ == "__main__":
    main()
