"""Prints, for each file under the folders given, a JSON line: what pydicom reads of it.

Frames are stored values, those in YCbCr as RGB, the first three of them, as base64 of int32."""
import base64, json, logging, os, sys, warnings
import pydicom
from pydicom.pixels import pixel_array

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
print(json.dumps({"version": pydicom.__version__}))
for root in sys.argv[1:]:
    for folder, _, names in sorted(os.walk(root)):
        for path in (os.path.join(folder, name) for name in sorted(names)):
            line = {"path": path, "name": os.path.relpath(path, root)}
            try:
                data_set = pydicom.dcmread(path)
            except Exception as error:
                line["error"] = type(error).__name__
                print(json.dumps(line))
                continue
            try:
                line["json"] = data_set.to_json_dict(
                    bulk_data_threshold=64, bulk_data_element_handler=lambda _: "bulk",
                    suppress_invalid_tags=True)
            except Exception as error:
                line["json_error"] = type(error).__name__
            try:
                count = min(int(data_set.get("NumberOfFrames", 1) or 1), 3)
                frames = [pixel_array(data_set, index=index) for index in range(count)]
                if frames[0].dtype.kind in "iub" and frames[0].size <= 1 << 20:
                    line["frames"] = [
                        base64.b64encode(frame.astype("<i4").tobytes()).decode() for frame in frames]
            except Exception:
                pass
            print(json.dumps(line))
