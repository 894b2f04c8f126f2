"""Pre-renders scans for training: views, facts and dense labels, so that training does not wait.

    python make_pool.py --data DATA --out POOL.npz --seed 1 --scale 1.0

Brain MR is painted from label maps in the manner of SynthSeg (random contrast for each tissue), partly
with the contrasts of real sequences; CT of the head likewise. All else are real scans under random
tilt, stretch, cropping, window and noise. Only symmetric regions are mirrored.
"""
import argparse
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

import sources
import views
from sources import MIRROR, SINGLE
from traces import CONCEPTS, NAMES, REGION_NAMES

WIDE = 0.18  # share of scans with much air around
TOKENS = 4  # merged tokens along a side of a view
VIEW_PIXELS, TOKEN_PIXELS = 8, 10  # of 128 x 128 and of 32 x 32, for a structure to count as seen
#: Scans of each kind at scale 1.
COUNTS = {"brain": 2300, "brain-ct": 350, "brain-real": 500, "headneck": 900, "torso": 700, "chest": 550,
          "abdomen-mr": 120, "limb": 300}
#: Grey of tissues in real sequences: white matter, cortex, deep nuclei, fluid, skull, marrow, soft tissue, skin.
SEQUENCES = {"t1": (0.85, 0.58, 0.66, 0.15, 0.08, 0.6, 0.5, 0.9), "t2": (0.38, 0.55, 0.45, 0.98, 0.06, 0.4, 0.35, 0.6),
             "flair": (0.5, 0.68, 0.6, 0.12, 0.08, 0.4, 0.45, 0.7), "pd": (0.6, 0.8, 0.7, 0.85, 0.1, 0.5, 0.6, 0.7)}
TISSUES = ((2, 41, 7, 46, 16, 28, 60, 85), (3, 42, 8, 47, 17, 53, 18, 54), (10, 11, 12, 13, 26, 49, 50, 51, 52, 58),
           (4, 5, 14, 15, 24, 43, 44, 72, 136, 137, 163, 164), (515,), (516,), (502, 506, 507, 508, 509, 512, 514, 530), (511,))
HEAD_CT = (28, 36, 35, 8, 950, 350, 50, -40)
#: TotalSegmentator values of the torso scan that take up contrast medium.
VESSELS, KIDNEYS, ORGANS = (52, 63, 64, 65, 66, 67, 68), (2, 3), (1, 5, 6, 7, 18, 19, 20)
EXTRA_CEREBRAL = (0, 502, 506, 507, 508, 509, 511, 512, 514, 515, 516, 530)


class Painter:
    """Draws one scan after another from the sources, with its own random numbers."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.wide, self.cube = WIDE, 0.0

    def between(self, low, high):
        return float(self.random.uniform(low, high))

    def chance(self, p):
        return bool(self.random.random() < p)

    # Intensities

    def painted(self, labels, ct):
        """Grey values for label slices."""
        mean, spread = np.zeros(531, np.float32), np.zeros(531, np.float32)
        if ct:
            template, jitter, grain = HEAD_CT, (3, 3, 3, 3, 200, 150, 15, 30), self.between(2, 12)
        else:
            template = SEQUENCES[self.random.choice(list(SEQUENCES), p=[0.55, 0.15, 0.2, 0.1])]
            jitter, grain = (0.08,) * 8, self.between(0.01, 0.08)
        random_contrast = not ct and self.chance(0.35)
        for tissue, (ids, level, wobble) in enumerate(zip(TISSUES, template, jitter)):
            base = self.random.random() if random_contrast else level + self.random.normal() * wobble
            for value in ids:
                mean[value] = base + self.random.normal() * wobble * 0.5
                spread[value] = grain * (1 if value < 200 else self.between(1, 3))
        mean[0], spread[0] = (-1000, 5) if ct else (0, self.between(0, 0.02))
        mean[25] = mean[57] = mean[2] if ct else self.between(0, 1)
        mean[30] = mean[62] = mean[3]
        slices = mean[labels] + spread[labels] * self.random.standard_normal(labels.shape).astype(np.float32)
        return ndimage.gaussian_filter(slices, (0, *(2 * (self.between(0.3, 1.1),))))

    def disturbed(self, slices, modality):
        """Bias field, gamma and noise for MR; offset, gain and noise for CT."""
        if modality == "CT":
            slices = slices * self.between(0.95, 1.05) + self.between(-12, 12)
            if self.chance(0.6):
                slices = slices + self.random.standard_normal(slices.shape).astype(np.float32) * self.between(0, 30)
            return slices
        bias = self.random.normal(size=(4, 3, 3)) * self.between(0, 0.3) + self.random.normal(size=(1, 3, 3)) * self.between(0, 0.3)
        zoom = [1, slices.shape[1] / 3, slices.shape[2] / 3]
        slices = slices * np.exp(ndimage.zoom(bias, zoom, order=1)[:, :slices.shape[1], :slices.shape[2]].astype(np.float32))
        top = np.percentile(slices, 99.5)
        slices = np.clip(slices / max(top, 1e-6), 0, None) ** self.between(0.7, 1.4)
        return slices + self.random.standard_normal(slices.shape).astype(np.float32) * self.between(0, 0.05)

    def enhancement(self, source):
        """Hounsfield units to add to each label: contrast medium in vessels and organs, differing by organ."""
        added = np.zeros(source.table.shape[0], np.float32)
        phase = self.between(0, 1.5) if self.chance(0.7) else 0
        for labels, most in ((VESSELS, 130), (KIDNEYS, 130), (ORGANS, 60)):
            added[list(labels)] = phase * self.between(0, most)
        added[list(ORGANS)] += self.random.normal(size=len(ORGANS)) * 10
        return added

    def with_table(self, slices):
        """Draws the curve of a couch below the body."""
        rows, columns = slices.shape[1:]
        body = np.flatnonzero((slices > -300).sum((0, 2)) > 0.02 * columns)
        if not len(body):
            return slices
        across = np.arange(columns) / columns - 0.5
        half, bend, grey = self.between(0.25, 0.48), self.between(-0.35, 0.1), self.between(-50, 250)
        for _ in range(self.random.integers(1, 3)):
            top = body[-1] + self.between(0.0, 0.10) * rows
            line = np.rint(top + bend * (across ** 2) * rows).astype(int)
            for thick in range(self.random.integers(1, 3)):
                there = (np.abs(across) < half) & (line + thick >= 0) & (line + thick < rows)
                at = line[there] + thick, np.flatnonzero(there)
                slices[:, at[0], at[1]] = np.where(slices[:, at[0], at[1]] < -300, grey, slices[:, at[0], at[1]])
        return slices

    # Boxes

    def slab(self, low, high, whole, shortest):
        """A range of slices: the whole of low..high, or, less often, a part of it of at least `shortest`."""
        if self.chance(whole) or high - low <= shortest:
            return low, high
        length = self.between(shortest, high - low)
        start = self.between(low, high - length)
        return start, start + length

    def box(self, source, z_range, margin=(0.0, 0.25), tilt=0.12, stretch=0.12, mirror=0.0, tight=None):
        """A box around the body of the source, over a range of its slices."""
        x, y, _ = tight or source.body
        extent = np.array([x.stop - x.start, y.stop - y.start]) * source.spacing[:2]
        room = 1 + self.random.uniform(*margin, 2) if self.chance(0.8) else 1 + np.array([1, 1]) * self.between(*margin)
        centre = np.array([(x.start + x.stop) / 2, (y.start + y.stop) / 2, (z_range[0] + z_range[1]) / 2])
        centre[:2] += self.random.normal(size=2) * 0.02 * extent / source.spacing[:2]
        scale = 1 + self.random.normal(size=3) * stretch * 0.5
        height = (z_range[1] - z_range[0]) * source.spacing[2]
        return views.Box(centre, np.array([*(extent * room / scale[:2]), height / scale[2]]),
                         self.random.normal(size=3) * tilt * np.array([1, 0.6, 1]), scale, self.chance(mirror))

    def widened(self, z_range, box, source):
        """The same box with air around it, as in a cube of 256 mm or a reconstruction wider than the body."""
        height = z_range[1] - z_range[0]
        z_range = z_range[0] - height * self.between(0, 0.6), z_range[1] + height * self.between(0, 0.45)
        low, high = -0.2 * source.shape[2], 1.2 * source.shape[2]
        z_range = (max(z_range[0], low), min(z_range[1], high)) if source.image is not None else z_range
        wider = np.array([self.between(1, 1.5), self.between(1, 1.5), (z_range[1] - z_range[0]) / height])
        centre = np.array([*box.centre[:2], (z_range[0] + z_range[1]) / 2])
        return z_range, views.Box(centre, box.size * wider, box.tilt * 0.5, box.stretch, box.flip)

    def cubed(self, z_range, box, source):
        """A cube of about 256 mm around a brain: most of it is empty, and the first and last views often are."""
        side, mm = self.between(200, 285), source.spacing[2]
        room = max(0.0, side / mm - (z_range[1] - z_range[0]))
        low = z_range[0] - self.between(0.15, 0.85) * room
        z_range = low, low + max(side / mm, z_range[1] - z_range[0])
        centre = np.array([*(box.centre[:2] + self.random.normal(size=2) * 8 / source.spacing[:2]), (z_range[0] + z_range[1]) / 2])
        size = np.array([side * self.between(0.85, 1), side * self.between(0.85, 1), side])
        return z_range, views.Box(centre, size, box.tilt * 0.7, box.stretch, box.flip)

    # Facts

    def facts(self, source, box, z_range, labels):
        """Dense labels and the place of each structure, from label slices (4, SIZE, SIZE)."""
        values = source.table.shape[0]
        blocks = labels.reshape(4, TOKENS, 32, TOKENS, 32).transpose(0, 1, 3, 2, 4).reshape(4 * TOKENS * TOKENS, -1).astype(np.int64)
        offset = np.arange(len(blocks))[:, None] * values
        counts = np.bincount((blocks + offset).ravel(), minlength=len(blocks) * values).reshape(len(blocks), values)
        pixels = (counts @ source.table).reshape(4, TOKENS * TOKENS, len(SINGLE))
        if box.flip:
            pixels = pixels[:, :, MIRROR]
        seen = pixels.sum(1) >= VIEW_PIXELS
        centre, share = np.full(len(SINGLE), np.nan, np.float32), np.zeros(len(SINGLE), np.float32)
        for i, (low, high) in source.extent.items():
            j = MIRROR[i] if box.flip else i
            inside = max(0.0, min(high, z_range[1]) - max(low, z_range[0]))
            share[j] = inside / (high - low)
            middle = (max(low, z_range[0]) + min(high, z_range[1])) / 2
            centre[j] = 1 + ((middle - z_range[0]) / (z_range[1] - z_range[0]) - 0.1) / (0.8 / 3)
        return pixels >= TOKEN_PIXELS, seen, centre, share

    def scan(self, source, kind):
        """One scan as a dict; see `main` for what is stored."""
        z_range, region, box = getattr(self, "lay_" + source.kind.replace("-", "_"))(source)
        cube = kind in ("brain", "brain-real") and self.chance(self.cube)
        if cube:
            tops = [source.extent[i] for i in source.extent]
            brain = (min(t[0] for t in tops), max(t[1] for t in tops)) if tops else (source.body[2].start, source.body[2].stop)
            z_range, box = self.cubed(brain, box, source)
        elif self.chance(self.wide):
            z_range, box = self.widened(z_range, box, source)
        step = max(box.size[:2]) / self.between(130, 230)
        at = views.points(box, source.spacing, step)
        labels = nearest = views.nearest(source.labels, at) if source.labels is not None else None
        if source.image is None:
            if cube or kind == "brain" and self.chance(0.3):  # brain-extracted
                nearest = np.where(np.isin(labels, EXTRA_CEREBRAL), 0, labels)
            slices = self.painted(nearest, kind == "brain-ct")
        else:
            slices = views.linear(source.image, at, -1024.0 if source.modality == "CT" else 0.0)
        modality = "CT" if kind == "brain-ct" else source.modality
        if kind == "torso":
            slices = slices + self.enhancement(source)[labels]
        if kind in ("torso", "chest") and self.chance(0.5) or kind == "trunk" and self.chance(0.3):
            slices = self.with_table(slices)
        void = slices <= 0 if nearest is None else nearest == 0
        slices = self.disturbed(slices, modality)
        if cube:
            slices = np.where(void & self.chance(0.75), 0, np.abs(slices))  # nothing outside the brain, or noise
        grey = views.window(slices, modality, views.CT_CENTER, views.CT_WIDTH)
        fitted = np.stack([views.fit(s, 1.0, 1.0) for s in grey])
        if labels is not None:
            coarse = np.stack([views.fit(s.astype(np.float32), 1, 1, 0) if s.max() < 256 else fit_labels(s) for s in labels])
            dense, seen, centre, share = self.facts(source, box, z_range, coarse)
        else:
            dense, seen = np.zeros((4, TOKENS * TOKENS, len(SINGLE)), bool), np.zeros((4, len(SINGLE)), bool)
            centre, share = np.full(len(SINGLE), np.nan, np.float32), np.zeros(len(SINGLE), np.float32)
        return dict(views=fitted, modality=modality, region=region, kind=kind, name=source.name, dense=dense,
                    seen=seen, centre=centre, share=share)

    # One rule per kind: which slices, which region they make, and the box.

    def lay_brain(self, source):
        low, high = source.body[2].start, source.body[2].stop
        brain_low = min(source.extent[i][0] for i in source.extent)
        brain_high = max(source.extent[i][1] for i in source.extent)
        if self.chance(0.55):  # a usual head scan: some neck below, some air above
            z_range = brain_low - self.between(-5, 60), brain_high + self.between(-3, 25)
        elif self.chance(0.3):
            z_range = low, high
        else:
            z_range = self.slab(brain_low - 10, brain_high + 5, 0.2, 50)
        return z_range, "head", self.box(source, z_range, (-0.02, 0.35), mirror=0.5)

    def lay_brain_real(self, source):
        z = source.body[2]
        z_range = z.start - self.between(0, 12) / source.spacing[2], z.stop + self.between(0, 12) / source.spacing[2]
        if self.chance(0.25):
            z_range = self.slab(*z_range, 0, 0.5 * (z_range[1] - z_range[0]))
        return z_range, "head", self.box(source, z_range, (0.0, 0.45), mirror=0.5)

    def lay_headneck(self, source):
        z = source.body[2]
        brainstem = source.extent[SINGLE.index("brainstem")][0]
        mm = source.spacing[2]
        if self.chance(0.7) and brainstem - z.start > 60 / mm:
            z_range = self.slab(z.start, z.stop, 0.6, 0.75 * (z.stop - z.start))
        elif self.chance(0.5) and brainstem - z.start > 80 / mm:
            z_range = z.start, brainstem - self.between(0, 30) / mm
        else:
            z_range = brainstem - self.between(0, 35) / mm, z.stop
        if z_range[1] - z_range[0] < 60 / mm:
            z_range = z.start, z.stop
        head, neck = z_range[1] > brainstem + 25 / mm, z_range[0] < brainstem - 55 / mm
        region = "head and neck" if head and neck else "head" if head else "neck"
        return z_range, region, self.box(source, z_range, (0.0, 0.3), mirror=0.5)

    def lay_torso(self, source):
        mm, z = source.spacing[2], source.body[2]
        share = lambda name, r: np.clip((min(source.extent[SINGLE.index(name)][1], r[1]) - max(source.extent[SINGLE.index(name)][0], r[0]))
                                        / (source.extent[SINGLE.index(name)][1] - source.extent[SINGLE.index(name)][0]), 0, 1)
        while True:
            z_range = self.slab(z.start, z.stop, 0.15, 80 / mm)
            abdomen, pelvis = share("right kidney", z_range) > 0.35 or share("liver", z_range) > 0.35, share("left hip bone", z_range) > 0.35
            if abdomen or pelvis:
                break
        region = "abdomen and pelvis" if abdomen and pelvis else "abdomen" if abdomen else "pelvis"
        return z_range, region, self.box(source, z_range, (0.0, 0.55), 0.10, 0.16)

    def lay_trunk(self, source):
        z = source.body[2]
        z_range = self.slab(z.start, z.stop, 0.3, 0.5 * (z.stop - z.start))
        if source.shape[2] > 30:  # the upper part of the long one is chest
            z_range = self.slab(z.start, z.stop - self.between(0, 0.3) * (z.stop - z.start), 0.3, 0.5 * (z.stop - z.start))
        return z_range, "abdomen", self.box(source, z_range, (-0.15, 0.5), 0.15 if source.shape[2] > 30 else 0.03, 0.2)

    def lay_chest(self, source):
        z = source.body[2]
        z_range = self.slab(z.start, z.stop, 0.3, 0.55 * (z.stop - z.start))
        return z_range, "chest", self.box(source, z_range, (-0.05, 0.3), 0.10, 0.16)

    def lay_abdomen_mr(self, source):
        z = source.body[2]
        z_range = self.slab(z.start, z.stop, 0.3, 0.6 * (z.stop - z.start))
        return z_range, "abdomen", self.box(source, z_range, (0.0, 0.3), 0.10, 0.16)

    def lay_limb(self, source):
        z = source.body[2]
        z_range = self.slab(z.start, z.stop, 0.3, 0.5 * (z.stop - z.start))
        return z_range, "limb", self.box(source, z_range, (0.0, 0.4), 0.15, 0.16, mirror=0.5)


def fit_labels(slice_):
    """`views.fit` for labels above 255: high and low byte apart."""
    low, high = (views.fit((part).astype(np.uint8), 1, 1, 0).astype(np.int32) for part in (slice_ & 255, slice_ >> 8))
    return low + (high << 8)


def training_sources(data):
    """Kind of scan -> sources it is drawn from."""
    brains = list(sources.brain_maps(data, range(1, 19)))
    return {
        "brain": brains, "brain-ct": brains,
        "brain-real": list(sources.brain_scans(data, ("brain-t1/mni152_2009a_sym_t1", "brain-lesions/ms_07_t1", "brain-lesions/ms_07_flair",
                                                      "brain-lesions/ms_19_t1", "brain-lesions/ms_19_flair", "brain-lesions/stroke_t1",
                                                      "brain-lesions/stroke_t2", "brain-lesions/stroke_flair",
                                                      "brain-lesions/pyradiomics_brain1_t1post", "brain-lesions/pyradiomics_brain2_t1post"))),
        "headneck": list(sources.headneck(data)), "torso": [sources.torso(data)],
        "trunk": list(sources.trunk(data, ("ct-abdomen-contrast-ge", "ct-torso-empty-uids-siemens-j2k"))),
        "chest": list(sources.chest(data, ("chest-ct/pyradiomics_lung1", "chest-ct/lidc_0314")))
        + list(sources.chest_parts(data, ("thorax_cta", "heart_cta"))),
        "abdomen-mr": [sources.abdomen_mr(data)], "limb": list(sources.limbs(data)),
    }


def held_out_sources(data):
    """The same for volumes that training never sees."""
    brains = list(sources.brain_maps(data, (19, 20)))
    return {
        "brain": brains, "brain-ct": brains,
        "brain-real": list(sources.brain_scans(data, ("brain-t1/colin27_t1", "brain-t1/fs_subject_t1", "brain-lesions/pgbm_001_t1_t1post",
                                                      "brain-lesions/pgbm_003_t2_t1post", "brain-lesions/pgbm_006_t1_t1post"))),
        "headneck": list(sources.headneck(data, test=True)), "chest": list(sources.chest(data, ("chest-ct/pyradiomics_lung2",))),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--counts", help="scans of each kind instead of the usual, as in torso:900,brain:500")
    parser.add_argument("--wide", type=float, default=WIDE, help="share of scans with much air around")
    parser.add_argument("--cube", type=float, default=0.0, help="share of brains that lie extracted in a cube of air")
    parser.add_argument("--held-out", action="store_true")
    arguments = parser.parse_args()
    found = (held_out_sources if arguments.held_out else training_sources)(arguments.data)
    painter, scans, started = Painter(arguments.seed), [], time.process_time()
    painter.wide, painter.cube = arguments.wide, arguments.cube
    counts = {k: int(n) for k, n in (c.split(":") for c in arguments.counts.split(","))} if arguments.counts else COUNTS
    for kind, count in counts.items():
        if kind not in found:
            continue
        for i in range(round(count * arguments.scale)):
            scans.append(painter.scan(found[kind][int(painter.random.integers(len(found[kind])))], kind))
        print(f"{kind}: {len(scans)} scans, {time.process_time() - started:.0f} CPU s", flush=True)
    save(arguments.out, scans)


def save(path, scans):
    """views (n, 4, 128, 128) u8; dense (n, 4, 16, concepts) packed bits; seen (n, 4, concepts); centre, share (n, concepts)."""
    stack = lambda key: np.stack([s[key] for s in scans])
    np.savez(path, views=stack("views"), dense=np.packbits(stack("dense"), axis=-1), seen=stack("seen"), centre=stack("centre"),
             share=stack("share"), names=np.array([f"{s['kind']}/{s['name']}" for s in scans]),
             regions=np.array([s["region"] for s in scans]), modalities=np.array([s["modality"] for s in scans]))


if __name__ == "__main__":
    main()
