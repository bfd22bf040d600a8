"""Fetching from a hub: a real server with the hub's protocol, the library's own cache."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmchat.chat.model import ModelSpec
from llmchat.checkpoints.loading import load_checkpoint
from llmchat.errors import FetchQuestionError, ModelLoadError
from llmchat.stores.hub_cache import cached_models, find_cached, repo_dir
from llmchat.stores.hub_fetch import fetch_from_hub
from llmchat.stores.hub_name import HubName
from tests.checkpoints.test_gguf import parts
from tests.conftest import DATA
from tests.hub_server import NOWHERE, TOKEN, Hub, Repo, use_hub
from tests.patience import PATIENCE_SECONDS, until

LLAMA = DATA / "huggingface" / "llama"
NAME = HubName("maker/small")
GGUF = b"GGUF" + bytes(range(256)) * 40


def quiet(stage: str, fraction: float | None) -> None:
    """A progress that nobody watches."""


def fetch(name: HubName = NAME, **options: Any) -> Path:
    """Fetch with nobody watching."""
    return fetch_from_hub(name, quiet, threading.Event(), **options)


def refused(name: HubName = NAME, **options: Any) -> str:
    """The message of a fetch that fails."""
    with pytest.raises(ModelLoadError) as caught:
        fetch(name, **options)
    return caught.value.message


def incomplete(name: HubName = NAME) -> list[int]:
    """The sizes of what is left of files that have not come whole."""
    return [path.stat().st_size for path in repo_dir(name.repo).rglob("*.incomplete")]


def test_a_directory_comes_whole_and_once(hub: Hub) -> None:
    """Every file as the hub has it; the second time nothing is asked for."""
    hub.repos[NAME.repo] = Repo.of(LLAMA)
    path = fetch()
    assert {item.name for item in path.iterdir()} == set(hub.repos[NAME.repo].files)
    assert all((path / name).read_bytes() == data for name, data in hub.repos[NAME.repo].files.items())
    assert incomplete() == []
    hub.requests.clear()
    assert fetch() == path
    assert hub.requests == []
    assert [(model.name, model.path) for model in cached_models()] == [(NAME.repo, path)]


def test_the_library_finds_what_we_fetched(hub: Hub) -> None:
    """Any tool built on huggingface_hub uses the same cache: it opens without a network what llmchat fetched."""
    from huggingface_hub import snapshot_download

    hub.repos[NAME.repo] = Repo.of(LLAMA)
    path = fetch()
    assert snapshot_download(NAME.repo, local_files_only=True) == str(path)


def test_what_the_library_fetched_is_found(hub: Hub) -> None:
    """What another tool has downloaded opens without a request."""
    from huggingface_hub import hf_hub_download

    hub.repos[NAME.repo] = Repo({"m-Q8_0.gguf": GGUF})
    path = hf_hub_download(NAME.repo, "m-Q8_0.gguf")
    hub.requests.clear()
    assert fetch() == Path(path)
    assert hub.requests == []


def test_of_gguf_files_one_is_fetched(hub: Hub) -> None:
    """The nearest to Q4_K_M, or the one that is asked for; the name then means what is here."""
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": GGUF, "m-Q8_0.gguf": GGUF + b"8", "README.md": b"-" * 5000})
    assert fetch().name == "m-Q4_K_M.gguf"
    assert fetch(HubName(NAME.repo, "q8_0")).name == "m-Q8_0.gguf"
    assert hub.sent == 2 * len(GGUF) + 1
    assert [model.name for model in cached_models()] == [f"{NAME.repo}:Q4_K_M", f"{NAME.repo}:Q8_0"]


def test_a_split_model_opens_from_the_cache(hub: Hub, tmp_path: Path) -> None:
    """All of its parts come, and lie where the reader of the first finds the others."""
    split = parts(tmp_path)
    hub.repos[NAME.repo] = Repo({f"Q8_0/{path.name}": path.read_bytes() for path in split})
    path = fetch()
    assert path.name == split[0].name
    checkpoint = load_checkpoint(ModelSpec(str(path)), quiet)
    assert checkpoint.name == "Small-1B" and len(checkpoint.raw) > 9
    assert [model.path for model in cached_models()] == [path]


def test_progress_tells_bytes_and_ends_at_the_whole(hub: Hub) -> None:
    """The share grows from what is there to 1, in words that name the model."""
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": GGUF * 200})
    seen: list[tuple[str, float]] = []

    def watch(stage: str, fraction: float | None) -> None:
        if fraction is not None:
            seen.append((stage, fraction))

    fetch_from_hub(NAME, watch, threading.Event())
    assert [share for _, share in seen] == sorted(share for _, share in seen)
    assert all(stage.startswith("fetching small: ") and " of 2.0 MB" in stage for stage, _ in seen)


def test_a_token_goes_to_the_hub_alone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gated model comes with the right token, which the host of the large files never sees."""
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": GGUF}, is_gated=True)
    assert fetch().read_bytes() == GGUF
    assert hub.tokens_at_storage == []


def test_it_goes_on_where_it_was_cut(hub: Hub) -> None:
    """A connection that breaks is made again at once, and no byte is sent twice."""
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": GGUF})
    hub.cut_after = [1000, 2000, 1]
    assert fetch().read_bytes() == GGUF
    assert hub.sent == len(GGUF)


def test_a_later_start_goes_on(hub: Hub) -> None:
    """What came before the network went away is kept, and only the rest is fetched."""
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": GGUF})
    hub.cut_after = [1000, 0, 0, 0, 0, 0]
    message = refused()
    assert "cannot be reached" in message and "What has come is kept" in message
    assert incomplete() == [1000]
    assert fetch().read_bytes() == GGUF
    assert hub.sent == len(GGUF)
    assert incomplete() == []


def test_a_server_that_knows_no_parts(hub: Hub) -> None:
    """It sends all of it again, and the file is right all the same."""
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": GGUF})
    hub.knows_parts, hub.cut_after = False, [1000]
    assert fetch().read_bytes() == GGUF


def test_a_damaged_file_is_thrown_away(hub: Hub) -> None:
    """What does not match its checksum is never opened, nor gone on with."""
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": GGUF})
    hub.damage = True
    assert "came damaged and was thrown away" in refused()
    assert incomplete() == []
    hub.damage = False
    assert fetch().read_bytes() == GGUF


def test_giving_up_is_heeded_at_once_and_keeps_what_came(hub: Hub) -> None:
    """Also while the server is silent; the next time goes on from there."""
    whole = GGUF * 200
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": whole})
    hub.hold = threading.Event()
    cancel = threading.Event()

    def give_up() -> None:
        until(lambda: sum(incomplete()) == len(whole) // 2)
        cancel.set()

    giver = threading.Thread(target=give_up)
    giver.start()
    with pytest.raises(ModelLoadError, match=r"was stopped\. What has come is kept"):
        fetch_from_hub(NAME, quiet, cancel)
    giver.join()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("fetching")]
    hub.hold.set()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("fetching")])
    (kept,) = incomplete()
    assert len(whole) // 2 <= kept < len(whole)
    hub.hold, before = None, hub.sent
    assert fetch().read_bytes() == whole
    assert hub.sent - before == len(whole) - kept


def test_more_than_is_allowed_is_asked_for(hub: Hub) -> None:
    """The question tells size and memory before anything comes; what is here already is not asked for."""
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": GGUF * 200})
    with pytest.raises(FetchQuestionError) as caught:
        fetch(may_fetch=1000)
    assert "(Q4_K_M) is not on this machine: 2.0 MB are to be fetched" in caught.value.message
    assert "about 0.1 GB of memory" in caught.value.message
    assert hub.sent == 0
    fetch()
    fetch(may_fetch=0, anew=True)


def test_a_new_commit_comes_when_it_is_asked_for(hub: Hub) -> None:
    """A start takes what is here; asked anew, what has changed is fetched, and the old one serves until it is whole."""
    repo = hub.repos[NAME.repo] = Repo.of(LLAMA)
    old = fetch()
    new = dict(repo.files, **{"generation_config.json": b"{}", "model-00003-of-00003.safetensors": GGUF})
    hub.repos[NAME.repo] = Repo(new, commit="b" * 40)
    assert fetch() == old
    hub.sent, hub.cut_after = 0, [10, 0, 0, 0, 0, 0]
    refused(NAME, anew=True)
    assert find_cached(NAME) == old
    path = fetch(anew=True)
    assert path.name == "b" * 40 and find_cached(NAME) == path
    assert hub.sent == len(GGUF)


def test_half_a_directory_is_not_opened(hub: Hub) -> None:
    """With a shard missing the cache is no answer: the hub is asked for the rest."""
    hub.repos[NAME.repo] = Repo.of(LLAMA)
    path = fetch()
    (path / "model-00002-of-00003.safetensors").unlink()
    assert find_cached(NAME) is None
    assert fetch() == path and find_cached(NAME) == path


@pytest.mark.parametrize(
    ("repo", "token", "name", "words"),
    [
        (None, "", NAME, ["There is no model maker/small on the hub. Look", "if it is a private one", "HF_TOKEN"]),
        (None, "", HubName("maker/small", is_bare=True), ["no file or directory maker/small", "on the hub either"]),
        (Repo({}, is_private=True), "", NAME, ["There is no model maker/small", "private"]),
        (Repo({"m.gguf": GGUF}, is_gated=True), "", NAME, ["is gated: accept its terms at", "hf auth login"]),
        (
            Repo({"m.gguf": GGUF}, is_gated=True),
            "hf_other",
            NAME,
            ["your token has no access to it", "accept its terms"],
        ),
        (Repo({"m.gguf": GGUF}), "hf_wrong", NAME, ["does not accept your token", "HF_TOKEN"]),
        (Repo({"m.gguf": GGUF}), "", HubName("maker/small", revision="old"), ["has no revision 'old'"]),
        (Repo({"m.gguf": GGUF}), "", HubName("maker/small", "x.gguf"), ["has no 'x.gguf'. It has: m.gguf"]),
        (Repo({"x.bin": GGUF}), "", NAME, ["neither safetensors", "nor a GGUF file", "x.bin"]),
    ],
)
def test_refusals(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, repo: Repo | None, token: str, name: HubName, words: list[str]
) -> None:
    """Each is a sentence of its own that says what to do."""
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if repo is not None:
        hub.repos[NAME.repo] = repo
    message = refused(name, may_fetch=0)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("status", "words"), [(429, "too many requests"), (403, "does not let you read"), (500, "the error 500")]
)
def test_other_answers(hub: Hub, status: int, words: str) -> None:
    """What the hub answers is told in words."""
    hub.status = status
    assert words in refused()


def test_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub is reached: one sentence, with what opens all the same."""
    use_hub(monkeypatch, NOWHERE, tmp_path)
    message = refused()
    assert NOWHERE in message and "cannot be reached: the connection failed" in message and "llmchat models" in message


def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE lets no request out; what is whole in the cache opens, all else says why not."""
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": GGUF})
    path = fetch()
    hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch() == path
    assert "HF_HUB_OFFLINE forbids to fetch it" in refused(HubName("maker/other"))
    assert hub.requests == []


def test_a_full_disk(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room is told before, and a disk that fills on the way when it does; what has come is kept."""
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": GGUF})
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=1000))
        assert "too little room for maker/small: 10.2 kB are to be fetched, and 1.0 kB are free" in refused()
    assert hub.sent == 0
    part = repo_dir(NAME.repo) / "blobs" / f"{hashlib.sha256(GGUF).hexdigest()}.incomplete"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    assert "the disk is full. Make room; what has come is kept" in refused()


def test_names_that_lead_out_of_the_cache_are_passed_over(hub: Hub, tmp_path: Path) -> None:
    """A hostile list of files writes nothing anywhere else."""
    hub.repos[NAME.repo] = Repo({"../../../out.gguf": GGUF, "/out.gguf": GGUF, "a\\..\\out.gguf": GGUF})
    assert "It is empty" in refused()
    assert not list(tmp_path.rglob("out.gguf"))


def test_two_at_a_time_fetch_once(hub: Hub) -> None:
    """A second one waits for the first and takes what it brought."""
    hub.repos[NAME.repo] = Repo({"m-Q4_K_M.gguf": GGUF})
    hub.hold = threading.Event()
    stages: list[str] = []

    def watched() -> None:
        fetch_from_hub(NAME, lambda stage, _: stages.append(stage), threading.Event())

    both = [threading.Thread(target=watched) for _ in range(2)]
    for thread in both:
        thread.start()
    until(lambda: any("waiting for another program" in stage for stage in stages))
    hub.hold.set()
    for thread in both:
        thread.join(PATIENCE_SECONDS)
    assert hub.sent == len(GGUF)
