"""What went wrong with the hub, as a sentence with a way out."""

from __future__ import annotations

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llmchat.chat.amounts import size_words
from llmchat.errors import ModelLoadError
from llmchat.files import describe
from llmchat.paths import HOME_VARIABLE
from llmchat.stores.download import CutShortError
from llmchat.stores.hub_name import HubName

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

KEPT = "What has come is kept: ask again to go on."


@contextlib.contextmanager
def explained(name: HubName) -> Iterator[None]:
    """Turn what the library raises over a model into a ModelLoadError."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise ModelLoadError(
            f"{_not_here(name)}{name.repo} is not whole in Hugging Face's cache, and HF_HUB_OFFLINE forbids to fetch "
            "it. Unset that, or see what is here with: llmchat models"
        ) from None
    except HfHubHTTPError as error:
        raise ModelLoadError(_refusal(name, error)) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _no_connection(name, error) from error
    except CutShortError as error:
        raise ModelLoadError(f"The hub broke off while it sent {name.repo}: {error}. {KEPT}") from error
    except (HFValidationError, ValueError) as error:
        raise ModelLoadError(f"{name.repo} cannot be fetched: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise ModelLoadError(disk_words(name.repo, error)) from error


def disk_words(what: str, error: OSError) -> str:
    """Why a file could not be written, and what to do."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
        return f"{what} could not be fetched: {describe(error)}. Make room; {KEPT[0].lower()}{KEPT[1:]}"
    return f"{what} could not be fetched: {describe(error)}."


def room_words(what: str, size: int, place: Path) -> str:
    """That a disk has too little room, and what to do."""
    free = size_words(shutil.disk_usage(place).free)
    return (
        f"There is too little room for {what}: {size_words(size)} are to be fetched, and {free} are free in {place}. "
        f"Make room, or choose another disk: HF_HOME is where what comes from the hub goes, {HOME_VARIABLE} all else."
    )


def _not_here(name: HubName) -> str:
    """What stands before a sentence on a name that may have been meant as a path."""
    return f"There is no file or directory {name.repo}. " if name.is_bare else ""


def _no_connection(name: HubName, error: BaseException) -> ModelLoadError:
    """There is no way to the hub, or there is none any more."""
    import httpx2
    from huggingface_hub import constants

    cause = "it did not answer in time" if isinstance(error, httpx2.TimeoutException) else "the connection failed"
    return ModelLoadError(
        f"{_not_here(name)}{name.repo} is not whole in Hugging Face's cache, and {constants.ENDPOINT} cannot be "
        f"reached: {cause}. {KEPT} What opens without a network: llmchat models"
    )


def _refusal(name: HubName, error: HfHubHTTPError) -> str:
    """What the hub's answer means."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = error.response.status_code
    page = f"{constants.ENDPOINT}/{name.repo}"
    token = "set HF_TOKEN to a token that may read it, or run: hf auth login"
    also = " either" if name.is_bare else ""
    match error:
        case GatedRepoError() if get_token():
            return (
                f"{name.repo} is gated, and your token has no access to it: accept its terms at {page} "
                "with the account of the token, then ask again."
            )
        case GatedRepoError():
            return f"{name.repo} is gated: accept its terms at {page}, then {token}"
        case RepositoryNotFoundError():
            return (
                f"{_not_here(name)}There is no model {name.repo} on the hub{also}. Look its name up at "
                f"{constants.ENDPOINT}/models; if it is a private one, {token}"
            )
        case RevisionNotFoundError():
            return f"{name.repo} has no revision {name.revision!r}. See its page: {page}"
        case RemoteEntryNotFoundError():
            return f"A file of {name.repo} is gone from the hub. See its page: {page}"
        case DisabledRepoError():
            return f"The hub has closed {name.repo}. See its page: {page}"
    if status == 401:
        return (
            f"The hub does not accept your token (HF_TOKEN, or what hf auth login stored). To read {name.repo}, {token}"
        )
    if status == 403:
        return f"The hub does not let you read {name.repo}. See {page}, or {token}"
    if status == 429:
        return (
            f"The hub asks for patience: too many requests. Wait some minutes, then ask again for {name.repo}. {KEPT}"
        )
    return f"The hub answers with the error {status} for {name.repo}. Try again later. {KEPT}"
