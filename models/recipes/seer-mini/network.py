"""Text-promptable 3-D segmenter of the VoxTell family, small.

A U-Net gives features at four scales; text embeddings query the coarse ones by cross-attention and become one mask
vector per prompt and scale; a mask is the dot product of vector and features, summed over the scales. The three
parts are exported as three graphs (export_bundle.py): the image is encoded once per patch for any number of prompts.

Shapes: image (1, 1, Z, Y, X); text_embedding (1, N, E); logits (1, N, Z, Y, X). Z, Y, X are multiples of 16.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from convolution import Convolution

CHANNELS = (16, 32, 64, 128, 192)
FULL_CHANNELS = 16  # of the finest features
WIDTH, HEADS, LAYERS = 192, 6, 3


def convolution(channels_in, channels_out, stride=1):
    return nn.Sequential(Convolution(channels_in, channels_out, stride),
                         nn.InstanceNorm3d(channels_out, affine=True), nn.LeakyReLU(0.01, inplace=True))


def two_convolutions(channels_in, channels_out, stride=1):
    return nn.Sequential(convolution(channels_in, channels_out, stride), convolution(channels_out, channels_out))


def sinusoidal_positions(shape):
    """(tokens, WIDTH): sine and cosine of the position of each token as a fraction of the patch, z y x in turn."""
    frequencies = 2 ** torch.arange(WIDTH // 6).div(WIDTH // 6 / 6).float() * math.pi / 2
    axes = [(torch.arange(n) + 0.5) / n for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)
    angles = (grid[..., None] - 0.5) * frequencies
    return torch.cat((angles.sin(), angles.cos()), -1).flatten(1)


class ImageEncoder(nn.Module):
    """image -> features_1 (full), features_2 (1/2), features_4 (1/4), features_8 (1/8 resolution)."""

    def __init__(self):
        super().__init__()
        c = CHANNELS
        self.down0 = convolution(1, c[0])
        self.down = nn.ModuleList(two_convolutions(c[i], c[i + 1], 2) for i in range(4))
        self.grow = nn.ModuleList(nn.ConvTranspose3d(c[i + 1], c[i], 2, 2) for i in range(4))
        self.up = nn.ModuleList([convolution(2 * c[0], FULL_CHANNELS)] +
                                [two_convolutions(2 * c[i], c[i]) for i in range(1, 4)])

    def forward(self, image):
        levels = [self.down0(image)]
        for block in self.down:
            levels.append(block(levels[-1]))
        x, features = levels[4], []
        for i in (3, 2, 1, 0):
            x = self.up[i](torch.cat((self.grow[i](x), levels[i]), 1))
            features.insert(0, x)
        return tuple(features)


class CrossAttention(nn.Module):
    """One layer: prompts look at image tokens; prompts do not see each other."""

    def __init__(self):
        super().__init__()
        self.norm, self.norm_feed = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.feed = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, prompts, keys, values):
        split = lambda x: x.unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2)
        q, k, v = split(self.query(self.norm(prompts))), split(self.key(keys)), split(self.value(values))
        weights = torch.softmax(q @ k.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5, -1)
        prompts = prompts + self.out((weights @ v).transpose(1, 2).flatten(2))
        return prompts + self.feed(self.norm_feed(prompts))


class PromptDecoder(nn.Module):
    """features_8, text_embedding -> mask_embedding_1, _2, _4 (the last number of each is a bias)."""

    def __init__(self, embedding_size):
        super().__init__()
        self.text = nn.Sequential(nn.Linear(embedding_size, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.memory = nn.Sequential(nn.Linear(CHANNELS[3], WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.layers = nn.ModuleList(CrossAttention() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, c + 1) for c in (FULL_CHANNELS, CHANNELS[1], CHANNELS[2]))

    def forward(self, features_8, text_embedding):
        positions = sinusoidal_positions([int(n) for n in features_8.shape[2:]]).to(features_8)
        memory = self.memory(features_8.flatten(2).transpose(1, 2))
        prompts, keys = self.text(text_embedding), memory + positions
        for layer in self.layers:
            prompts = layer(prompts, keys, memory)
        prompts = self.norm(prompts)
        return tuple(head(prompts) for head in self.heads)


class MaskDecoder(nn.Module):
    """Features and mask embeddings of three scales -> logits. Has no weights."""

    def forward(self, features_1, features_2, features_4, mask_embedding_1, mask_embedding_2, mask_embedding_4):
        logits = None
        for features, embedding in ((features_4, mask_embedding_4), (features_2, mask_embedding_2),
                                    (features_1, mask_embedding_1)):
            here = self.project(features, embedding)
            logits = here if logits is None else here + F.interpolate(
                logits, scale_factor=2.0, mode="trilinear", align_corners=False)
        return logits

    @staticmethod
    def project(features, embedding):
        channels, shape = features.shape[1], features.shape[2:]
        weights, bias = embedding[..., :-1], embedding[..., -1:]
        return (weights @ features.flatten(2) * channels ** -0.5 + bias).unflatten(2, shape)


class Segmenter(nn.Module):
    """The three parts in a row; training uses the features as well."""

    def __init__(self, embedding_size):
        super().__init__()
        self.image_encoder = ImageEncoder()
        self.prompt_decoder = PromptDecoder(embedding_size)
        self.mask_decoder = MaskDecoder()

    def forward(self, image, text_embedding):
        features = self.image_encoder(image)
        return self.mask_decoder(*features[:3], *self.prompt_decoder(features[3], text_embedding))
