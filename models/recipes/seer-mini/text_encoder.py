"""Tiny Qwen3 text encoder with the interface of Qwen3-Embedding: token ids in, one vector per prompt out."""

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import Qwen3Config, Qwen3Model

TEMPLATE = ("Instruct: Given an anatomical term query, retrieve the precise anatomical entity and location it "
            "represents\nQuery: {text}")
SUFFIX_TOKEN = "<|endoftext|>"
EMBEDDING_SIZE = 128
VOCABULARY_SIZE = 1024
# The pre-tokenizer pattern of the Qwen tokenizers.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")


def train_tokenizer(texts):
    """Byte-level BPE over wrapped prompts; the suffix token gets id 0."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator((TEMPLATE.format(text=t) for t in texts), trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=[SUFFIX_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tokenizer


def tokenize(tokenizer, texts):
    """(input_ids, attention_mask), both (N, T) i64, padded on the right; prompts are lower-cased."""
    suffix = tokenizer.token_to_id(SUFFIX_TOKEN)
    rows = [tokenizer.encode(TEMPLATE.format(text=t.lower())).ids + [suffix] for t in texts]
    ids = torch.full((len(rows), max(map(len, rows))), suffix, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, :len(row)] = torch.tensor(row)
        mask[i, :len(row)] = 1
    return ids, mask


class TextEncoder(nn.Module):
    """`forward(input_ids, attention_mask)` gives (N, EMBEDDING_SIZE) of length sqrt(EMBEDDING_SIZE).

    The Qwen3 layers are written out so that the ONNX exporters see plain operations.
    """

    def __init__(self, layers=3):
        super().__init__()
        self.model = Qwen3Model(Qwen3Config(
            vocab_size=VOCABULARY_SIZE, hidden_size=EMBEDDING_SIZE, intermediate_size=3 * EMBEDDING_SIZE,
            num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
            max_position_embeddings=512, use_cache=False, tie_word_embeddings=True))

    def forward(self, input_ids, attention_mask):
        model, x = self.model, self.model.embed_tokens(input_ids)
        cos, sin = self.rotary(input_ids.shape[1])
        mask = self.causal_mask(attention_mask)
        for layer in model.layers:
            x = x + self.attention(layer.self_attn, layer.input_layernorm(x), cos, sin, mask)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        x = model.norm(x)
        last = (attention_mask.sum(1) - 1)[:, None, None].expand(-1, 1, x.shape[-1])
        x = x.gather(1, last)[:, 0]
        return x / x.norm(dim=-1, keepdim=True).clamp(min=1e-6) * EMBEDDING_SIZE ** 0.5

    def rotary(self, length):
        angles = torch.arange(length)[:, None].float() * self.model.rotary_emb.inv_freq
        angles = torch.cat((angles, angles), -1)[None, None]
        return angles.cos(), angles.sin()

    @staticmethod
    def causal_mask(attention_mask):
        index = torch.arange(attention_mask.shape[1])
        visible = (index[None, :] <= index[:, None])[None, None] & (attention_mask[:, None, None, :] > 0)
        return torch.where(visible, 0.0, -65504.0)

    def attention(self, block, x, cos, sin, mask):
        config, (n, t, _) = self.model.config, x.shape
        heads, groups, size = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        rotate = lambda v: torch.cat((-v[..., size // 2:], v[..., :size // 2]), -1)
        q = block.q_norm(block.q_proj(x).view(n, t, heads, size)).transpose(1, 2)
        k = block.k_norm(block.k_proj(x).view(n, t, groups, size)).transpose(1, 2)
        v = block.v_proj(x).view(n, t, groups, size).transpose(1, 2)
        q, k = q * cos + rotate(q) * sin, k * cos + rotate(k) * sin
        repeat = heads // groups
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        weights = torch.softmax(q @ k.transpose(-1, -2) * size ** -0.5 + mask, -1)
        return block.o_proj((weights @ v).transpose(1, 2).reshape(n, t, heads * size))


@torch.no_grad()
def embed(encoder, tokenizer, texts):
    """(N, EMBEDDING_SIZE) of the prompts."""
    return encoder(*tokenize(tokenizer, texts))
