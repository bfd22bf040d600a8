"""How vocabularies cut a text into words before merging, by the name a GGUF file gives.

GGUF's `tokenizer.ggml.pre` is a name for the regular expressions of the model's original tokenizer.json. The table
holds those expressions for every name that llama.cpp knows (`llama-vocab.cpp`, November 2026); where it had to change
them for its own engine, as they were before. Left out is "whitespace": only models that give vectors have it.
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
_KANA = r"[一-龥぀-ゟ゠-ヿ]+"
_DEEPSEEK_LETTERS = (
    "["
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481"
    "\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b"
    "\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b"
    "\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df"
    "\U0001e900-\U0001e943"
    "]+"
)
_DEEPSEEK_MARKS = "[!-/:-~！-／：-～‘-‟\u3000-。]+"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
_LINES = r"[^\n]+|[\n]+"
_THREES = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"
"""Digits in groups of three, counted from the last."""
_JAIS2 = (
    _LLAMA3.removesuffix(r"|\s+(?!\S)|\s+")
    + "".join(rf"|\s{{{size}}}(?!\S)" for size in ("512", "256", "128", "64", "32", "16", "8", "4", "1,2"))
    + r"|\s"
)
_KIMI_HEAD = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_KIMI_TAIL = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_KIMI = (
    rf"\p{{Han}}+|{_KIMI_HEAD}*{_KIMI_TAIL}+{_CONTRACTION}?|{_KIMI_HEAD}+{_KIMI_TAIL}*{_CONTRACTION}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
_SEED = rf"{_CONTRACTION}|{_WORDS}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+|\s*[\r\n]+|\s+(?!\S)|\s+"
_EXAONE_MOE = (
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
)
_YOUTU = r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+"
_YOUTU_WORDS = rf"{_CASED_HEAD}{_CONTRACTION}?|{_CASED_TAIL}{_CONTRACTION}?|\p{{N}}|{_CASED_MARKS}"
_ASIAN = (
    r"[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f"
    r"\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)


@dataclass(frozen=True, slots=True)
class PreTokenizerRules:
    """The rules behind one `pre` name."""

    expressions: tuple[str, ...]
    """Applied one after the other; each cuts out its matches."""
    ignore_merges: bool = False
    """Whether a word that is in the vocabulary is taken whole."""
    adds_bos: bool = False
    """Whether texts begin with the begin token if the file does not say."""
    in_bytes: bool = True
    """Whether pieces are bytes in GPT-2's alphabet, not characters with U+2581 for blanks."""


_RULES = {
    (
        *(
            "gpt-2",
            "gpt2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "gigachat",
            "a.x-4.0",
        ),
        *("mellum", "roberta-bpe", "modern-bert", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de"),
        "jina-v2-code",
    ): PreTokenizerRules((_GPT2,)),
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"): (
        PreTokenizerRules((r"\p{N}", _GPT2))
    ),
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"): (
        PreTokenizerRules((_LLAMA3,), ignore_merges=True, adds_bos=True)
    ),
    ("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"): PreTokenizerRules((_LLAMA3,)),
    ("minicpm5",): PreTokenizerRules((r"\p{N}{1,3}", _LLAMA3.replace("{1,3}", "+")), ignore_merges=True),
    ("jais-2",): PreTokenizerRules((_JAIS2,)),
    (
        *("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez", "kormo", "solar-open", "f2llmv2", "grok-2"),
    ): PreTokenizerRules((_QWEN2,)),
    ("qwen35",): PreTokenizerRules((_QWEN35,)),
    ("ufakzeka",): PreTokenizerRules((_QWEN2.removeprefix(f"{_CONTRACTION}|"),)),
    ("laguna",): PreTokenizerRules((_LINES, _QWEN2)),
    ("seed-coder",): PreTokenizerRules((_SEED,)),
    ("bailingmoe", "bailingmoe2", "llada-moe"): PreTokenizerRules((_BAILING,)),
    ("exaone-moe",): PreTokenizerRules((_EXAONE_MOE,)),
    ("tekken",): PreTokenizerRules((_TEKKEN,), ignore_merges=True, adds_bos=True),
    ("gpt-4o", "llama4", "kanana2", "minimax-m2", "talkie"): PreTokenizerRules((_GPT4O,)),
    ("granite-embed-multi-97m",): PreTokenizerRules((_GPT4O,), ignore_merges=True),
    ("tiny_aya", "cohere2moe"): PreTokenizerRules((r"\d{1,3}(?=(?:\d{3})*\b)", _GPT4O)),
    ("kimi-k2",): PreTokenizerRules((_KIMI,)),
    ("youtu",): PreTokenizerRules((_YOUTU, _YOUTU_WORDS), ignore_merges=True),
    ("superbpe",): PreTokenizerRules((r"\p{N}+", r"(?=(\d{3})+(?!\d))")),
    ("falcon",): PreTokenizerRules((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")),
    ("default",): PreTokenizerRules((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    ("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"): PreTokenizerRules((r"\p{N}{1,3}", _KANA, _DEEPSEEK3)),
    ("spark2_5",): (
        PreTokenizerRules((r"\p{N}{1,3}", _KANA, _DEEPSEEK3.replace(r"+[\r\n]*|\s*[\r\n]+", r"+|[\r\n]"), r"\p{N}"))
    ),
    ("afmoe",): PreTokenizerRules((_THREES, _ASIAN, _DEEPSEEK3)),
    ("deepseek-llm",): (
        PreTokenizerRules((r"[\r\n]", rf"\s?{_DEEPSEEK_LETTERS}", rf"\s?{_DEEPSEEK_MARKS}", r"\s+$", _CJK, r"\p{N}+"))
    ),
    ("deepseek-coder",): PreTokenizerRules((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}")),
    ("bloom", "poro-chat", "gpt3-finnish"): PreTokenizerRules((_BLOOM,)),
    ("viking",): PreTokenizerRules((_BLOOM, r"\p{N}")),
    ("chameleon",): PreTokenizerRules(
        (
            *("<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", r"([\t\n]|    |  )", r"\p{N}"),
            *(r"[\p{P}!-/:-@\[-`{-~]", _GPT2),
        ),
        adds_bos=True,
    ),
    ("gemma4", "granite-embed-multi-311m"): PreTokenizerRules(
        (_LINES,), ignore_merges=True, adds_bos=True, in_bytes=False
    ),
    ("sarvam-moe",): PreTokenizerRules((_LINES,), in_bytes=False),
}
_BY_NAME = {name: rules for names, rules in _RULES.items() for name in names}


def pre_tokenizer_rules(name: str) -> PreTokenizerRules | None:
    """The rules behind a `pre` name; None if it is not known."""
    return _BY_NAME.get(name)


def build_pre_tokenizer(rules: PreTokenizerRules) -> PreTokenizer:
    """The library's pre-tokenizer for some rules: cuts, then bytes as GPT-2's alphabet where the pieces are such."""
    cuts: list[PreTokenizer] = [Split(Regex(expression), "isolated") for expression in rules.expressions]
    return Sequence([*cuts, ByteLevel(add_prefix_space=False, use_regex=False)] if rules.in_bytes else cuts)
