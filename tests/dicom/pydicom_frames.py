"""Prints, for each grey DICOM file under a folder, its path and a JSON list of its first frames."""
import hashlib, json, logging, os, sys, warnings
import pydicom
from pydicom.pixels import pixel_array

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
for folder, _, names in sorted(os.walk(sys.argv[1])):
    for path in (os.path.join(folder, name) for name in sorted(names)):
        try:
            data_set = pydicom.dcmread(path)
            if data_set.SamplesPerPixel != 1 or "MONOCHROME" not in data_set.PhotometricInterpretation:
                continue
            count = min(int(data_set.get("NumberOfFrames", 1) or 1), 3)
            frames = [pixel_array(data_set, index=index).astype("<i4") for index in range(count)]
        except Exception:
            continue
        print(path, json.dumps([{
            "rows": frame.shape[0], "columns": frame.shape[1],
            "min": int(frame.min()), "max": int(frame.max()), "sum": int(frame.sum(dtype="i8")),
            "sha256": hashlib.sha256(frame.tobytes()).hexdigest(),
        } for frame in frames]), sep="\t")
