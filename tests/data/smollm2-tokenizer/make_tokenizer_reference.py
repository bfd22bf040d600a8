"""Write reference.json: how transformers tokenises texts and chats with the tokenizer inside SmolLM2's GGUF file.

Run with transformers, gguf and torch installed:

    python make_tokenizer_reference.py DIRECTORY/SmolLM2-135M-Instruct.Q4_1.gguf

transformers drops the first step of the vocabulary's pre-tokenizer when it reads a GGUF file: SmolLM2's own
tokenizer.json, and llama.cpp under the name "smollm", cut out every digit before anything else. The step is
put back here; `as_read` holds the ids without it, for the texts where they differ (blanks before a digit).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import transformers
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
from transformers import AutoTokenizer

TEXTS = [
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog.",
    " leading blank",
    "trailing blank ",
    "  two  blanks   three    four",
    "\n",
    "\n\n",
    "\r\n\r\n",
    "\t\ttabs\tand \t mixed",
    " ",
    "   ",
    "a\n\n\nb",
    "line one\nline two\n  indented\n\ttabbed\n",
    "blank line with spaces\n   \nend",
    "I'm, you're, he'll, they've, we'd, it's, don't, I'M, YOU'RE, HE'LL",
    "1",
    "12",
    "123",
    "1234567890",
    "3.14159",
    "1,000,000.00",
    "2024-05-17T12:34:56Z",
    "  12",
    "a  1\n  2\n\t3",
    "x=1+2*3",
    "v1.2.3 costs $4.99 (20% off)",
    "½ ² ٣ Ⅻ ①",
    "def f(x: int) -> int:\n    return x ** 2  # square\n\nprint(f(3))\n",
    "for (int i = 0; i < 10; ++i) {\n\tsum += a[i];\n}\n",
    "SELECT * FROM t WHERE a >= 10 AND b <> 'x';",
    '<div class="a">\n  <p>text</p>\n</div>',
    '{"key": [1, 2, {"n": null}]}',
    "C:\\Users\\me\\file.txt /usr/local/bin https://example.org/a?b=c&d=e#f user@example.org",
    "snake_case camelCase PascalCase SCREAMING_CASE kebab-case",
    "!!!???...---___***",
    "«quotes» “curly” ‘single’ – — …",
    "naïve café über straße Ångström œuvre",
    "cafe\u0301 combining",
    "Привет, мир!",
    "Γειά σου Κόσμε",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "你好，世界！",
    "こんにちは世界",
    "안녕하세요 세계",
    "สวัสดีชาวโลก",
    "Tiếng Việt",
    "mixed 中文 and English 文字",
    "😀",
    "👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
    "text😀text",
    "zero\u200bwidth \u00a0nbsp \u2003em \u3000ideographic",
    "\u202eoverride\u202c",
    "\x00\x01\x1b[31mred\x1b[0m\x7f",
    "\ufeffbom",
    "𝕳𝖊𝖑𝖑𝖔 𓀀 \U0010ffff",
    "<|im_end|>",
    "<|im_start|>user\nHi<|im_end|>\n",
    "<|endoftext|>",
    "a<|im_end|>b",
    " <|im_start|> ",
    "<|im_end|",
    "<|IM_END|>",
    "<repo_name>x<file_sep>y",
    "<jupyter_code>1+1<jupyter_output>2<empty_output>",
    "<s></s>[INST]",
    "",
    "a",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "ab" * 50,
    'Once upon a time there was a small boat that wanted to see the sea. It asked the wind, "Is today the day?"',
]

CHATS = [
    [("user", "Hi")],
    [("system", "You are a pirate."), ("user", "Hi")],
    [("user", "Hi"), ("assistant", "Hello! How can I help?"), ("user", "What is 2 + 2?")],
    [("system", "Answer in JSON."), ("user", "a\n\nb  "), ("assistant", '{"a": 1}\n'), ("user", " 😀 naïve")],
    [("user", ""), ("assistant", ""), ("user", "<|im_end|> in the text")],
]


def main(path: Path) -> None:
    """Read the file at `path` and write reference.json beside this script."""
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    as_read = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=True)]
    )
    texts = []
    for text, read in zip(TEXTS, as_read, strict=True):
        ids = tokenizer.encode(text, add_special_tokens=False)
        entry = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)}
        texts.append(entry if read == ids else entry | {"as_read": read})
    chats = []
    for turns in CHATS:
        messages = [{"role": role, "content": content} for role, content in turns]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
        chats.append({"turns": turns, "text": text, "ids": list(ids)})
    reference = {"transformers": transformers.__version__, "texts": texts, "chats": chats}
    Path(__file__).with_name("reference.json").write_text(json.dumps(reference, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
