"""Exports toy checkpoints of the real classes in every precision and checks what comes out.

    python -m unittest -v test_exporters          (from this folder)

With SEER_BINARY=path/to/seer the server itself verifies every bundle, as a user would. Without the package
`voxtell` the VoxTell tests are skipped.
"""
import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import tempfile
import tomllib
import unittest
import unittest.mock
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

import bundle
import export_qwen3_vl
import export_sam3
import export_volume_text_example
import tiny_checkpoints
import winograd
from checkpoint import Adapter, Checkpoint
from compare import compare, session
from onnx_writer import PRECISIONS, dequantise_int4, quantise_int4
from polyphase import Grow
from qwen3_reference import Reference, text_embedding

ROOT = Path(tempfile.mkdtemp(prefix="exporters-"))
BUNDLES = ROOT / "bundles"
HAS_VOXTELL = importlib.util.find_spec("voxtell") is not None


def setUpModule():
    torch.set_num_threads(1)
    BUNDLES.mkdir()
    setUpModule.model = tiny_checkpoints.qwen3_vl(ROOT / "qwen")


def tearDownModule():
    shutil.rmtree(ROOT)


def run(module, *arguments):
    """Runs an exporter; gives what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        module.export(module.parser().parse_args([str(a) for a in arguments]))
    return said.getvalue()


def export_qwen(name, *more, checkpoint=None):
    out = BUNDLES / name
    run(export_qwen3_vl, "--checkpoint", checkpoint or ROOT / "qwen", "--out", out, "--licence", "Apache-2.0", "--check-steps", 8, *more)
    return out


def manifest(folder):
    return tomllib.loads((folder / "manifest.toml").read_text())


def listed_files_are_there(test, folder):
    files = manifest(folder)["files"]
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - bundle.NOT_LISTED
    test.assertEqual({f["path"] for f in files}, found)
    for file in files:
        test.assertEqual(bundle.sha256(folder / file["path"]), file["sha256"])


def first_logits(folder, seed=1):
    """Logits of the decoder alone on random embeddings."""
    random, part = np.random.default_rng(seed), manifest(folder)["reasoner"]
    decoder = session(folder / part["decoder"])
    length, hidden = 11, part["hidden_size"]
    half = decoder.get_inputs()[4].type == "tensor(float16)"
    shape = (1, part["key_value_heads"], 0, part["head_dim"])
    past = {i.name: np.zeros(shape, np.float16 if half else np.float32) for i in decoder.get_inputs()[4:]}
    feed = {"inputs_embeds": random.standard_normal((1, length, hidden)).astype(np.float32) * 0.4,
            "attention_mask": np.ones((1, length), np.int64), "position_ids": np.tile(np.arange(length), (3, 1, 1)),
            "deepstack_embeds": random.standard_normal((part["deepstack_levels"], 1, length, hidden)).astype(np.float32)}
    return decoder.run(["logits"], {**feed, **past})[0]


class Qwen3Vl(unittest.TestCase):
    def test_every_precision_and_attention_agrees_with_pytorch(self):
        for precision in sorted(PRECISIONS):
            for attention in ("plain", "gqa"):
                with self.subTest(precision=precision, attention=attention):
                    folder = export_qwen(f"qwen-{precision}-{attention}", "--precision", precision, "--attention", attention)
                    listed_files_are_there(self, folder)
                    self.assertIn("logits after 8 cached steps", (folder / "CARD.md").read_text())

    def test_the_layerwise_reference_is_the_whole_model(self):
        checkpoint = Checkpoint(ROOT / "qwen", prefixes=("model.", ""))
        ids, pixels, grids = export_qwen3_vl.random_case(checkpoint.config(), 5)
        reference, model = Reference(checkpoint), setUpModule.model
        seen, deep = reference.see(pixels, grids)
        tokens = torch.tensor(ids)[None]
        at = tokens[0] == model.config.image_token_id
        embeds = reference.embed(ids)
        embeds[0, at] = seen
        deepstack = torch.zeros(len(deep), *embeds.shape)
        deepstack[:, 0, at] = deep
        found = reference.logits(embeds, reference.positions(ids, grids)[0], deepstack, 7)
        with torch.no_grad():
            expected = model(input_ids=tokens, pixel_values=torch.tensor(pixels), image_grid_thw=torch.tensor(grids),
                             mm_token_type_ids=at[None].int()).logits[0, -7:]
        self.assertLess(compare("logits", found, expected, 1).largest, 1e-4)

    def test_weights_lie_beside_the_graph_when_asked_and_the_answer_is_the_same(self):
        inside, beside = export_qwen("qwen-inside", "--precision", "fp32"), export_qwen("qwen-beside", "--precision", "fp32", "--external-data")
        self.assertFalse((inside / "reasoner/decoder.onnx.data").exists())
        self.assertGreater((beside / "reasoner/decoder.onnx.data").stat().st_size, 100_000)
        listed_files_are_there(self, beside)
        np.testing.assert_array_equal(first_logits(inside), first_logits(beside))

    def test_adapters_are_merged_as_peft_defines_them(self):
        for root_scale in (False, True):
            with self.subTest(root_scale=root_scale):
                plain = Checkpoint(ROOT / "qwen", prefixes=("model.", ""))
                changes = tiny_checkpoints.lora(ROOT / "lora", plain, root_scale=root_scale)
                merged = ROOT / "merged"
                shutil.copytree(ROOT / "qwen", merged, dirs_exist_ok=True)
                from safetensors.torch import load_file, save_file
                state = load_file(ROOT / "qwen/model.safetensors")
                for name, change in changes.items():
                    state[name] = state[name] + change
                save_file(state, merged / "model.safetensors", metadata={"format": "pt"})
                by_hand = export_qwen("qwen-by-hand", "--precision", "fp32", checkpoint=merged)
                by_adapter = export_qwen("qwen-by-adapter", "--precision", "fp32", "--adapter", ROOT / "lora")
                apart = compare("logits", first_logits(by_adapter), first_logits(by_hand), 1)
                self.assertLess(apart.relative, 1e-5)
                without = compare("logits", first_logits(export_qwen("qwen-plain", "--precision", "fp32")), first_logits(by_hand), 1)
                self.assertGreater(without.relative, 0.1)

    def test_an_adapter_that_fits_nothing_is_refused(self):
        from safetensors.torch import save_file
        folder = ROOT / "strange"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}))
        save_file({"base_model.model.model.vision.lora_A.weight": torch.zeros(1, 2), "base_model.model.model.vision.lora_B.weight": torch.zeros(2, 1)},
                  folder / "adapter_model.safetensors")
        with self.assertRaisesRegex(SystemExit, "model.vision.weight, which the checkpoint does not have"):
            Adapter(folder).resolve(Checkpoint(ROOT / "qwen", prefixes=("model.", "")))
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "use_dora": True}))
        with self.assertRaisesRegex(SystemExit, "not a plain LoRA"):
            Adapter(folder)

    def test_prompts_come_from_us_a_file_or_the_users_code(self):
        code = ROOT / "published.py"
        code.write_text('import nothing_that_exists\nDEFAULT_SYSTEM_PROMPT = ("one "\n  "two")\nDEFAULT_USER_PROMPT_NO_SKILL = "three\\nfour \\"5\\""\n'
                        'DEFAULT_USER_PROMPT_WITH_SKILL = "six"\nraise SystemExit("must not run")\n')
        texts = tomllib.loads((export_qwen("qwen-code", "--prompt-code", code, "--skip-check") / "reasoner/prompt.toml").read_text())
        self.assertEqual(texts, {"system": "one two", "user": 'three\nfour "5"', "user_with_skills": "six"})
        with self.assertRaisesRegex(SystemExit, "no constant OTHER"):
            export_qwen("qwen-code", "--prompt-code", code, "--prompt-names", "OTHER,A,B", "--skip-check")
        ours = tomllib.loads((export_qwen("qwen-ours", "--skip-check") / "reasoner/prompt.toml").read_text())
        self.assertIn("Segment the TARGET.", ours["system"])

    def test_incomplete_folders_are_refused_with_what_is_missing(self):
        for file, reason in (("tokenizer.json", "tokenizer.json is missing"), ("chat_template.jinja", "no chat template"),
                             ("model.safetensors", "no \\*.safetensors"), ("config.json", "config.json is missing")):
            broken = ROOT / "broken"
            shutil.copytree(ROOT / "qwen", broken, dirs_exist_ok=True)
            (broken / file).unlink()
            with self.subTest(file=file), self.assertRaisesRegex(SystemExit, reason):
                export_qwen("qwen-broken", "--skip-check", checkpoint=broken)
            shutil.rmtree(broken)

    def test_a_damaged_export_does_not_pass_the_check(self):
        folder = export_qwen("qwen-damaged", "--precision", "fp32", "--external-data", "--skip-check")
        self.assertIn("Not checked", (folder / "CARD.md").read_text())
        data = folder / "reasoner/decoder.onnx.data"
        weights = np.fromfile(data, np.float32)
        weights[: len(weights) // 8] *= 0.9
        weights.tofile(data)
        checkpoint = Checkpoint(ROOT / "qwen", prefixes=("model.", ""))
        checks, _ = export_qwen3_vl.check(checkpoint, checkpoint.config(), PRECISIONS["fp32"], folder / "reasoner", 3)
        self.assertFalse(all(c.ok for c in checks))
        shutil.rmtree(folder)


class Int4(unittest.TestCase):
    def test_a_weight_is_at_most_half_a_step_off(self):
        random = np.random.default_rng(0)
        for width, block in ((64, 32), (72, 32), (130, 64)):
            weight = random.standard_normal((9, width)).astype(np.float32)
            packed, scales, zeros = quantise_int4(weight, block)
            back = dequantise_int4(packed, scales, zeros, width)
            steps = np.repeat(scales, block, 1)[:, :width]
            self.assertLessEqual(float((np.abs(back - weight) / steps).max()), 0.51)


class Sam3(unittest.TestCase):
    def test_every_precision_agrees_with_transformers(self):
        tiny_checkpoints.sam3(ROOT / "sam3")
        for precision in sorted(export_sam3.LIMITS):
            with self.subTest(precision=precision):
                out = BUNDLES / f"sam3-{precision}"
                run(export_sam3, "--checkpoint", ROOT / "sam3", "--out", out, "--licence", "none", "--precision", precision)
                listed_files_are_there(self, out)
        out = BUNDLES / "sam3-beside"
        run(export_sam3, "--checkpoint", ROOT / "sam3", "--out", out, "--licence", "none", "--external-data")
        self.assertTrue((out / "backbone/image_encoder.onnx.data").exists())
        listed_files_are_there(self, out)


class Polyphase(unittest.TestCase):
    def test_one_convolution_gives_what_the_two_give(self):
        for stride, kernel, bias in (((2, 2, 2), (3, 3, 3), True), ((1, 2, 2), (1, 3, 3), True), ((2, 1, 3), (5, 3, 1), False),
                                     ((3, 3, 3), (3, 5, 7), True)):
            with self.subTest(stride=stride, kernel=kernel):
                transposed = torch.nn.ConvTranspose3d(5, 4, stride, stride, bias=bias)
                # Its other inputs are what a decoder adds to the fine voxels, from the same place of the image.
                conv = torch.nn.Conv3d(4 + 3, 6, kernel, padding=[n // 2 for n in kernel], bias=False)
                grow = Grow(transposed, conv)
                with torch.no_grad():
                    x = torch.randn(1, 5, 3, 4, 5)
                    fine = transposed(x)
                    expected = conv(torch.cat((fine, torch.zeros(1, 3, *fine.shape[2:])), 1))
                    biases = torch.nn.functional.conv3d(torch.ones_like(expected[:, :1]), grow.bias_weights(), padding=conv.padding)
                    by_phases = grow(x, grow.weights())
                    self.assertEqual(list(by_phases.shape[2:]), grow.shape_by_phases(list(fine.shape[2:])))
                    self.assertLess(float((grow.in_space(by_phases) + biases - expected).abs().max()), 1e-5)
                    self.assertTrue(torch.equal(grow.by_phases(grow.in_space(by_phases)), by_phases))

    def test_other_steps_are_refused(self):
        with self.assertRaisesRegex(SystemExit, "can not be made one convolution"):
            Grow(torch.nn.ConvTranspose3d(5, 4, 3, 2), torch.nn.Conv3d(4, 6, 3, padding=1))


class Winograd(unittest.TestCase):
    def test_it_gives_what_the_convolution_gives(self):
        for shape, bias in (((32, 5, 7), True), ((8, 6, 9), False), ((48, 3, 4), True)):
            with self.subTest(shape=shape):
                conv = torch.nn.Conv3d(6, 10, 3, padding=1, bias=bias)
                x = torch.randn(1, 6, *shape)
                net = torch.nn.Sequential(torch.nn.Sequential(torch.nn.ReLU(), conv))
                with torch.no_grad():
                    expected = net(x)
                    winograd.replace(net, x, 2, channels=(1, 128))
                    self.assertIsInstance(net[0][1], winograd.Winograd)
                    self.assertLess(compare("sums", net(x), expected, 2e-5).relative, 2e-5)

    def test_others_stay_as_they_are(self):
        x = torch.randn(1, 6, 12, 6, 6)
        for conv in (torch.nn.Conv3d(6, 6, 3, padding=1), torch.nn.Conv3d(6, 6, 3, stride=2, padding=1), torch.nn.Conv3d(6, 6, 1)):
            net = torch.nn.Sequential(conv)
            winograd.replace(net, x, 2, channels=(1, 128))
            self.assertIs(net[0], conv)


@unittest.skipUnless(HAS_VOXTELL, "SKIPPED: the package voxtell is not installed")
class VoxTell(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.network = tiny_checkpoints.voxtell(ROOT / "voxtell")
        tiny_checkpoints.qwen3_embedding(ROOT / "embedding")

    def export(self, name, *more):
        import export_voxtell
        run(export_voxtell, "--model", ROOT / "voxtell", "--out", BUNDLES / name, "--licence", "none", *more)
        listed_files_are_there(self, BUNDLES / name)
        return BUNDLES / name

    def test_every_precision_agrees_with_the_package(self):
        for precision, text in (("fp32", "fp32"), ("fp16", "fp16"), ("fp16-stored", "int4"), ("fp16-stored", "int4-fp16")):
            with self.subTest(precision=precision, text=text):
                self.export(f"voxtell-{precision}-{text}", "--text-encoder", ROOT / "embedding", "--precision", precision,
                            "--text-precision", text, "--winograd-channels", 1, 128)

    def test_the_dead_self_attention_is_left_out(self):
        import onnx
        graph = onnx.load(self.export("voxtell-fp32-slim", "--text-encoder", ROOT / "embedding", "--precision", "fp32")
                          / "backbone/prompt_decoder.onnx").graph
        stored = sum(int(np.prod(t.dims)) for t in graph.initializer)
        used = {n: p.numel() for n, p in self.network.named_parameters()
                if n.startswith(("project_", "transformer_decoder")) and "self_attn" not in n and ".norm1." not in n}
        dead = sum(p.numel() for n, p in self.network.named_parameters() if "self_attn" in n)
        self.assertGreater(dead, 1000)
        # Positions and a few shape constants come on top.
        self.assertLess(abs(stored - sum(used.values()) - self.network.pos_embed.numel()), 200)

    def test_a_bank_holds_what_the_text_encoder_gives(self):
        prompts = ROOT / "prompts.txt"
        prompts.write_text("Liver\nleft kidney\n\nleft kidney\n")
        folder = self.export("voxtell-bank", "--text-encoder", ROOT / "embedding", "--bank-prompts", prompts, "--text-precision", "fp32")
        with safe_open(folder / "backbone/text_bank.safetensors", "np") as file:
            self.assertEqual(json.loads(file.metadata()["prompts"]), ["liver", "left kidney"])
            bank = file.get_tensor("embeddings")
        import export_voxtell
        rows = export_voxtell.tokenize(folder / "backbone", ["liver", "left kidney"])[2]
        for vector, row in zip(bank, rows):
            expected = text_embedding(Checkpoint(ROOT / "embedding", prefixes=("", "model.")), row)
            self.assertLess(compare("bank", vector, expected, 1).relative, 1e-3)
        self.assertEqual(manifest(folder)["backbone"]["text_bank"], "backbone/text_bank.safetensors")

    def test_a_published_bank_can_stand_in_for_the_text_encoder(self):
        bank = ROOT / "bank.npz"
        np.savez(bank, labels=np.array(["Liver", "spleen"]), embeddings=np.ones((2, 48), np.float16))
        folder = self.export("voxtell-bank-only", "--bank", bank)
        self.assertNotIn("text_encoder", manifest(folder)["backbone"])
        np.savez(bank, labels=np.array(["liver"]), embeddings=np.ones((1, 47), np.float16))
        with self.assertRaisesRegex(SystemExit, "47 values"):
            self.export("voxtell-bank-wrong", "--bank", bank)
        shutil.rmtree(BUNDLES / "voxtell-bank-wrong")


class VolumeText(unittest.TestCase):
    def test_the_example_runs(self):
        with unittest.mock.patch("sys.argv", ["", "--out", str(BUNDLES / "volume-text")]), contextlib.redirect_stdout(io.StringIO()):
            export_volume_text_example.main()
        listed_files_are_there(self, BUNDLES / "volume-text")


class ZServer(unittest.TestCase):
    """Last by name: all bundles of the tests above are there."""

    def test_the_server_verifies_every_bundle(self):
        binary = os.environ.get("SEER_BINARY")
        if not binary:
            self.skipTest("SKIPPED: SEER_BINARY names no server")
        names = sorted(p.name for p in BUNDLES.iterdir() if (p / "manifest.toml").exists())
        self.assertGreater(len(names), 10)
        done = subprocess.run([binary, "models", "verify", *names], env={**os.environ, "SEER_MODELS__FOLDER": str(BUNDLES)},
                              capture_output=True, text=True)
        print(done.stdout[-4000:], done.stderr[-1000:])
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("FAILED", done.stdout)


if __name__ == "__main__":
    unittest.main()
