"""What of a repository is fetched."""

from __future__ import annotations

import pytest

from llmchat.errors import ModelLoadError
from llmchat.stores.hub_choice import RepoFile, choose, quantisation

BESIDE = ("config.json", "tokenizer.json", "generation_config.json")


def files(*names: str) -> list[RepoFile]:
    """Files whose sizes grow with their order, as those of quantisations do."""
    return [RepoFile(name, 1000 + number) for number, name in enumerate(names)]


def paths(*names: str, wanted: str = "") -> list[str]:
    """What is chosen of them."""
    return [file.path for file in choose(files(*names), wanted).files]


def test_safetensors_are_taken_once() -> None:
    """With what is read beside them; no duplicates in other forms, no folders, no pictures."""
    other = ["README.md", "pytorch_model.bin", "model.onnx", "onnx/model.onnx", "consolidated.safetensors"]
    other += ["original/model.safetensors", "model.gguf", "tekken.json", "flax_model.msgpack"]
    assert paths(*other, *BESIDE, "model.safetensors") == [*BESIDE, "model.safetensors"]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = "model.safetensors.index.json"
    assert paths(*other, *BESIDE, "model.safetensors", *shards, index) == [*BESIDE, index, *shards]
    assert paths(*BESIDE, "weights.safetensors", "adapter_model.safetensors") == [*BESIDE, "weights.safetensors"]


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["m-Q2_K.gguf", "m-IQ4_XS.gguf", "m-Q4_0.gguf", "m-Q4_K_S.gguf", "m-Q4_K_M.gguf", "m-Q5_K_M.gguf"], 4),
        (["m-q3_k_m.gguf", "m-q4_k_s.gguf", "m-q8_0.gguf"], 1),
        (["m-Q3_K_M.gguf", "m-Q5_K_M.gguf", "m-Q8_0.gguf"], 1),
        (["m-Q2_K.gguf", "m-Q6_K.gguf", "m-Q8_0.gguf", "m-F16.gguf"], 1),
        (["m-q8_0.gguf", "m-f16.gguf"], 0),
        (["Phi-3-mini-4k-instruct-q4.gguf", "Phi-3-mini-4k-instruct-fp16.gguf"], 0),
        (["mmproj-F16.gguf", "m.imatrix.gguf", "m-bf16.gguf"], 2),
        (["gpt-oss-20b-mxfp4.gguf"], 0),
        (["anything.gguf"], 0),
    ],
)
def test_of_gguf_files_the_nearest_to_q4_k_m_is_taken(names: list[str], best: int) -> None:
    """Four bits before five, five before three and more; what is no model of text is left aside."""
    assert paths(*names) == [names[best]]


def test_a_split_file_is_taken_whole_or_not_at_all() -> None:
    """All parts in order; one with a part missing on the hub is no choice."""
    parts = [f"Q4_K_M/m-Q4_K_M-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert paths(*reversed(parts), "m-Q8_0.gguf") == parts
    assert paths(*parts, "m-Q8_0.gguf", wanted=parts[1]) == parts
    assert paths(*parts[:2], "m-Q8_0.gguf") == ["m-Q8_0.gguf"]


def test_a_file_or_quantisation_is_taken_as_asked() -> None:
    """In any case, by its whole path or its name alone; also where there are safetensors."""
    names = ("config.json", "model.safetensors", "m-Q4_K_M.gguf", "x/m-Q8_0.gguf", "m-UD-Q4_K_XL.gguf")
    for wanted in ("q8_0", "Q8_0", "x/m-Q8_0.gguf", "m-q8_0.gguf"):
        assert paths(*names, wanted=wanted) == ["x/m-Q8_0.gguf"]
    assert paths(*names, wanted="UD-Q4_K_XL") == ["m-UD-Q4_K_XL.gguf"]
    assert paths(*names, wanted="model.safetensors") == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("names", "wanted", "words"),
    [
        (["m-Q4_K_M.gguf", "m-Q8_0.gguf"], "Q2_K", "x/y has no 'Q2_K'. It has: Q4_K_M (1.0 kB), Q8_0"),
        (["config.json", "model.safetensors"], "Q8_0", "It has safetensors: leave out what stands behind the colon"),
        (["pytorch_model.bin", "config.json"], "", "neither safetensors with a config.json nor a GGUF file"),
        (["pytorch_model.bin", "config.json"], "", "PyTorch's own format"),
        (["adapter_config.json", "adapter_model.safetensors"], "", "is an adapter for another model"),
        ([], "", "It is empty."),
    ],
)
def test_what_is_not_there_is_told_with_what_is(names: list[str], wanted: str, words: str) -> None:
    """Each mistake is one sentence that names the way out."""
    with pytest.raises(ModelLoadError) as caught:
        choose(files(*names), wanted, where="x/y")
    assert words in caught.value.message


def test_quantisations_are_read_from_names() -> None:
    """As people write them; what only looks like one is none."""
    names = {"m.Q4_K_M.gguf": "Q4_K_M", "m-iq3_xxs.gguf": "IQ3_XXS", "m-Q4_0_4_4.gguf": "", "Qwen2.5-7B.gguf": ""}
    names |= {"BF16/m-BF16-00001-of-00002.gguf": "BF16", "m-MXFP4_MOE.gguf": "MXFP4_MOE", "sequence4.gguf": ""}
    assert {name: quantisation(name) for name in names} == names
