"""Conversations in other forms."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from llmchat.chat.export import stamp, to_json, to_markdown, to_text
from llmchat.chat.transcript import Transcript
from tests.chat.conversations import NASTY, answer, make_reply, sea_story

STAMP = (
    "temperature 0.7 · stop '\\n\\n', 'User:' · temperature → 1.2, top_k → 0 from token 1 · "
    "min_new_tokens → 700, stop → 'x', do_sample → False from token 2 · seed 8417 · 3 tokens · 41.1 tok/s · "
    "end token <|im_end|>"
)


def test_markdown_whole() -> None:
    """Headings, quotations and the stamp under a reply stand as promised."""
    transcript = sea_story()
    when = f"{transcript.created.astimezone():%Y-%m-%d %H:%M}"
    assert to_markdown(transcript) == (
        "# Tell me about the sea.\n\n"
        f"*SmolLM2 · {when}*\n\n"
        "## You\n\n> Tell me about the sea.\n\n"
        "## SmolLM2\n\n"
        "<details><summary>Thought: 1.5 s, 2 tokens</summary>\n\n```text\nSing?\n- or not\n```\n\n</details>\n\n"
        "It sings.\n\n"
        "*temperature 0.7 · stop '\\\\n\\\\n', 'User:' · temperature → 1.2, top\\_k → 0 from token 1 · "
        "min\\_new\\_tokens → 700, stop → 'x', do\\_sample → False from token 2 · seed 8417 · 3 tokens · 41.1 tok/s · "
        "end token \\<|im\\_end|>*\n\n"
        "## You\n\n> What does it sing?\n"
    )


def test_the_stamp_says_what_differs_and_what_moved() -> None:
    """A reply's settings, changes, seed, length, speed and end are on one line."""
    assert stamp(make_reply()) == STAMP
    plain = make_reply(config=type(make_reply().config)(), changes=(), finish_detail="", finish_reason="length")
    assert stamp(plain) == "default settings · seed 8417 · 3 tokens · 41.1 tok/s · length"
    assert "· 1 token ·" in stamp(replace(plain, token_ids=(3,), facts=()))


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("```python\nprint()", "\n```"),
        ("~~~~\n~~~\n", "\n~~~~"),
        ("```\ncode\n```", "\n```"),
        ("````\n```\nopen", "\n````"),
        ("```js`not a fence", "not a fence"),
        ("a <!-- b", "a <!-- b -->"),
        ("```\n<!--\n```", "\n```"),
        ("<!-- closed -->", "<!-- closed -->"),
    ],
)
def test_no_reply_swallows_the_next_turn(text: str, end: str) -> None:
    """A code block or comment that the model left open ends with its turn."""
    transcript = Transcript()
    answer(transcript, text)
    transcript.say("user", "next")
    assert to_markdown(transcript).split("\n\n*temperature")[0].endswith(end)
    assert to_markdown(transcript).endswith("## You\n\n> next\n")


def test_raw_text_is_shown_as_it_is() -> None:
    """What a base model wrote is no Markdown; its fence is longer than any in the text."""
    transcript = Transcript()
    answer(transcript, "# not a heading\n````\n", raw=True)
    assert "`````text\n# not a heading\n````\n\n`````" in to_markdown(transcript)


@pytest.mark.parametrize("text", NASTY)
def test_no_text_steers_the_terminal_or_breaks_a_form(text: str) -> None:
    """Escape sequences become visible; a person's text cannot add headings; JSON gives the text back."""
    transcript = Transcript()
    transcript.say("user", text + "\n## Fake\n```")
    answer(transcript, text)
    for form in (to_markdown(transcript), to_text(transcript)):
        assert not any(ord(char) < 32 and char not in "\n\t" for char in form)
    assert "\n## Fake" not in to_markdown(transcript)
    assert json.loads(to_json(transcript))["turns"][1]["text"] == text


def test_text_whole() -> None:
    """Plain text has each turn under its speaker, a thought apart from the answer."""
    assert to_text(sea_story()) == (
        "You:\nTell me about the sea.\n\nSmolLM2, thinking (1.5 s, 2 tokens):\nSing?\n- or not\n\n"
        "SmolLM2:\nIt sings.\n\nYou:\nWhat does it sing?\n"
    )


def test_only_the_selected_path_is_shown_and_json_has_all() -> None:
    """Markdown and text show what the window shows; JSON keeps every branch and all of a reply."""
    transcript = sea_story()
    transcript.edit(transcript.path()[0].id, "Tell me about rivers.")
    assert "sea" not in to_text(transcript) + to_markdown(transcript).split("\n", 1)[1]
    document = json.loads(to_json(transcript))
    assert len(document["turns"]) == 4
    assert document["selected"] == [transcript.leaf_id]
    reply = document["turns"][1]["reply"]
    assert reply["settings"]["temperature"] == 0.7
    assert reply["token_ids"] == [1, 22, 333]
    assert reply["changes"][0] == {"token_index": 1, "text_offset": 3, "values": {"temperature": 1.2, "top_k": 0}}


def test_an_empty_conversation_can_be_exported() -> None:
    """Nothing said gives a title and no crash."""
    assert to_markdown(Transcript()).startswith("# Conversation\n")
    assert to_text(Transcript()) == ""
    assert json.loads(to_json(Transcript()))["turns"] == []
