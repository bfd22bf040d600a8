"""Tensors of .pt files are those that torch reads, to the last bit."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from llmchat.checkpoints.file_bytes import Span
from llmchat.checkpoints.lazy_tensors import LazyTensors
from llmchat.checkpoints.stored_tensor import FLOATS, NUMPY_TYPES, StoredTensor
from llmchat.checkpoints.torch_file import load_torch_file
from tests.conftest import DATA

REAL = sorted(path for path in DATA.rglob("*.pt") if path.name != "q8_0.pt")
DTYPES = [getattr(torch, name) for name in NUMPY_TYPES if not name.startswith("q") and name != "uint32"]
"""What files of torch hold; uint32 is read of safetensors alone."""


def read(path: Path) -> Any:
    """What our reader finds in a file."""
    return load_torch_file(path, lambda stage, fraction: None).payload


def saved(payload: object, path: Path, **options: Any) -> Any:
    """What our reader finds in a file that torch wrote."""
    torch.save(payload, path / "m.pt", **options)
    return read(path / "m.pt")


def assert_same(ours: Any, theirs: Any) -> None:
    """Compare what the two readers have made, down to the bits of the tensors."""
    if isinstance(theirs, Tensor):
        assert isinstance(ours, StoredTensor) and ours.shape == tuple(theirs.shape)
        assert f"torch.{ours.dtype}" == str(theirs.dtype)
        assert ours.numbers.tobytes() == bits(theirs.int_repr() if theirs.is_quantized else theirs)
        if theirs.is_quantized:
            np.testing.assert_array_equal(ours.as_float32().numbers, theirs.dequantize().numpy())
    elif isinstance(theirs, dict):
        assert type(ours) is dict and list(ours) == list(theirs)
        for key, value in theirs.items():
            assert_same(ours[key], value)
    elif isinstance(theirs, list | tuple):
        assert isinstance(ours, list | tuple) and len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    elif isinstance(theirs, torch.dtype):
        assert ours == str(theirs)
    else:
        assert type(ours) is type(theirs) or isinstance(theirs, str)
        assert ours == theirs


def bits(tensor: Tensor) -> bytes:
    """The numbers of a tensor, row by row."""
    return bytes(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())


@pytest.mark.parametrize("path", REAL, ids=lambda path: str(path.relative_to(DATA)))
def test_real_files(path: Path) -> None:
    """Every layout of llmbuilder, weights, optimizer and all."""
    with torch.serialization.safe_globals([torch.torch_version.TorchVersion]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of the old classes that its files name.
        theirs = torch.load(path, weights_only=True)
        assert_same(read(path), theirs)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type(dtype: torch.dtype, protocol: int, tmp_path: Path) -> None:
    """In order, turned, cut out, with gaps, repeated, alone, empty, shared, and as a parameter."""
    tensor = torch.randn(6, 8, generator=torch.Generator().manual_seed(1)).mul(50).to(dtype)
    state: dict[str, object] = OrderedDict(
        whole=tensor,
        turned=tensor.T,
        part=tensor[2:5, 3:],
        gaps=tensor[::2, 1::3],
        diagonal=tensor.diagonal(),
        repeated=tensor[:1].expand(5, 8),
        cube=tensor.view(2, 3, 8).permute(2, 0, 1),
        scalar=tensor[3, 4],
        empty=torch.empty(0, 7, dtype=dtype),
        copy=tensor.clone(),
    )
    if dtype.is_floating_point:
        state["parameter"] = torch.nn.Parameter(tensor)
    payload = {"state": state, "list": [tensor, (tensor.T, {"deep": tensor[0]})], "dtype": dtype}
    assert_same(saved(payload, tmp_path, pickle_protocol=protocol), payload)


def test_plain_values(tmp_path: Path) -> None:
    """Numbers, texts, containers and torch's small values come back as they were."""
    payload = {
        "numbers": [0, -1, 255, 65_535, 2**31, -(2**70), 1.5, float("inf"), True, None],
        "text": "Käse \0 \U0001f9c0",
        ("a", 1): {2: (), 3.5: [], None: {}},
        "state": torch.nn.Linear(2, 3).state_dict(),
        "size": torch.zeros(2, 3).shape,
        "device": "cpu",
    }
    ours = saved(payload | {"device": torch.device("cpu")}, tmp_path)
    assert_same(ours, payload)


def test_an_optimizer(tmp_path: Path) -> None:
    """The state of training, which most checkpoints carry."""
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert_same(saved(optimizer.state_dict(), tmp_path), optimizer.state_dict())


def test_shared_storages_are_shared(tmp_path: Path) -> None:
    """Tied weights lie at one place, in the file and not in memory."""
    tensor = torch.arange(12.0).view(3, 4)
    ours = saved({"a": tensor, "b": tensor, "row": tensor[1]}, tmp_path)
    places = {name: stored.place for name, stored in ours.items()}
    assert places["a"] == places["b"] and ours["a"].is_same_view(ours["b"])
    assert isinstance(places["row"], Span) and isinstance(places["a"], Span)
    assert places["row"].start == places["a"].start + 16 and not ours["row"].is_same_view(ours["a"])


@pytest.mark.filterwarnings("ignore:torch.quantize_per")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32], ids=str)
def test_quantised_tensors(dtype: torch.dtype, tmp_path: Path) -> None:
    """Of one scale, and of one for each row or column."""
    tensor = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    scales, zeros = torch.tensor([0.25, 0.5, 0.125, 2.0], dtype=torch.float64), torch.tensor([0, 3, 7, 1])
    payload = [
        torch.quantize_per_tensor(tensor, 0.25, 5, dtype),
        torch.quantize_per_channel(tensor, scales, zeros, 0, dtype),
        torch.quantize_per_channel(tensor, scales[:3], zeros[:3], 1, dtype),
    ]
    assert_same(saved(payload, tmp_path), payload)


@pytest.mark.parametrize("dtype", [getattr(torch, name) for name in FLOATS], ids=str)
def test_what_is_finite(dtype: torch.dtype, tmp_path: Path) -> None:
    """The largest numbers are, NaN and infinity are not, wherever they stand and whatever their sign."""
    limits = torch.finfo(dtype)
    sound = torch.tensor([0.0, -0.0, limits.max, limits.min, limits.tiny], dtype=dtype)
    bad = [torch.cat((sound, torch.tensor([value], dtype=dtype))) for value in (np.inf, -np.inf, np.nan, -np.nan)]
    ours = saved([sound, *bad, sound[:0], torch.stack(bad, 1)[:5]], tmp_path)
    assert [stored.is_finite() for stored in ours] == [True, False, False, False, False, True, True]


@pytest.mark.parametrize("dtype", [getattr(torch, name) for name in FLOATS], ids=str)
def test_the_way_to_torch(dtype: torch.dtype, tmp_path: Path) -> None:
    """What torch gets, and float32 of it, are torch's own numbers; float64 becomes float32."""
    tensor = torch.randn(6, 8, generator=torch.Generator().manual_seed(3)).to(dtype)
    ours = saved({"whole": tensor, "turned": tensor.T, "row": tensor[1]}, tmp_path)
    wanted = tensor.float() if dtype == torch.float64 else tensor
    made = LazyTensors({name: stored.raw() for name, stored in ours.items()}, lambda stage, fraction: None)
    for name, theirs in (("whole", wanted), ("turned", wanted.T), ("row", wanted[1])):
        assert made[name].dtype == wanted.dtype and torch.equal(made[name], theirs)
        np.testing.assert_array_equal(ours[name].as_float32().numbers, theirs.float().numpy())


def test_a_number_too_large_for_32_bits_is_infinite(tmp_path: Path) -> None:
    """As torch makes it; the check of the weights finds it."""
    ours = saved(torch.tensor([1e300, 1.0], dtype=torch.float64), tmp_path)
    assert ours.is_finite() and not ours.as_float32().is_finite()
