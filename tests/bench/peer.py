"""The peer's side of the benchmarks; prints the best time in seconds.

usage: python peer.py patch PROMPTS EMBEDDING Z Y X IMAGE_ENCODER PROMPT_DECODER MASK_DECODER
       python peer.py resample
"""

import sys
import time

import numpy as np


def best(work, repeats=5):
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def patch(prompts, embedding, shape, paths):
    import onnxruntime
    image, prompt, mask = map(onnxruntime.InferenceSession, paths)
    names = lambda ports: [p.name for p in ports]
    pixels = np.random.rand(1, 1, *shape).astype(np.float32)
    text = np.random.rand(1, prompts, embedding).astype(np.float32)

    def run():
        known = dict(zip(names(image.get_outputs()), image.run(None, {"image": pixels})))
        known["text_embedding"] = text
        feed = lambda graph: {n: known[n] for n in names(graph.get_inputs())}
        known.update(zip(names(prompt.get_outputs()), prompt.run(None, feed(prompt))))
        mask.run(None, feed(mask))

    run()
    return best(run)


def resample():
    from scipy import ndimage
    volume = np.random.rand(120, 256, 256).astype(np.float32)
    at = np.meshgrid(np.arange(150) * 0.8, np.arange(200) * 1.25, np.arange(200) * 1.25, indexing="ij")
    return best(lambda: ndimage.map_coordinates(volume, at, order=1, output=np.float32), 3)


if __name__ == "__main__":
    if sys.argv[1] == "patch":
        numbers = list(map(int, sys.argv[2:7]))
        print(patch(numbers[0], numbers[1], numbers[2:], sys.argv[7:]))
    else:
        print(resample())
