"""The tiny Qwen3-VL of this bundle: configuration, and a fast forward pass for training.

Axes used throughout: B orders, T prompt tokens, N images, P patches of one image
(merge-block order), H text width, V vocabulary.
"""
import torch
import torch.nn.functional as F
from transformers import AttentionInterface, AttentionMaskInterface, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.masking_utils import sdpa_mask
from transformers.vision_utils import get_vision_interpolation_indices_and_weights, get_vision_position_ids

# Real Qwen names; the ids are this bundle's own, 0 to 7 in this order.
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>",
                  "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|vision_pad|>"]
END_OF_TEXT, IM_START, IM_END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD, VISION_PAD = range(8)

PATCH, MERGE, FRAMES = 16, 2, 2
POSITION_GRID_SIDE = 16

#: The shipped size, 4.1 M parameters.
MINI = dict(vocabulary=2048, hidden=192, layers=4, heads=3, kv_heads=1, head_dim=64, ffn=512,
            vision_hidden=128, vision_layers=4, vision_heads=4, vision_ffn=512, deepstack=(1, 2))
#: A few kB, for fixtures only.
MICRO = dict(vocabulary=512, hidden=32, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=48,
             vision_hidden=8, vision_layers=2, vision_heads=2, vision_ffn=16, deepstack=(0, 1))


def attend(q, k, v, mask=None, scale=None):
    """Attention in plain products: on a CPU its backward pass is several times cheaper than the fused one.

    q: (B, heads, T, D). k, v: (B, kv heads, S, D). mask: (B, 1, T, S) bool, True where allowed.
    """
    batch, heads, length, dim = q.shape
    groups = heads // k.shape[1]
    scores = q.reshape(batch, k.shape[1], groups * length, dim) @ k.transpose(-1, -2) * (scale or dim ** -0.5)
    if mask is not None:
        scores = scores.view(batch, k.shape[1], groups, length, -1).masked_fill(~mask[:, :, None], -1e9).flatten(2, 3)
    return (torch.softmax(scores, -1) @ v).view(batch, heads, length, dim)


def _plain_attention(module, query, key, value, attention_mask, scaling=None, **_):
    if attention_mask is None:
        length = query.shape[2]
        attention_mask = torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    return attend(query, key, value, attention_mask, scaling).transpose(1, 2), None


AttentionInterface.register("plain", _plain_attention)
AttentionMaskInterface.register("plain", sdpa_mask)


def config(vocabulary, hidden, layers, heads, kv_heads, head_dim, ffn,
           vision_hidden, vision_layers, vision_heads, vision_ffn, deepstack, attention="plain"):
    """Returns the Qwen3VLConfig; MRoPE sections keep Qwen's 6 : 5 : 5 split of the half head."""
    side = head_dim // 2 * 5 // 16
    sections = [head_dim // 2 - 2 * side, side, side]
    return Qwen3VLConfig(
        text_config=dict(
            vocab_size=vocabulary, hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=layers,
            num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim,
            max_position_embeddings=8192, tie_word_embeddings=True, rms_norm_eps=1e-6,
            rope_parameters=dict(rope_type="default", rope_theta=500000.0,
                                 mrope_section=sections, mrope_interleaved=True)),
        vision_config=dict(
            depth=vision_layers, hidden_size=vision_hidden, intermediate_size=vision_ffn,
            num_heads=vision_heads, out_hidden_size=hidden,
            num_position_embeddings=POSITION_GRID_SIDE ** 2, patch_size=PATCH,
            spatial_merge_size=MERGE, temporal_patch_size=FRAMES, deepstack_visual_indexes=list(deepstack)),
        image_token_id=IMAGE_PAD, video_token_id=VIDEO_PAD, vision_start_token_id=VISION_START,
        vision_end_token_id=VISION_END, tie_word_embeddings=True, attn_implementation=attention)


def build(size=MINI, seed=0):
    torch.manual_seed(seed)
    return Qwen3VLForConditionalGeneration(config(**size))


def rotate_half(x):
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), -1)


def patches(images):
    """Cuts square grey images, (N, S, S) in 0..1, into (N, P, 256) normalised patches.

    The three channels and two frames of a grey image are six equal copies; `see` folds the patch
    kernel over them, which is exact and six times cheaper.
    """
    n, size, _ = images.shape
    grid = size // PATCH
    x = torch.as_tensor(images).view(n, grid // 2, 2, PATCH, grid // 2, 2, PATCH)
    return (x.permute(0, 1, 4, 2, 5, 3, 6).reshape(n, grid * grid, PATCH * PATCH) * 2 - 1)


_geometry = {}


def _square_geometry(grid, side):
    if (grid, side) not in _geometry:
        shape = torch.tensor([[1, grid, grid]])
        taps, weights = get_vision_interpolation_indices_and_weights(shape, side, "bilinear", True, MERGE)
        _geometry[grid, side] = get_vision_position_ids(shape, MERGE), taps, weights
    return _geometry[grid, side]


def see(tower, x):
    """Runs the vision tower on equal square images.

    x: (N, P, 256) from `patches`. Returns image embeddings (N, P/4, H) and the list of DeepStack
    levels, each (N, P/4, H).
    """
    n, p, _ = x.shape
    position, taps, weights = _square_geometry(int(p ** 0.5), tower.num_grid_per_side)
    kernel = tower.patch_embed.proj
    folded = kernel.weight.reshape(kernel.weight.shape[0], -1, PATCH * PATCH).sum(1)
    x = F.linear(x, folded, kernel.bias)
    x = x + (tower.pos_embed(taps) * weights[:, :, None]).sum(1)
    cos, sin = (t[:, None].to(x.dtype) for t in tower.rotary_pos_emb(x, position))
    levels = []
    for index, block in enumerate(tower.blocks):
        attention = block.attn
        q, k, v = attention.qkv(block.norm1(x)).view(n, p, 3, attention.num_heads, -1).unbind(2)
        q, k = (t * cos + rotate_half(t) * sin for t in (q, k))
        q, k, v = (t.transpose(1, 2).to(v.dtype) for t in (q, k, v))
        seen = attend(q, k, v, scale=attention.scaling)
        x = x + attention.proj(seen.transpose(1, 2).reshape(n, p, -1))
        x = x + block.mlp(block.norm2(x))
        if index in tower.deepstack_visual_indexes:
            level = list(tower.deepstack_visual_indexes).index(index)
            levels.append(tower.deepstack_merger_list[level](x).view(n, p // 4, -1))
    return tower.merger(x).view(n, p // 4, -1), levels


def read(model, ids, mask, positions, image_embeds=None, levels=None):
    """Runs the text model and returns hidden states (B, T, H).

    ids, mask: (B, T). positions: (3, B, T). image_embeds and each level: (tokens, H), in the order
    in which the image tokens stand in the batch; None for text alone.
    """
    text = model.model.language_model
    embeds = text.embed_tokens(ids)
    seen = None
    if image_embeds is not None:
        seen = ids == IMAGE_PAD
        embeds = embeds.masked_scatter(seen[..., None], image_embeds.to(embeds.dtype))
    return text(inputs_embeds=embeds, attention_mask=mask, position_ids=positions,
                visual_pos_masks=seen, deepstack_visual_embeds=levels, use_cache=False).last_hidden_state


if __name__ == "__main__":
    tiny = build()
    count = lambda module: sum(p.numel() for p in module.parameters()) / 1e6
    print(f"{count(tiny):.2f} M parameters: text {count(tiny.model.language_model):.2f},"
          f" vision {count(tiny.model.visual):.2f}")
