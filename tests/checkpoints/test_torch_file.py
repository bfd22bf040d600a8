"""Opening .pt files that may be missing, damaged or hostile."""

from __future__ import annotations

import os
import pickle
import random
import struct
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from llmchat.checkpoints import torch_archive
from llmchat.checkpoints.llmbuilder_weights import check_shapes, dimensions, read_weights
from llmchat.checkpoints.stored_tensor import StoredTensor
from llmchat.checkpoints.torch_file import load_torch_file
from llmchat.checkpoints.training_record import read_training
from llmchat.errors import ModelLoadError
from llmchat.models.llmbuilder import llmbuilder_plan
from tests.checkpoints.torch_files import Call, Storage, pickled, qtensor_claim, tensor_claim, write_archive
from tests.conftest import DATA
from tests.faults import unreadable

SOUND = DATA / "llmbuilder-formats/2.0.0/save_model/model.pt"


def ignore_progress(stage: str, fraction: float | None) -> None:
    """Progress that nobody watches."""


def refusal(path: Path) -> str:
    """The one line that opening a file ends in."""
    with pytest.raises(ModelLoadError) as caught:
        load_torch_file(path, ignore_progress)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_sound_file_is_opened_with_progress() -> None:
    """A file of torch.save comes back as it was, and its checking is reported from 0 to 1."""
    seen: list[tuple[str, float | None]] = []
    payload = load_torch_file(SOUND, lambda stage, fraction: seen.append((stage, fraction))).payload
    assert isinstance(payload, dict)
    assert payload["model_config"]["num_heads"] == 4
    assert seen[-1] == ("reading weights", None)
    assert ("checking the file", 1.0) in seen


def test_a_version_is_a_text() -> None:
    """One of llmbuilder's writers pickles TorchVersion, which torch's own weights_only refuses."""
    payload = load_torch_file(
        DATA / "llmbuilder-formats/2.0.0/checkpoint_manager/no_config.pt", ignore_progress
    ).payload
    assert isinstance(payload, dict)
    assert payload["pytorch_version"].startswith("2.")


def test_missing_file(tmp_path: Path) -> None:
    """A wrong path is named."""
    assert refusal(tmp_path / "no.pt") == f"There is no model file {tmp_path / 'no.pt'}."


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_impossible_path(name: str) -> None:
    """Names that no file system takes are missing files, not crashes."""
    assert refusal(Path(name)).startswith("There is no model file")


def test_directory_names_the_file_inside() -> None:
    """Giving the directory instead of the file is the commonest slip: the file is named."""
    message = refusal(SOUND.parent)
    assert message == f"{SOUND.parent} is a directory. Give the model file, such as {SOUND}."


def test_directory_without_models(tmp_path: Path) -> None:
    """Nothing is invented for a directory that holds no model."""
    assert refusal(tmp_path) == f"{tmp_path} is a directory. Give the model file."


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe would block for ever when opened."""
    os.mkfifo(tmp_path / "pipe.pt")
    assert refusal(tmp_path / "pipe.pt").endswith("is no regular file.")


def test_unreadable_file(tmp_path: Path) -> None:
    """Missing permission is said as such."""
    path = write_archive(tmp_path / "m.pt", {})
    with unreadable(path):
        assert refusal(path).endswith("may not be read: permission denied.")


def test_empty_file(tmp_path: Path) -> None:
    """A file of no bytes, as a full disk leaves it, is called empty."""
    (tmp_path / "m.pt").touch()
    assert refusal(tmp_path / "m.pt").endswith("is empty.")


@pytest.mark.parametrize("kept", [3, 100, 60_000, 122_000])
def test_truncated_file(tmp_path: Path, kept: int) -> None:
    """A copy that broke off is told from a file of another kind, wherever it broke off."""
    path = tmp_path / "m.pt"
    path.write_bytes(SOUND.read_bytes()[:kept])
    assert "is damaged or cut short" in refusal(path)


def test_other_kinds_of_file(tmp_path: Path) -> None:
    """Text, a plain zip and torch's old format each get their own words."""
    text, plain_zip, old = tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "c.pt"
    text.write_text("hello")
    with zipfile.ZipFile(plain_zip, "w") as archive:
        archive.writestr("readme.txt", "hello")
    torch.save({"a": torch.zeros(2)}, old, _use_new_zipfile_serialization=False)
    assert "was not written by torch.save" in refusal(text)
    assert "not one that torch.save wrote" in refusal(plain_zip)
    assert "torch before 1.6" in refusal(old)


def test_flipped_bit_is_found(tmp_path: Path) -> None:
    """A weight that rotted on disk is reported, though it is mapped unread."""
    path = tmp_path / "m.pt"
    content = bytearray(SOUND.read_bytes())
    with zipfile.ZipFile(SOUND) as archive:
        record = next(record for record in archive.infolist() if record.filename.endswith("/data/0"))
    content[record.header_offset + 200] ^= 1
    path.write_bytes(content)
    assert "does not match its checksum" in refusal(path)


def test_file_without_checksums_is_opened(tmp_path: Path) -> None:
    """Torch can be told to leave checksums out; such a file is sound."""
    path = tmp_path / "m.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(3.0)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    payload = load_torch_file(path, ignore_progress).payload
    assert isinstance(payload, dict)
    assert payload["a"].numbers.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("function", [eval, os.system, bytearray, torch.UntypedStorage, torch.load])
def test_code_is_refused(tmp_path: Path, function: object) -> None:
    """Nothing but what makes tensors and plain containers is looked up, not even what torch's own list lets pass."""
    assert callable(function)
    path = write_archive(tmp_path / "m.pt", {"model": Call(function, 1)})
    message = refusal(path)
    assert "holds code, not only weights: it asks for" in message
    assert message.endswith("refused.")


def test_code_in_a_newer_pickle_is_refused(tmp_path: Path) -> None:
    """Later pickle protocols name their functions in another way."""
    path = write_archive(tmp_path / "m.pt", index=pickle.dumps(Call(eval, "1"), protocol=4))
    assert "holds code" in refusal(path)


def test_module_object_is_refused(tmp_path: Path) -> None:
    """A whole pickled model would run its own class."""
    torch.save(torch.nn.Linear(2, 2), tmp_path / "m.pt")
    assert "'torch.nn.modules.linear.Linear'" in refusal(tmp_path / "m.pt")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    """A TorchScript archive holds a program."""
    path = write_archive(tmp_path / "m.pt", {}, records={"model/code/a.py": b"pass", "model/constants.pkl": b""})
    assert "TorchScript" in refusal(path)


def test_zip_bomb_is_refused(tmp_path: Path) -> None:
    """Compressed records could unpack to any size."""
    path = write_archive(
        tmp_path / "m.pt", {}, records={"model/data/1": bytes(10**8)}, compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 10**6
    assert "zip bomb" in refusal(path)


def test_overlapping_records_are_refused(tmp_path: Path) -> None:
    """A record that claims more bytes than the file has is refused before anything is read."""
    path = write_archive(tmp_path / "m.pt", {})
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = struct.pack("<II", 2**31, 2**31)
    path.write_bytes(content)
    assert "zip bomb" in refusal(path)


def test_doubled_record_is_refused(tmp_path: Path) -> None:
    """Of two records of one name nobody knows which is meant."""
    path = write_archive(tmp_path / "m.pt", {})
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data.pkl", pickled({}))
    assert "not one that torch.save wrote" in refusal(path)


def test_huge_description_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pickle is the only part that is read into memory, so its size is bounded."""
    monkeypatch.setattr(torch_archive, "INDEX_LIMIT", 1000)
    path = write_archive(tmp_path / "m.pt", {"a": "x" * 2000})
    assert "far too many" in refusal(path)


def doubles(length: int) -> Call:
    """Some float64 zeros."""
    return tensor_claim(Storage("1", 4, torch.DoubleStorage), 0, (length,), (1,))


def longs(length: int) -> Call:
    """Some int64 zeros."""
    return tensor_claim(Storage("1", 4, torch.LongStorage), 0, (length,), (1,))


CLAIMS = {
    "storage beyond its record": tensor_claim(Storage("0", 5), 0, (4,), (1,)),
    "stride beyond the storage": tensor_claim(Storage("0", 4), 0, (2, 2), (3, 1)),
    "one number beyond the storage": tensor_claim(Storage("0", 4), 1, (4,), (1,)),
    "nothing, of a huge size": tensor_claim(Storage("0", 4), 0, (0, 2**61, 2**61), (1, 1, 1)),
    "strides of another shape": tensor_claim(Storage("0", 4), 0, (2, 2), (1,)),
    "size of no number": tensor_claim(Storage("0", 4), 0, (True, 2), (1, 1)),
    "too many dimensions": tensor_claim(Storage("0", 4), 0, (1,) * 100, (1,) * 100),
    "no storage": Call(torch._utils._rebuild_tensor_v2, "0", 0, (4,), (1,), False, {}),
    "conjugated": Call(torch._utils._rebuild_tensor_v2, Storage("0", 4), 0, (4,), (1,), False, {}, {"conj": True}),
    "unknown quantiser": qtensor_claim((torch.float32, 1.0, 0)),
    "quantiser of no number": qtensor_claim((torch.per_tensor_affine, [], 0)),
    "scales of another length": qtensor_claim((torch.per_channel_affine, doubles(3), longs(3), 0)),
    "scales that are no numbers": qtensor_claim((torch.per_channel_affine, 1.0, longs(2), 0)),
    "scales along no axis": qtensor_claim((torch.per_channel_affine, doubles(2), longs(2), 5)),
    "quantised floats": Call(
        torch._utils._rebuild_qtensor, Storage("0", 4), 0, (4,), (1,), (torch.per_tensor_affine, 1.0, 0), False, {}
    ),
    "negative size": tensor_claim(Storage("0", 4), 0, (-3, 4), (4, 1)),
    "size beyond the storage": tensor_claim(Storage("0", 4), 0, (100, 100), (100, 1)),
    "storage beyond the file": tensor_claim(Storage("0", 10**12), 0, (10**6, 10**6), (10**6, 1)),
    "negative storage": tensor_claim(Storage("0", -4), 0, (4,), (1,)),
    "offset beyond the file": tensor_claim(Storage("0", 4), 10**15, (4,), (1,)),
    "negative offset": tensor_claim(Storage("0", 4), -5, (4,), (1,)),
    "negative stride": tensor_claim(Storage("0", 4), 0, (4,), (-1,)),
    "huge stride": tensor_claim(Storage("0", 4), 0, (2, 2), (2**62, 2**62)),
    "overflowing size": tensor_claim(Storage("0", 4), 0, (2**40, 2**40), (2**40, 1)),
    "missing record": tensor_claim(Storage("99", 4), 0, (4,), (1,)),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS.keys())
def test_impossible_tensor_is_refused(tmp_path: Path, claim: Call) -> None:
    """A tensor that describes itself wrongly is never looked at outside its record, and takes no memory."""
    path = write_archive(tmp_path / "m.pt", {"a": claim}, records={"model/data/1": bytes(32)})
    assert "is damaged" in refusal(path)


ORDERED_DICT = b"ccollections\nOrderedDict\n"
ODD_PICKLES = {
    "nothing": b"",
    "no end": b"\x80\x02",
    "a text beyond the end": b"\x80\x02}q\x00(X\xff\xff\xff\x7fa.",
    "a memory of nothing": b"\x80\x02h\x07.",
    "marks alone": b"\x80\x02" + b"(" * 10**5 + b".",
    "a call of a number": b"\x80\x02K\x01)R.",
    "a call of a storage's type": b"\x80\x02ctorch\nFloatStorage\nK\x01\x85R.",
    "arguments that are no tuple": b"\x80\x02" + ORDERED_DICT + b"K\x01R.",
    "a dict made from a list": b"\x80\x02" + ORDERED_DICT + b"]\x85R.",
    "a size of a number": b"\x80\x02ctorch\nSize\nK\x01\x85R.",
    "a device of a number": b"\x80\x02ctorch\ndevice\nK\x01\x85R.",
    "a parameter of a number": b"\x80\x02ctorch._utils\n_rebuild_parameter\nK\x01\x88}\x87R.",
    "a storage that is a number": b"\x80\x02K\x01Q.",
    "an item of a number": b"\x80\x02K\x01K\x01K\x01s.",
    "a key that is a list": b"\x80\x02}]Ns.",
    "a key of tuples in tuples": b"\x80\x02})" + b"\x85" * 10**5 + b"Ns.",
    "a key that doubles itself": b"\x80\x02})q\x00" + b"h\x00\x86q\x00" * 100 + b"Ns.",
    "a key of many digits": b"\x80\x02}\x8a\xff" + b"\x7f" * 255 + b"Ns.",
    "bytes of a claimed size": b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".",
    "an instance": b"\x80\x02(ios\nsystem\n.",
    "a registered extension": b"\x80\x02\x82\x01.",
}


@pytest.mark.parametrize("index", ODD_PICKLES.values(), ids=ODD_PICKLES.keys())
def test_odd_pickle_is_refused(tmp_path: Path, index: bytes) -> None:
    """A pickle that ends early, refers to nothing, or does what those of checkpoints never do is damage."""
    assert "is damaged or cut short (its description of the tensors cannot be read)" in refusal(
        write_archive(tmp_path / "m.pt", index=index)
    )


def test_a_far_place_in_the_memory_takes_none(tmp_path: Path) -> None:
    """A pickle's memory is as large as what is in it, wherever it is put."""
    path = write_archive(tmp_path / "m.pt", index=b"\x80\x02K\x07r\xff\xff\xff\xff.")
    assert load_torch_file(path, ignore_progress).payload == 7


@pytest.mark.parametrize("changed", [b")R", b""], ids=["a dict", "what makes dicts"])
def test_nothing_has_a_state(tmp_path: Path, changed: bytes) -> None:
    """A state that a file sets would stay in this process, or put something else in the place of a method."""
    index = b"\x80\x02" + ORDERED_DICT + changed + b"}X\x05\x00\x00\x00itemsNsb."
    path = write_archive(tmp_path / "m.pt", index=index)
    payload = load_torch_file(path, ignore_progress).payload
    assert (payload == {}) == (changed == b")R")
    assert load_torch_file(SOUND, ignore_progress).payload


def test_a_state_of_a_tensor_is_left_out(tmp_path: Path) -> None:
    """It could make the tensor reach anywhere."""
    index = pickled(tensor_claim(Storage("0", 4), 0, (4,), (1,)))[:-1] + b"X\x01\x00\x00\x00xK\x00\x86b."
    payload = load_torch_file(write_archive(tmp_path / "m.pt", index=index), ignore_progress).payload
    assert isinstance(payload, StoredTensor) and payload.numbers.tolist() == [0.0] * 4


def test_another_byte_order_is_refused(tmp_path: Path) -> None:
    """Numbers that would be read backwards are not read."""
    path = write_archive(tmp_path / "m.pt", {}, byteorder=b"big")
    assert "another byte order" in refusal(path)


@pytest.mark.parametrize("name", ["2.0.0/quant/int8.pt", "2.0.0/finetune_lora/finetuned_v1.0.pt"])
def test_random_damage_is_opened_or_refused(tmp_path: Path, name: str) -> None:
    """Whatever happens to a file's bytes or to its description, there is no other error, and no crash."""
    dice = random.Random(7)
    path = DATA / "llmbuilder-formats" / name
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        records = {record: archive.read(record) for record in archive.namelist()}
    index = next(record for record in records if record.endswith("/data.pkl"))
    damaged = tmp_path / "m.pt"
    outcomes = Counter[tuple[str, bool]]()
    for _ in range(600):
        kind = dice.choice(("flipped", "cut", "redescribed", "redescribed"))
        if kind == "flipped":
            damaged.write_bytes(flipped(sound, dice))
        elif kind == "cut":
            damaged.write_bytes(sound[: dice.randrange(len(sound))])
        else:
            with zipfile.ZipFile(damaged, "w") as archive:
                for record, content in (records | {index: flipped(records[index], dice)}).items():
                    archive.writestr(record, content)
        outcomes[kind, opens(damaged)] += 1
        read_training(damaged)
    assert all(outcomes[kind, False] > 50 for kind in ("flipped", "cut", "redescribed"))
    assert outcomes["redescribed", True] > 20


def flipped(sound: bytes, dice: random.Random) -> bytes:
    """Some bytes with one, a few or several changed, half of them at the end, where a zip file has its index."""
    content = bytearray(sound)
    for _ in range(dice.choice((1, 2, 8))):
        first = dice.choice((0, max(len(content) - 4000, 0)))
        content[dice.randrange(first, len(content))] = dice.randrange(256)
    return bytes(content)


def opens(path: Path) -> bool:
    """Whether a file is opened, all its weights read; if not it is refused."""
    try:
        payload = load_torch_file(path, ignore_progress).payload
        weights = read_weights(payload, path)
        vocab_size, positions, layers, dim = dimensions(weights, path)
        check_shapes(
            weights,
            llmbuilder_plan(vocab_size=vocab_size, context_length=positions, n_layers=layers, n_heads=2, dim=dim),
            path,
        )
        for tensor in weights.tensors.values():
            assert len(tensor.raw().data.tobytes()) == tensor.raw().data.nbytes
    except ModelLoadError:
        return False
    return True
