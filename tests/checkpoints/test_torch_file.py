"""Opening .pt files that may be missing, damaged or hostile."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from llmchat.checkpoints import torch_file
from llmchat.checkpoints.torch_file import load_torch_file
from llmchat.errors import ModelLoadError
from tests.checkpoints.torch_files import Call, Storage, pickled, tensor_claim, write_archive
from tests.conftest import DATA

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
    payload = load_torch_file(SOUND, lambda stage, fraction: seen.append((stage, fraction)))
    assert isinstance(payload, dict)
    assert payload["model_config"]["num_heads"] == 4
    assert seen[-1] == ("reading weights", None)
    assert ("checking the file", 1.0) in seen


def test_torch_version_is_the_one_object_allowed() -> None:
    """One of llmbuilder's writers pickles TorchVersion, which plain weights_only refuses."""
    payload = load_torch_file(DATA / "llmbuilder-formats/2.0.0/checkpoint_manager/no_config.pt", ignore_progress)
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path: Path) -> None:
    """Missing permission is said as such."""
    path = write_archive(tmp_path / "m.pt", {})
    path.chmod(0)
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
    """A weight that rotted on disk is reported, though torch maps it unread."""
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
    payload = load_torch_file(path, ignore_progress)
    assert isinstance(payload, dict)
    assert payload["a"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("function", [eval, os.system, bytearray, torch.UntypedStorage, torch.load])
def test_code_is_refused(tmp_path: Path, function: object) -> None:
    """Nothing but tensors and plain containers is called, not even what torch's own list would let pass."""
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
    """Two records of one name could show one pickle to the check and another to torch."""
    path = write_archive(tmp_path / "m.pt", {})
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model/data.pkl", pickled({}))
    assert "not one that torch.save wrote" in refusal(path)


def test_huge_description_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pickle is the only part that is read into memory, so its size is bounded."""
    monkeypatch.setattr(torch_file, "PICKLE_LIMIT", 1000)
    path = write_archive(tmp_path / "m.pt", {"a": "x" * 2000})
    assert "far too many" in refusal(path)


CLAIMS = {
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
    """A tensor that describes itself wrongly neither crashes torch nor takes memory."""
    assert "is damaged" in refusal(write_archive(tmp_path / "m.pt", {"a": claim}))


@pytest.mark.parametrize("index", [b"", b"\x80\x02", b"\x80\x02h\x07.", b"\x80\x02}q\x00(X\xff\xff\xff\x7fa."])
def test_broken_pickle_is_refused(tmp_path: Path, index: bytes) -> None:
    """A pickle that ends early or refers to nothing is damage, not code."""
    assert "is damaged" in refusal(write_archive(tmp_path / "m.pt", index=index))


def test_random_damage_never_gets_through_as_a_crash(tmp_path: Path) -> None:
    """Whatever happens to the description of the tensors, it is opened or refused, with no other error."""
    dice = random.Random(7)
    with zipfile.ZipFile(SOUND) as archive:
        sound = archive.read("model/data.pkl")
    refused = 0
    for _ in range(200):
        index = bytearray(sound)
        for _ in range(dice.choice((1, 2, 8))):
            index[dice.randrange(len(index))] = dice.randrange(256)
        path = write_archive(tmp_path / "m.pt", index=bytes(index))
        with contextlib.suppress(ModelLoadError):
            load_torch_file(path, ignore_progress)
            refused -= 1
        refused += 1
    assert refused > 100
