"""A network that transformers builds: opened from a directory, and run on ids."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from llmchat.engine.extras.transformers_cache import BROKEN, RewindableCache
from llmchat.errors import ModelLoadError

Reading = Literal["pieces", "tokens", "anew"]
"""What may follow what a cache holds: several tokens at once, one at a time, or nothing."""

_CACHE_NAMES = ("cache", "past_key_values", "cache_params")
"""What models call their cache, by their age."""
_PROBE = tuple(range(3, 120, 9))
_BEGUN = 4
_FAILURES = (ValueError, OSError, ImportError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError)
"""What transformers raises for a model that it cannot open, or whose cache it cannot go on with."""


class TransformersModel:
    """A causal language model of transformers."""

    def __init__(self, model: Any) -> None:
        """A model that is on its device."""
        self._model = model
        self._device = next(model.parameters()).device
        accepted = inspect.signature(model.forward).parameters
        wanted = {"logits_to_keep": 1, "use_cache": False}
        self._options: dict[str, Any] = {name: value for name, value in wanted.items() if name in accepted}
        self._cache_name = next((name for name in _CACHE_NAMES if name in accepted), "")
        self.weight_bytes: int = sum(weights.nbytes for weights in model.parameters())
        self.parameter_count: int = sum(weights.numel() for weights in model.parameters())
        self.vocab_size = 0
        self.position_bytes = 0
        """What each position adds to the cache."""
        self.reading: Reading = self._probe()

    @torch.inference_mode()
    def logits(self, texts: Sequence[Sequence[int]], cache: RewindableCache | None = None) -> Tensor:
        """Logits behind some texts, shape (texts, vocab_size).

        Args:
            texts: Ids, of every text as many; with a cache only those that it does not hold.
            cache: Holds what comes before, and then these too; None if nothing does.
        """
        options = dict(self._options)
        length = 0
        if cache is not None:
            options |= {self._cache_name: cache.inner, "use_cache": True}
            # Unless it comes back, some layers may have read it and others not.
            length, cache.length = cache.length, BROKEN
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Tensor = self._model(input_ids=torch.tensor(texts, device=self._device), **options).logits
        if cache is not None:
            cache.length = length + len(texts[0])
        return found[:, -1].float()

    def make_cache(self) -> RewindableCache:
        """An empty cache."""
        from transformers import DynamicCache

        return RewindableCache(lambda: DynamicCache(config=self._model.config))

    def _probe(self) -> Reading:
        """Find out what may follow what a cache holds, by comparing with a text that is read at once.

        Not every network of transformers looks at its cache when it is given several tokens, or at all.
        """
        whole, without_beginning = self.logits([_PROBE]), self.logits([_PROBE[_BEGUN:]])
        self.vocab_size = whole.shape[-1]
        try:
            by_tokens, by_pieces = self._error(whole, 1), self._error(whole, len(_PROBE))
        except _FAILURES:
            return "anew"
        tolerance = float(whole.max() - whole.min()) * torch.finfo(self._model.dtype).eps ** 0.5
        effect = float((without_beginning - whole).abs().max())
        if not by_tokens <= min(tolerance, effect / 8):
            return "anew"
        return "pieces" if by_pieces <= max(8 * by_tokens, tolerance / 64) else "tokens"

    def _error(self, whole: Tensor, step: int) -> float:
        """How far the logits are from the whole text's where its beginning is read first, and the rest in steps."""
        cache = self.make_cache()
        found = self.logits([_PROBE[:_BEGUN]], cache)
        size = cache.size
        for start in range(_BEGUN, len(_PROBE), step):
            found = self.logits([_PROBE[start : start + step]], cache)
        self.position_bytes = (cache.size - size) // (len(_PROBE) - _BEGUN)
        return float((found - whole).abs().max())


def load_model(path: Path, described: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> TransformersModel:
    """Open the model of a directory, from its own files alone.

    Args:
        path: The directory.
        described: Its config.json.
        device: Where it is to run.
        dtype: What it is to compute in.

    Raises:
        ModelLoadError: It is no causal language model that transformers knows, or is damaged.
    """
    # Before the import, which reads it: kernels would be fetched from the hub.
    os.environ.setdefault("USE_HUB_KERNELS", "NO")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from transformers import AutoModelForCausalLM, logging

            logging.set_verbosity_error()
            logging.disable_progress_bar()
            _check_kind(path, described)
            model, report = AutoModelForCausalLM.from_pretrained(
                path, local_files_only=True, trust_remote_code=False, dtype=dtype, output_loading_info=True
            )
            _check_whole(path, report)
            return TransformersModel(model.eval().requires_grad_(False).to(device))
        except _FAILURES as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ModelLoadError(f"{path} cannot be run with transformers: {reason}") from error


def _check_kind(path: Path, described: Mapping[str, Any]) -> None:
    """Refuse what is no causal language model, and what only comes with code of its own."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = described.get("model_type")
    if kind not in CONFIG_MAPPING_NAMES and "auto_map" in described:
        raise ModelLoadError(f"{path} brings its network as Python code, which llmchat never runs.")
    if kind not in CONFIG_MAPPING_NAMES:
        import transformers

        raise ModelLoadError(
            f"{path} is a model of the type {str(kind)[:40]!r}, which transformers {transformers.__version__} "
            "does not know either. A newer one may: pip install -U transformers"
        )
    named = described.get("architectures") or [""]
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind, "")
    wraps = str(named[0]).endswith("ForConditionalGeneration") and not described.get("is_encoder_decoder")
    if not causal or (named[0] not in ("", causal) and not wraps):
        what = named[0] or kind
        raise ModelLoadError(f"{path} is a {str(what)[:60]}, which is no language model that continues a text.")


def _check_whole(path: Path, report: Mapping[str, Any]) -> None:
    """Refuse a directory without all of the network's parameters, which transformers would make up."""
    missing = sorted(map(str, report.get("missing_keys") or ()))
    if missing:
        raise ModelLoadError(f"{path} is incomplete: the tensor {missing[0]!r} is missing.")
