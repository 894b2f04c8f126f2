"""Random training patches: (image, labels) at a given spacing from label maps (brain MR) and CT volumes.

Arrays are [z, y, x] = (superior, anterior, right), lengths in millimetres. A patch voxel is mapped to the source by a
random rotation, scale, shear, shift and smooth displacement; mirrored patches (x) have their sided labels swapped.
Torso and chest are not mirrored: liver, heart and stomach tell the sides, and a mirrored one teaches that they do not.
All randomness comes from one torch generator.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

CT_CLIP, CT_STD = 1000.0, 300.0
FINDINGS_SHARE = 0.3
KNOWN_FINDINGS = ("brain tumour", "brain metastases", "brain lesion", "brain oedema")

# OpenKBP values (left, right), swapped by mirroring.
HEADNECK_PAIRS = [(4, 3)]
# FreeSurfer values of the left and right hemisphere.
BRAIN_PAIRS = [(2, 41), (3, 42), (4, 43), (5, 44), (7, 46), (8, 47), (10, 49), (11, 50), (12, 51), (13, 52), (17, 53),
               (18, 54), (25, 57), (26, 58), (28, 60), (30, 62), (136, 163), (137, 164)]
ONE_HANDED = ("torso", "chest")
EXTRACEREBRAL = 500  # values from here on lie outside the brain
FLUID = {4, 5, 14, 15, 24, 72, 43, 44, 136, 137, 163, 164}
# Mean intensity of T1-weighted scans, white matter 0.8; left values stand for both sides.
T1_MEANS = {2: 0.80, 3: 0.52, 7: 0.78, 8: 0.54, 10: 0.66, 11: 0.56, 12: 0.60, 13: 0.73, 16: 0.74, 17: 0.54, 18: 0.53,
            25: 0.60, 26: 0.56, 28: 0.71, 30: 0.4, 85: 0.66}
# Organs whose enhancement varies between scans: (TotalSegmentator values, standard deviation in HU).
ENHANCEMENT = [((5,), 25), ((1,), 30), ((2, 3), 60), ((52, 65, 66), 80), ((63, 67, 68), 50), ((64,), 50),
               ((6,), 40), ((21,), 30), ((7,), 20), ((18, 19, 20), 25)]


@dataclass
class Volume:
    """A source volume; `labels` u8, `image` HU or None; `contoured` lists the values that were looked for."""

    kind: str  # brain | headneck | torso | chest | lesion
    labels: torch.Tensor
    spacing: torch.Tensor
    image: torch.Tensor = None
    contoured: tuple = ()
    positions: dict = field(default_factory=dict)  # label value -> some voxel indices, (k, 3)


@dataclass
class Patch:
    """image (Z, Y, X) normalised; labels (Z, Y, X) u8 long, 0 where there is nothing or no image."""

    kind: str
    image: torch.Tensor
    labels: torch.Tensor
    contoured: tuple
    findings: dict = field(default_factory=dict)  # concept name -> bool mask of what was inserted


def load_volumes(cache, kind):
    """All training volumes of one kind from the cache of prepare_data.py."""
    found = []
    for path in sorted(Path(cache).glob(f"{kind}*.npz")):
        if kind == "brain" and path.stem in ("brain_19", "brain_20"):
            continue
        found.append(load_volume(path, kind))
    return found


def load_volume(path, kind):
    data = np.load(path)
    labels = torch.from_numpy(data["labels"])
    spacing = torch.from_numpy(data["spacing_mm"]) if "spacing_mm" in data else torch.ones(3)
    image = torch.from_numpy(data["ct"]) if "ct" in data else None
    contoured = tuple(data["contoured"].tolist()) if "contoured" in data else ()
    volume = Volume(kind, labels, spacing, image, contoured)
    labels = data["labels"].reshape(-1)
    order = np.argsort(labels, kind="stable")  # radix sort: fast for u8
    values, starts = np.unique(labels[order], return_index=True)
    for value, start, stop in zip(values, starts, [*starts[1:], len(order)]):
        if value:
            flat = order[start:stop:max(1, (stop - start) // 200)]
            volume.positions[int(value)] = torch.from_numpy(np.stack(np.unravel_index(flat, volume.labels.shape), -1))
    return volume


class Sampler:
    """Draws patches. `brain_ids` are the FreeSurfer values behind the compact brain labels."""

    def __init__(self, cache, size, spacing_mm, seed, kinds=("brain", "headneck", "torso", "chest", "lesion")):
        self.size, self.spacing_mm = size, spacing_mm
        self.random = torch.Generator().manual_seed(seed)
        self.brain_ids = np.load(Path(cache) / "brain_ids.npy")
        self.volumes = {kind: load_volumes(cache, kind) for kind in kinds}
        self.swap = {"brain": self.brain_swap(), "headneck": swap_table(HEADNECK_PAIRS)}
        ids = torch.from_numpy(self.brain_ids.astype(np.int64))
        self.in_brain = (ids > 0) & (ids < EXTRACEREBRAL)
        self.is_fluid = torch.tensor([int(i) in FLUID for i in ids])

    def brain_swap(self):
        compact = {int(v): i for i, v in enumerate(self.brain_ids)}
        return swap_table([(compact[a], compact[b]) for a, b in BRAIN_PAIRS if a in compact and b in compact])

    def uniform(self, low=0.0, high=1.0):
        return float(low + (high - low) * torch.rand(1, generator=self.random))

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.random)

    def chance(self, probability):
        return self.uniform() < probability

    def choice(self, items):
        return items[int(torch.randint(len(items), (1,), generator=self.random))]

    def draw(self, kind):
        volume = self.choice(self.volumes[kind])
        if kind == "brain":
            return self.draw_brain(volume)
        return self.draw_real(volume) if kind == "lesion" else self.draw_ct(volume)

    # Geometry

    def grid(self, volume, centre_mm, rotate, scale, elastic_mm):
        """Source voxel coordinates (Z, Y, X, 3) of the patch voxels, and whether it is mirrored."""
        axes = [(torch.arange(n) - (n - 1) / 2) * self.spacing_mm for n in self.size]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        angles = (torch.rand(3, generator=self.random) - 0.5) * 2 * rotate
        factors = 1 + (torch.rand(3, generator=self.random) - 0.5) * 2 * scale
        factors = factors * self.uniform(1 - scale / 2, 1 + scale / 2)
        shear = (torch.rand(3, generator=self.random) - 0.5) * 0.16
        matrix = rotation(angles) @ torch.diag(factors) @ torch.tensor(
            [[1, shear[0], shear[1]], [0, 1, shear[2]], [0, 0, 1]])
        knots = int(torch.randint(4, 8, (1,), generator=self.random))
        bumps = self.normal(1, 3, knots, knots, knots) * (elastic_mm * self.uniform())
        bumps = F.interpolate(bumps, size=self.size, mode="trilinear", align_corners=True)[0].permute(1, 2, 3, 0)
        mirrored = volume.kind not in ONE_HANDED and self.chance(0.5)
        if mirrored:
            points = points * torch.tensor([1.0, 1.0, -1.0])
        points = points @ matrix.T + bumps + centre_mm
        centre = torch.tensor([(n - 1) / 2 for n in volume.labels.shape])
        return points / volume.spacing + centre, mirrored

    def centre_of(self, volume, value, jitter_mm):
        """A point of a label, in mm from the volume's centre, moved at random."""
        spots = volume.positions[value]
        index = spots[int(torch.randint(len(spots), (1,), generator=self.random))].float()
        middle = torch.tensor([(n - 1) / 2 for n in volume.labels.shape])
        return (index - middle) * volume.spacing + (torch.rand(3, generator=self.random) - 0.5) * 2 * jitter_mm

    # Field of view and normalisation

    def field_of_view(self, occupied):
        """Box mask of where the image exists: the occupied part, everything, or a random cut of either."""
        low, high = [0, 0, 0], list(self.size)
        if self.chance(0.6) and occupied.any():
            for axis in range(3):
                along = occupied.any(dim=tuple(a for a in range(3) if a != axis)).nonzero()
                low[axis], high[axis] = int(along[0]), int(along[-1]) + 1
        if self.chance(0.3):
            axis = self.choice((0, 0, 1, 2))
            length = high[axis] - low[axis]
            keep = max(8, round(length * self.uniform(0.25 if axis == 0 else 0.5, 1.0)))
            start = low[axis] + round((length - keep) * self.uniform()) if length > keep else low[axis]
            low[axis], high[axis] = start, min(high[axis], start + keep)
        box = torch.zeros(self.size, dtype=torch.bool)
        box[low[0]:high[0], low[1]:high[1], low[2]:high[2]] = True
        return box

    def degrade(self, image):
        """Thick slices along one axis, now and then."""
        if not self.chance(0.2):
            return image
        size, axis = list(self.size), self.choice((0, 1, 2))
        size[axis] = max(8, int(size[axis] / self.uniform(1.3, 2.5)))
        coarse = F.interpolate(image[None, None], size=size, mode="trilinear")
        return F.interpolate(coarse, size=self.size, mode="trilinear")[0, 0]

    # Brain

    def draw_brain(self, volume):
        stripped = self.chance(0.65)
        if self.chance(0.85):  # a tile near the middle of the brain; brain-only scans are cut to the brain
            centre = self.centre_of(volume, self.choice(self.central_values()), 14 if stripped else 32)
        else:
            centre = self.centre_of(volume, self.choice(list(volume.positions)), 50)
        points, mirrored = self.grid(volume, centre, rotate=0.26, scale=0.15, elastic_mm=4.0)
        labels = sample_nearest(volume.labels, points)
        findings = self.insert(labels) if self.chance(FINDINGS_SHARE) else {}
        image = self.synthesise(labels, findings)  # before swapping: both sides share their contrast
        if mirrored:
            labels = self.swap["brain"][labels]
        if stripped:
            keep = self.in_brain[labels] & (~self.is_fluid[labels] | self.chance(0.6))
            image = image * keep
        image = self.degrade(image)
        box = self.field_of_view(keep if stripped else labels > 0)
        values = image[box]
        image = (image - values.mean()) / (values.std() + 1e-6)
        image = image * self.uniform(0.8, 1.25) + 0.15 * float(self.normal(1))
        return Patch("brain", image * box, labels * box, (), {n: m & box for n, m in findings.items() if n in KNOWN_FINDINGS})

    def central_values(self):
        if not hasattr(self, "_central"):
            compact = {int(v): i for i, v in enumerate(self.brain_ids)}
            self._central = [compact[v] for v in (10, 49, 28, 60, 13, 52, 16)]
        return self._central

    # Findings in the brain

    def blob(self, centre, radius_mm):
        """Soft ball with a bumpy surface: (signed distance in mm, negative inside), over the patch."""
        axes = [torch.arange(n).float() - float(c) for n, c in zip(self.size, centre)]
        stretch = [self.uniform(0.75, 1.3) for _ in range(3)]
        z, y, x = torch.meshgrid(*[a * self.spacing_mm / k for a, k in zip(axes, stretch)], indexing="ij")
        bumps = F.interpolate(self.normal(1, 1, 6, 6, 6), size=self.size, mode="trilinear", align_corners=True)[0, 0]
        return (z * z + y * y + x * x).sqrt() + bumps * 0.3 * radius_mm - radius_mm

    def insert(self, labels):
        """Masks of a tumour with core, rim and oedema, of several metastases, or of small white-matter lesions."""
        brain = self.in_brain[labels]
        spots = brain.nonzero()
        if len(spots) < 4000:
            return {}
        nothing = torch.zeros(self.size, dtype=torch.bool)
        kind = self.choice(("tumour", "tumour", "metastases", "metastases", "small"))
        count = {"tumour": 1, "metastases": int(self.uniform(1, 7)), "small": int(self.uniform(4, 22))}[kind]
        low, high = {"tumour": (7, 26), "metastases": (3.5, 10), "small": (2.5, 6)}[kind]
        solid, core, halo = nothing.clone(), nothing.clone(), nothing.clone()
        white = torch.isin(labels, self.white_matter()).nonzero() if kind == "small" else spots
        cored, swollen = self.chance(0.55), kind != "small" and self.chance(0.6)
        for _ in range(count if len(white) else 0):
            radius = self.uniform(low, high)
            distance = self.blob(white[int(torch.randint(len(white), (1,), generator=self.random))], radius)
            solid |= (distance < 0) & brain
            if cored and radius > 6:
                core |= distance < -self.uniform(2.5, 0.55 * radius)
            if swollen and self.chance(0.8):
                halo |= (distance < self.uniform(3, 16)) & brain
        found = {"brain lesion": solid, "brain oedema": halo & ~solid, "core": core & solid}
        if kind != "small":
            found["brain tumour"] = solid
            found["brain metastases"] = solid if kind == "metastases" else nothing
        else:
            found["brain tumour"], found["brain metastases"] = nothing, nothing
        return found

    def white_matter(self):
        return torch.tensor([i for i, v in enumerate(self.brain_ids.tolist()) if v in (2, 41)])

    def paint(self, image, findings, means):
        """Rim brighter or darker than white matter, core darker; oedema dark as on T1 or bright as on FLAIR."""
        white = float(means[self.white_matter()[0]])
        bright = self.chance(0.75)
        rim = white * self.uniform(1.15, 2.0) + 0.1 if bright else white * self.uniform(0.3, 0.75)
        texture = self.uniform(0, 0.12) * self.normal(*image.shape)
        halo = white * (self.uniform(0.5, 0.85) if self.chance(0.6) else self.uniform(1.15, 1.6))
        image = torch.where(findings["brain oedema"], halo + texture, image)
        image = torch.where(findings["brain lesion"], rim + texture, image)
        return torch.where(findings["core"], white * self.uniform(0.2, 0.7) + texture, image)

    def draw_real(self, volume):
        """A patch of a real MR: values 1 tumour, 2 other lesion, 3 the rest of the brain where it is known."""
        values = [v for v in volume.positions if v < 3 or self.chance(0.3)] or list(volume.positions)
        points, mirrored = self.grid(volume, self.centre_of(volume, self.choice(values), 35), 0.22, 0.15, 3.0)
        labels = sample_nearest(volume.labels, points)
        image, inside = sample_linear(volume.image, points, outside=0.0)
        image = image.clamp(min=0) / max(1.0, float(volume.image[volume.image > 0].float().quantile(0.98)))
        field_ = F.interpolate(self.normal(1, 1, 4, 4, 4) * self.uniform(0, 0.2), size=self.size, mode="trilinear",
                               align_corners=True)[0, 0]
        image = image ** self.uniform(0.75, 1.35) * field_.exp()
        image = self.degrade(image + (image > 0) * self.uniform(0, 0.04) * self.normal(*labels.shape))
        box = self.field_of_view(inside & (image > 0.02))
        picked = image[box]
        image = (image - picked.mean()) / (picked.std() + 1e-6)
        return Patch("lesion", image * box, labels * box, volume.contoured)

    def synthesise(self, labels, findings=None):
        """Image with one random mean and spread per tissue (SynthSeg), most of the time T1-like."""
        means, spreads = self.tissue_means(), torch.rand(len(self.brain_ids), generator=self.random) * 0.10
        if self.chance(0.85):
            means[0], spreads[0] = self.uniform(0, 0.04), 0.02
        image = means[labels] + spreads[labels] * self.normal(*labels.shape)
        if findings:
            image = self.paint(image, findings, means)
        image = blur(image, self.uniform(0.3, 0.8))
        field_ = F.interpolate(self.normal(1, 1, 4, 4, 4) * self.uniform(0, 0.3), size=self.size, mode="trilinear",
                               align_corners=True)[0, 0]
        image = image.clamp(min=0) ** self.uniform(0.7, 1.4) * field_.exp()
        return image + self.uniform(0, 0.06) * self.normal(*labels.shape)

    def tissue_means(self):
        t1_like, inverted = self.chance(0.7), self.chance(0.1)
        fluid = 0.15 + 0.08 * float(self.normal(1)) if t1_like else self.uniform()
        means = torch.zeros(len(self.brain_ids))
        partner = {b: a for a, b in BRAIN_PAIRS}
        drawn = {}
        for index, value in enumerate(self.brain_ids.tolist()):
            key = partner.get(value, value)
            if key not in drawn:
                if t1_like and key in T1_MEANS:
                    drawn[key] = T1_MEANS[key] + 0.045 * float(self.normal(1))
                elif key in FLUID:
                    drawn[key] = max(0.0, fluid + 0.04 * float(self.normal(1)))
                else:
                    drawn[key] = self.uniform(0, 1.1)
            means[index] = drawn[key]
        return 1.0 - means if inverted else means

    # CT

    def draw_ct(self, volume):
        value = self.choice(list(volume.positions))
        centre = self.centre_of(volume, value, 70 if volume.kind != "headneck" else 45)
        strong = volume.kind in ("torso", "chest")
        points, mirrored = self.grid(volume, centre, 0.22, 0.25 if strong else 0.15, 9.0 if strong else 4.0)
        labels = sample_nearest(volume.labels, points)
        image, inside = sample_linear(volume.image, points, outside=-1000.0)
        if volume.kind == "torso":
            image = self.enhance(image, labels)
        if self.chance(0.5):
            image = blur(image, self.uniform(0.3, 0.8))
        image = image * self.uniform(0.95, 1.05) + 12 * float(self.normal(1))
        image = self.degrade(image + self.uniform(0, 40) * self.normal(*labels.shape))
        if mirrored:
            labels = self.swap[volume.kind][labels]
        box = self.field_of_view(inside)
        image = image.clamp(-CT_CLIP, CT_CLIP) / CT_STD
        return Patch(volume.kind, image * box, labels * box, volume.contoured)

    def enhance(self, image, labels):
        """Another contrast phase: organs get their own offset."""
        if self.chance(0.7):
            offsets = torch.zeros(256)
            for values, spread in ENHANCEMENT:
                offsets[list(values)] += spread * float(self.normal(1))
            image = image + offsets[labels]
        return image


def swap_table(pairs):
    table = torch.arange(256)
    for a, b in pairs:
        table[a], table[b] = b, a
    return table


def rotation(angles):
    (ca, cb, cc), (sa, sb, sc) = torch.cos(angles).tolist(), torch.sin(angles).tolist()
    a = torch.tensor([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    b = torch.tensor([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    c = torch.tensor([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return a @ b @ c


def sample_nearest(volume, points):
    """Values at the nearest voxel, 0 outside; long."""
    index = points.round().long()
    inside, flat = torch.ones(points.shape[:3], dtype=torch.bool), 0
    for axis, n in enumerate(volume.shape):
        inside &= (index[..., axis] >= 0) & (index[..., axis] < n)
        flat = flat * n + index[..., axis].clamp(0, n - 1)
    return volume.reshape(-1)[flat].long() * inside


def sample_linear(volume, points, outside):
    """(values by trilinear interpolation with edge values repeated, inside); `outside` beyond the volume."""
    shape = torch.tensor(volume.shape)
    scaled = (2 * points / (shape - 1) - 1).flip(-1)[None]
    values = F.grid_sample(volume[None, None].float(), scaled, mode="bilinear", padding_mode="border",
                           align_corners=True)[0, 0]
    inside = ((points >= -0.5) & (points <= shape - 0.5)).all(-1)
    return torch.where(inside, values, torch.tensor(float(outside))), inside


def blur(image, sigma):
    """Gaussian blur, sigma in voxels."""
    radius = max(1, math.ceil(2.5 * sigma))
    offsets = torch.arange(-radius, radius + 1)
    kernel = torch.exp(-offsets ** 2 / (2 * sigma ** 2))
    kernel = kernel / kernel.sum()
    image = F.pad(image[None, None], (radius,) * 6, mode="replicate")
    for shape in ((-1, 1, 1), (1, -1, 1), (1, 1, -1)):
        image = F.conv3d(image, kernel.view(1, 1, *shape))
    return image[0, 0]
