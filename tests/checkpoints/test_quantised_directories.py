"""Directories quantised by MLX, AWQ and GPTQ: their numbers against the definitions, and as whole models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.blocks import dequantise
from llmchat.checkpoints.checkpoint import Checkpoint
from llmchat.checkpoints.huggingface import load_huggingface
from llmchat.engine.native import weight_loader
from llmchat.engine.opening import open_engine
from llmchat.errors import ModelLoadError
from tests.conftest import DATA

SMALL = DATA / "architectures"
TOKENIZER = str(SMALL / "tokenizer")
IDS = [5, 17, 400, 33, 8, 250, 91]
AWQ_PLACES = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight numbers stands at each place of 32 bits, from the lowest."""
FOUR_BITS = (0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6)

Quantised = tuple[dict[str, torch.Tensor], NDArray[np.float64]]
"""A weight's tensors by the ends of their names, and its numbers by the definition."""

Quantise = Callable[[NDArray[np.float64], np.random.Generator], Quantised]


def words(rows: NDArray[Any], bits: int) -> torch.Tensor:
    """Whole numbers of some bits as one long number a row, in words of 32 bits from the lowest."""
    packed = [sum(int(one) << bits * at for at, one in enumerate(row)) for row in rows]
    data = b"".join(one.to_bytes(rows.shape[1] * bits // 8, "little") for one in packed)
    return torch.from_numpy(np.frombuffer(data, np.int32).reshape(len(rows), -1).copy())


def mlx(bits: int, group: int, dtype: torch.dtype = torch.bfloat16) -> Quantise:
    """MLX's affine numbers: weight = scale · number + bias."""

    def quantise(values: NDArray[np.float64], rng: np.random.Generator) -> Quantised:
        grouped = values.reshape(len(values), -1, group)
        biases = torch.from_numpy(grouped.min(axis=2)).to(dtype)
        steps = np.maximum((grouped.max(axis=2) - grouped.min(axis=2)) / (2**bits - 1), 1e-7)
        scales = torch.from_numpy(steps).to(dtype)
        scale, bias = (part.double().numpy()[..., None] for part in (scales, biases))
        numbers = np.clip(np.rint((grouped - bias) / scale), 0, 2**bits - 1)
        parts = {"weight": words(numbers.reshape(values.shape), bits).view(torch.uint32)}
        return parts | {"scales": scales, "biases": biases}, (scale * numbers + bias).reshape(values.shape)

    return quantise


def mlx_mxfp4(values: NDArray[np.float64], rng: np.random.Generator) -> Quantised:
    """MLX's blocks of MXFP4: a byte for the exponent of 32 numbers."""
    codes = rng.integers(0, 16, values.shape)
    exponents = rng.integers(121, 125, (len(values), values.shape[1] // 32))
    numbers = np.array(FOUR_BITS)[codes] * np.repeat(2.0 ** (exponents - 127), 32, axis=1)
    parts = {"weight": words(codes, 4).view(torch.uint32), "scales": torch.from_numpy(exponents.astype(np.uint8))}
    return parts, numbers


def zero_points(
    method: str, *, bits: int = 4, even: bool = False, own_groups: bool = False, v2: bool = False
) -> Quantise:
    """AWQ's and GPTQ's numbers: weight = scale · (number - zero point), columns first, in groups of 32."""

    def quantise(values: NDArray[np.float64], rng: np.random.Generator) -> Quantised:
        rows, cols = values.shape
        numbers = rng.integers(0, 2**bits, (cols, rows))
        zeros = rng.integers(1, 2**bits, (cols // 32, rows)) if not even else np.full((cols // 32, rows), 2**bits // 2)
        scales = (rng.uniform(0.5, 1.5, zeros.shape) / 2**bits / 4).astype(np.float16)
        groups = rng.permutation(np.arange(cols) // 32) if own_groups else np.arange(cols) // 32
        parts = {"scales": torch.from_numpy(scales)}
        if method == "awq":
            ordered = [part.reshape(len(part), -1, 8)[..., AWQ_PLACES].reshape(part.shape) for part in (numbers, zeros)]
            parts |= {"qweight": words(ordered[0], 4), "qzeros": words(ordered[1], 4)}
        else:
            packed = words(np.ascontiguousarray(numbers.T), bits).T.contiguous()
            stored = (zeros - (0 if v2 else 1)) % 2**bits
            parts |= {
                "qweight": packed,
                "qzeros": words(stored, bits),
                "g_idx": torch.from_numpy(groups.astype(np.int32)),
            }
        return parts, (scales.astype(np.float64)[groups] * (numbers - zeros[groups])).T

    return quantise


def gptq(bits: int = 4, **options: Any) -> dict[str, Any]:
    """What GPTQ writes into config.json."""
    return {"quantization_config": {"quant_method": "gptq", "bits": bits, "group_size": 32, **options}}


def in_mlx(bits: int, group: int, **options: Any) -> dict[str, Any]:
    """What MLX writes into config.json."""
    settings = {"group_size": group, "bits": bits, **options}
    return {"quantization": settings, "quantization_config": settings}


AWQ = {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}}
WAYS: dict[str, tuple[Quantise, dict[str, Any], str, str]] = {
    "mlx 4": (mlx(4, 64), in_mlx(4, 64), "Q4_1", ""),
    "mlx 4 in float16": (mlx(4, 32, torch.float16), in_mlx(4, 32, mode="affine"), "Q4_1", ""),
    "mlx 4 in float32": (mlx(4, 64, torch.float32), in_mlx(4, 64), "F16", ""),
    "mlx 8": (mlx(8, 64), in_mlx(8, 64), "AFFINE8", ""),
    "mlx 6": (mlx(6, 64), in_mlx(6, 64), "AFFINE8", "Weights in 6 bits are kept in 8"),
    "mlx 5": (mlx(5, 32), in_mlx(5, 32), "AFFINE8", "Weights in 5 bits are kept in 8"),
    "mlx 3": (mlx(3, 64), in_mlx(3, 64), "AFFINE8", "Weights in 3 bits are kept in 8"),
    "mlx 2": (mlx(2, 32), in_mlx(2, 32), "AFFINE8", "Weights in 2 bits are kept in 8"),
    "mlx mxfp4": (mlx_mxfp4, in_mlx(4, 32, mode="mxfp4"), "MXFP4", ""),
    "awq": (zero_points("awq"), AWQ, "Q8_0", "Weights in 4 bits are kept in 8"),
    "gptq": (zero_points("gptq"), gptq(), "Q8_0", "Weights in 4 bits are kept in 8"),
    "gptq symmetric": (zero_points("gptq", even=True), gptq(sym=True), "Q4_0", ""),
    "gptq v2": (zero_points("gptq", v2=True), gptq(checkpoint_format="gptq_v2"), "Q8_0", "kept in 8"),
    "gptq 8": (zero_points("gptq", bits=8, even=True), gptq(8, sym=True), "Q8_0", ""),
    "gptq by activations": (zero_points("gptq", own_groups=True), gptq(desc_act=True), "F16", "are kept in 16"),
}


def write(directory: Path, quantise: Quantise, config: Mapping[str, Any]) -> tuple[Path, Path]:
    """A small Llama in floats and quantised, both of the same numbers."""
    rng = np.random.default_rng(5)
    floats, quantised = (Path(shutil.copytree(SMALL / "llama", directory / name)) for name in ("floats", "quantised"))
    plain = load_file(floats / "model.safetensors")
    packed = dict(plain)
    # AWQ and GPTQ leave what turns ids into vectors and back as it is.
    kept = ("norm",) if "quantization" in config else ("norm", "embed", "head")
    for name in [name for name in plain if not any(part in name for part in kept)]:
        parts, numbers = quantise(packed.pop(name).double().numpy(), rng)
        packed |= {name.replace(".weight", f".{end}"): tensor for end, tensor in parts.items()}
        plain[name] = torch.from_numpy(numbers).float().contiguous()
    save_file(plain, floats / "model.safetensors")
    save_file(packed, quantised / "model.safetensors")
    described = json.loads((quantised / "config.json").read_text())
    (quantised / "config.json").write_text(json.dumps(described | dict(config)))
    return floats, quantised


def load(path: Path) -> Checkpoint:
    """The directory's checkpoint."""
    return load_huggingface(ModelSpec(str(path), tokenizer=TOKENIZER), lambda stage, fraction: None)


@pytest.mark.parametrize(("quantise", "config", "kind", "note"), WAYS.values(), ids=list(WAYS))
def test_numbers_are_those_of_the_definition(
    tmp_path: Path, quantise: Quantise, config: Mapping[str, Any], kind: str, note: str
) -> None:
    """Every number, to the rounding of float32, or of the 16 bits where those are said; kept in few bits."""
    floats, quantised = map(load, write(tmp_path, quantise, config))
    assert note in "".join(quantised.notes) and bool(note) == bool(quantised.notes)
    for name, plain in floats.raw.items():
        raw = quantised.raw[name]
        expected, got = (dequantise(one.kind, one.data.reshape(-1, one.data.shape[-1])) for one in (plain, raw))
        if "proj" in name:
            assert (raw.kind, raw.shape) == (kind, plain.shape)
        assert raw.shape == plain.shape
        np.testing.assert_allclose(got, expected, rtol=2**-11 if raw.kind == "F16" else 2e-7, atol=2e-7)


@pytest.mark.parametrize("way", ["mlx 4", "mlx 8", "mlx mxfp4", "awq", "gptq symmetric"])
@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_models_run_as_in_floats(tmp_path: Path, way: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The native step takes the blocks as they are, and torch their numbers."""
    monkeypatch.delattr(weight_loader, "_dense")
    rows = []
    for path, precision in zip(write(tmp_path, *WAYS[way][:2]), ("float32", dtype), strict=True):
        engine = open_engine(ModelSpec(str(path), tokenizer=TOKENIZER, dtype=precision), lambda stage, fraction: None)
        logits = engine.prefill(IDS, lambda: False).logits
        assert logits is not None
        rows.append(logits)
    assert engine.info.dtype.startswith("native" if dtype == "auto" else "float32")
    assert np.abs(rows[0] - rows[1]).max() < (2e-3 if dtype == "auto" else 1e-5) * rows[0].std()


def test_layers_may_differ(tmp_path: Path) -> None:
    """MLX's mixed directories: a module with its own settings, and one that is not quantised."""
    settings = in_mlx(4, 64, **{"lm_head": {"group_size": 32, "bits": 8}, "model.embed_tokens": False})
    _, path = write(tmp_path, mlx(4, 64), settings)
    packed = load_file(path / "model.safetensors")
    head = np.random.default_rng(1).normal(size=(512, 64))
    parts, numbers = mlx(8, 32)(head, np.random.default_rng(0))
    packed |= {f"lm_head.{end}": tensor for end, tensor in parts.items()}
    packed["model.embed_tokens.weight"] = torch.zeros(512, 64)
    del packed["model.embed_tokens.scales"], packed["model.embed_tokens.biases"]
    save_file(packed, path / "model.safetensors")
    raw = load(path).raw
    assert raw["embedding.weight"].kind == "F32" and raw["layers.0.attention.q_proj.weight"].kind == "Q4_1"
    got = dequantise("AFFINE8", raw["head.weight"].data)
    np.testing.assert_allclose(got, numbers, rtol=2e-7, atol=2e-7)


def test_experts_lie_in_one_stack(tmp_path: Path) -> None:
    """MLX joins the experts of a mixture; their numbers are those of the experts one by one."""
    floats, path = (Path(shutil.copytree(SMALL / "qwen3_moe", tmp_path / name)) for name in ("floats", "stacked"))
    plain = load_file(floats / "model.safetensors")
    rest = {name: tensor for name, tensor in plain.items() if ".experts." not in name}
    rng = np.random.default_rng(2)
    for layer in range(3):
        for part in ("gate_proj", "up_proj", "down_proj"):
            prefix = f"model.layers.{layer}.mlp"
            names = [f"{prefix}.experts.{expert}.{part}.weight" for expert in range(4)]
            stack = [mlx(4, 32)(plain[name].double().numpy(), rng) for name in names]
            for name, (_, numbers) in zip(names, stack, strict=True):
                plain[name] = torch.from_numpy(numbers).float()
            for end in ("weight", "scales", "biases"):
                rest[f"{prefix}.switch_mlp.{part}.{end}"] = torch.stack([parts[end] for parts, _ in stack])
    save_file(plain, floats / "model.safetensors")
    save_file(rest, path / "model.safetensors")
    described = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(described | in_mlx(4, 32)))
    one, other = load(floats).raw, load(path).raw
    for name in (name for name in one if "experts" in name):
        rows = [dequantise(raw.kind, raw.data.reshape(-1, raw.data.shape[-1])) for raw in (one[name], other[name])]
        assert other[name].kind == "Q4_1"
        np.testing.assert_allclose(rows[1], rows[0], rtol=2e-7, atol=2e-7)


@pytest.mark.parametrize(
    ("way", "changes", "words"),
    [
        (
            "mlx 4",
            {"quantization": {"group_size": 64, "bits": 4, "mode": "nvfp4"}},
            "quantised by nvfp4.* take the original",
        ),
        ("mlx 4", {"quantization": {"group_size": 48, "bits": 4}}, "do not fit together"),
        ("mlx 4", {"quantization": None, "quantization_config": None}, "is of type uint32"),
        ("awq", {"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemv"}}, "version 'gemv'"),
        ("gptq", gptq(3), "3 bits.: take the original model"),
        ("gptq", gptq(8), "do not fit together"),
    ],
)
def test_other_ways_are_refused(tmp_path: Path, way: str, changes: dict[str, Any], words: str) -> None:
    """A layout that is not known, or that does not fit its tensors, is one sentence."""
    _, path = write(tmp_path, WAYS[way][0], WAYS[way][1] | changes)
    with pytest.raises(ModelLoadError, match=words):
        load(path)


@pytest.mark.parametrize(
    ("way", "lost"), [("mlx 4", "biases"), ("mlx 4", "scales"), ("awq", "scales"), ("gptq", "qzeros")]
)
def test_a_part_that_is_missing_is_named(tmp_path: Path, way: str, lost: str) -> None:
    """A weight without its scales is bytes that nothing says the meaning of."""
    _, path = write(tmp_path, *WAYS[way][:2])
    packed = load_file(path / "model.safetensors")
    del packed[f"model.layers.1.self_attn.q_proj.{lost}"]
    save_file(packed, path / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"layers\.1\.self_attn\.q_proj.* lacks its scales"):
        load(path)


@pytest.mark.parametrize("way", ["mlx 4", "mlx mxfp4", "awq", "gptq"])
def test_hostile_parts_never_crash(tmp_path: Path, way: str) -> None:
    """Parts of another type or shape, and settings of any kind, are refused in a line or read as numbers."""
    _, path = write(tmp_path, *WAYS[way][:2])
    packed, described = load_file(path / "model.safetensors"), json.loads((path / "config.json").read_text())
    noise = np.random.default_rng(3)
    names = [name for name in packed if "layers.0.mlp.up_proj" in name]
    others = (torch.zeros(0, 4), torch.zeros(3, dtype=torch.uint8), torch.tensor(1.0), torch.zeros(2, 2, 2).int())
    values: tuple[Any, ...] = (0, -1, 2**40, True, None, "x", [], {}, 1.5, 64, 32)
    for _ in range(60):
        name = names[noise.integers(len(names))]
        kinds = (torch.float32, torch.int32, torch.uint32, torch.uint8)
        wrong = others[noise.integers(4)] if noise.integers(2) else packed[name].to(kinds[noise.integers(4)])
        save_file(packed | {name: wrong}, path / "model.safetensors")
        settings = {key: dict(value) for key, value in described.items() if key.startswith("quantization")}
        for one in settings.values():
            key = ("bits", "group_size", "mode", "version", "sym", "desc_act")[noise.integers(6)]
            one[key] = values[noise.integers(len(values))]
        (path / "config.json").write_text(json.dumps(described | settings))
        try:
            for raw in load(path).raw.values():
                assert raw.data.size
        except ModelLoadError as error:
            assert "\n" not in error.message
