"""How byte-level vocabularies cut a text into words before merging, by the name a GGUF file gives.

GGUF's `tokenizer.ggml.pre` is a name for the regular expressions of the model's
original tokenizer.json; the table below holds those expressions.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Sequence, Split

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}{{1,3}}|{_MARKS}"
_QWEN2 = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}|{_MARKS}"
_QWEN35 = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED_HEAD, _CASED_TAIL = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_CASED_MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TEKKEN = rf"{_CASED_HEAD}|{_CASED_TAIL}|\p{{N}}|{_CASED_MARKS}"
_GPT4O = rf"{_CASED_HEAD}{_CONTRACTION}?|{_CASED_TAIL}{_CONTRACTION}?|\p{{N}}{{1,3}}|{_CASED_MARKS}"
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CJK = r"[一-龥\u0800-一가-\ud7ff]+"


@dataclass(frozen=True, slots=True)
class PreTokenizerRules:
    """The rules behind one `pre` name."""

    expressions: tuple[str, ...]
    """Applied one after the other; each cuts out its matches."""
    ignore_merges: bool = False
    """Whether a word that is in the vocabulary is taken whole."""
    adds_bos: bool = False
    """Whether texts begin with the begin token if the file does not say."""


_RULES = {
    ("gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "roberta-bpe", "trillion", "granite-docling", "exaone4"): (
        PreTokenizerRules((_GPT2,))
    ),
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum"): (
        PreTokenizerRules((r"\p{N}", _GPT2))
    ),
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"): (
        PreTokenizerRules((_LLAMA3,), ignore_merges=True, adds_bos=True)
    ),
    ("dbrx", "smaug-bpe", "glm4", "chatglm-bpe", "llada-moe"): PreTokenizerRules((_LLAMA3,)),
    ("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "kormo", "solar-open"): (
        PreTokenizerRules((_QWEN2,))
    ),
    ("qwen35",): PreTokenizerRules((_QWEN35,)),
    ("tekken",): PreTokenizerRules((_TEKKEN,), ignore_merges=True, adds_bos=True),
    ("gpt-4o", "llama4", "kanana2", "minimax-m2"): PreTokenizerRules((_GPT4O,)),
    ("falcon",): PreTokenizerRules((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")),
    ("default",): PreTokenizerRules((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    ("deepseek-v3", "hunyuan-dense"): PreTokenizerRules((r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK3)),
    ("deepseek-coder",): PreTokenizerRules((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}")),
}
_BY_NAME = {name: rules for names, rules in _RULES.items() for name in names}


def pre_tokenizer_rules(name: str) -> PreTokenizerRules | None:
    """The rules behind a `pre` name; None if it is not known."""
    return _BY_NAME.get(name)


def build_pre_tokenizer(rules: PreTokenizerRules) -> PreTokenizer:
    """The library's pre-tokenizer for some rules: cuts, then bytes as GPT-2's alphabet."""
    cuts: list[PreTokenizer] = [Split(Regex(expression), "isolated") for expression in rules.expressions]
    return Sequence([*cuts, ByteLevel(add_prefix_space=False, use_regex=False)])
