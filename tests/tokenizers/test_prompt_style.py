"""From turns to prompt ids: templates, generated replies by their own ids, system turns, stop strings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.turn import Reply, Role, Turn
from llmchat.errors import GenerationError, ModelLoadError
from llmchat.tokenizers.chat_templates import BUILT_IN_TEMPLATES
from llmchat.tokenizers.gguf_vocab import load_gguf_vocab
from llmchat.tokenizers.loading import load_tokenizer
from llmchat.tokenizers.prompt_messages import message_of
from llmchat.tokenizers.prompt_style import PromptStyle, load_prompt_style
from llmchat.tokenizers.readable import readable_prompt
from llmchat.tokenizers.tokenizer import Tokenizer
from tests.tokenizers.vocabularies import TINY, PieceTokenizer, byte_level_metadata, llama_metadata

ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] | trim }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """A byte-level vocabulary with ChatML's tokens."""
    return load_gguf_vocab(byte_level_metadata()).tokenizer


@pytest.fixture(scope="module")
def llama() -> Tokenizer:
    """A SentencePiece vocabulary with byte pieces, which begins texts with <s>."""
    return load_gguf_vocab(llama_metadata()).tokenizer


def _turns(*said: tuple[Role, str]) -> list[Turn]:
    return [Turn(role, text) for role, text in said]


def _generated(text: str, token_ids: Sequence[int], *, prefill_text: str = "") -> Turn:
    """An assistant turn as the engine leaves it."""
    reply = Reply(
        text, tuple(token_ids), "stop", "", GenerationConfig(), 1,
        prefill_text=prefill_text,
    )  # fmt: skip
    return Turn("assistant", text, reply=reply)


def _contains(ids: Sequence[int], part: Sequence[int]) -> bool:
    return any(list(ids[at : at + len(part)]) == list(part) for at in range(len(ids)))


CHAT = _turns(("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "chatml",
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
        ("llama2", "<s>[INST] Hi [/INST] Hello. </s><s>[INST] Bye [/INST]"),
        (
            "llama3",
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        ("plain", "User: Hi\nAssistant: Hello.\nUser: Bye\nAssistant:"),
    ],
)
def test_built_in_styles(llama: Tokenizer, name: str, text: str) -> None:
    """Each built-in style writes a chat in its published form."""
    assert load_prompt_style(name, llama).render(CHAT) == text


def test_system_turns_of_built_in_styles(llama: Tokenizer) -> None:
    """Every built-in style has a place for the system's words."""
    turns = _turns(("system", "Be brief."), ("user", "Hi"))
    assert load_prompt_style("llama2", llama).render(turns) == "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]"
    assert load_prompt_style("plain", llama).render(turns) == "Be brief.\n\nUser: Hi\nAssistant:"
    for name in BUILT_IN_TEMPLATES:
        assert load_prompt_style(name, llama).render(turns).count("Be brief.") == 1


def test_system_turn_without_a_place_goes_into_the_first_user_turn(byte_level: Tokenizer) -> None:
    """Templates that refuse or ignore a system turn still get its words."""
    turns = _turns(("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes"), ("user", "Ok"))
    refusing = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "({{ m.content }}){% endfor %}"
    )
    ignoring = "{% for m in messages if m.role != 'system' %}({{ m.content }}){% endfor %}"
    for template in (refusing, ignoring):
        assert PromptStyle(template, byte_level).render(turns) == "(Be brief.\n\nHi)(Yes)(Ok)"
    assert PromptStyle(refusing, byte_level).render(turns[:1]) == "(Be brief.)"


def test_neighbouring_user_turns_are_merged_where_roles_must_alternate(byte_level: Tokenizer) -> None:
    """A chat whose reply failed or was deleted can go on with strict templates."""
    style = PromptStyle(ALTERNATING, byte_level)
    assert style.render(_turns(("user", "a"), ("user", "b"))) == "[user]a\n\nb[assistant]"
    with pytest.raises(GenerationError, match="roles must alternate"):
        style.render(_turns(("assistant", "a"), ("user", "b")))


def test_encode_is_the_rendered_text(byte_level: Tokenizer) -> None:
    """Without generated replies the ids are those of the text, control tokens parsed."""
    style = load_prompt_style("chatml", byte_level)
    ids = style.encode(CHAT)
    assert ids == byte_level.encode(style.render(CHAT), parse_special=True)
    assert ids[0] == 1
    assert readable_prompt(byte_level, ids) == style.render(CHAT)


def test_generated_replies_keep_their_ids(byte_level: Tokenizer) -> None:
    """A reply that tokenising again would change goes in as it was drawn."""
    drawn = [token_id for char in "hello" for token_id in byte_level.encode(char)]
    assert drawn != byte_level.encode("hello")
    turns = [CHAT[0], _generated("hello", drawn), CHAT[2]]
    style = load_prompt_style("chatml", byte_level)
    assert _contains(style.encode(turns), drawn)
    assert readable_prompt(byte_level, style.encode(turns)) == style.render(turns)


@pytest.mark.parametrize("name", list(BUILT_IN_TEMPLATES))
@pytest.mark.parametrize("kind", ["byte_level", "llama", "tiny"])
@pytest.mark.parametrize("prefill_text", ["", "Sure"])
def test_a_prompt_grows_at_its_end(request: pytest.FixtureRequest, name: str, kind: str, prefill_text: str) -> None:
    """The next prompt begins with the last prompt and its reply, id by id, so that the KV cache is reused."""
    tokenizer = load_tokenizer(TINY) if kind == "tiny" else request.getfixturevalue(kind)
    style = load_prompt_style(name, tokenizer)
    turns = _turns(("system", "Be brief."), ("user", "Hi there"))
    for said in (" the end.", " she said hello"):
        prompt = style.encode(turns, prefill_text=prefill_text)
        drawn = tokenizer.encode(said) if kind != "llama" else tokenizer.encode(said)[1:]
        text = prefill_text + tokenizer.decode(drawn) if prefill_text else tokenizer.decode(drawn).lstrip()
        turns += [_generated(text, drawn, prefill_text=prefill_text), Turn("user", "Go on")]
        following = style.encode(turns)
        assert following[: len(prompt) + len(drawn)] == [*prompt, *drawn]


def test_continued_replies_grow_too(byte_level: Tokenizer) -> None:
    """A reply in two halves stands as one in the next prompt."""
    style = load_prompt_style("chatml", byte_level)
    first, second = byte_level.encode("hel"), byte_level.encode("lo you")
    prompt = style.encode(CHAT, continued_ids=first)
    assert prompt[-len(first) :] == first
    turns = [*CHAT, _generated("hello you", [*first, *second]), Turn("user", "Ok")]
    assert style.encode(turns)[: len(prompt) + len(second)] == [*prompt, *second]


def test_edited_replies_go_in_as_text(byte_level: Tokenizer) -> None:
    """Ids that no longer say what the turn says are not used; nor are those of another vocabulary."""
    style = load_prompt_style("chatml", byte_level)
    for ids in (byte_level.encode("goodbye"), [250, 251, 252], [10**6], []):
        turns = [CHAT[0], _generated("hello", ids), CHAT[2]]
        assert style.encode(turns) == byte_level.encode(style.render(turns), parse_special=True)


def test_a_stop_string_does_not_come_back(byte_level: Tokenizer) -> None:
    """Ids that ran into a stop string are used up to it, and the rest of the text is written out."""
    drawn = byte_level.encode("hello you\nUser:")
    style = load_prompt_style("plain", byte_level)
    for text in ("hello you", "hello", "hel"):
        turns = [CHAT[0], _generated(text, drawn), CHAT[2]]
        assert readable_prompt(byte_level, style.encode(turns)) == style.render(turns)
    assert _contains(style.encode([CHAT[0], _generated("hello you", drawn), CHAT[2]]), byte_level.encode("hello you"))


def test_a_cut_inside_a_split_character_loses_nothing() -> None:
    """Where a token holds half a character and the start of a stop string, the character goes in as text."""
    tokenizer = PieceTokenizer([b"hello ", b"\xe6", b"\xbc\xa2STOP"])
    message = message_of(_generated("hello 漢", [0, 1, 2]), tokenizer, "mark")
    assert (message.token_ids, message.tail) == ((0,), "漢")
    assert message.body + message.tail == "hello 漢"


def test_templates_that_drop_part_of_a_reply(byte_level: Tokenizer) -> None:
    """Where a template leaves thoughts out of earlier replies, ids must not bring them back."""
    style = PromptStyle(THINKING, byte_level)
    thoughtful = _generated("<think>hm</think>hello", byte_level.encode("<think>hm</think>hello"))
    drawn = [token_id for char in "hello" for token_id in byte_level.encode(char)]
    turns = [CHAT[0], thoughtful, CHAT[0], _generated("hello", drawn), CHAT[2]]
    text = readable_prompt(byte_level, style.encode(turns))
    assert text == style.render(turns)
    assert "hm" not in text
    assert _contains(style.encode(turns), drawn)


def test_one_reply_that_is_treated_otherwise_costs_the_others_nothing(byte_level: Tokenizer) -> None:
    """Of many replies all others keep their ids, and the template is not asked once for each."""
    source = "{% for m in messages %}{{ m.content | replace('secret', '***') }} {% endfor %}"
    style = PromptStyle(source, byte_level)
    drawn = [token_id for char in "hello" for token_id in byte_level.encode(char)]
    turns = [turn for _ in range(64) for turn in (CHAT[0], _generated("hello", drawn))]
    turns[41] = _generated("secret", [one for char in "secret" for one in byte_level.encode(char)])
    asked = 0

    def counting(*arguments: Any, **values: Any) -> str:
        nonlocal asked
        asked += 1
        return render(*arguments, **values)

    render = style._template.render
    style._template.render = counting  # type: ignore[method-assign]
    ids = style.encode([*turns, CHAT[2]])
    assert readable_prompt(byte_level, ids) == style.render([*turns, CHAT[2]])
    assert sum(ids[at : at + len(drawn)] == drawn for at in range(len(ids))) == 63
    assert asked < 30


def test_templates_that_repeat_or_hide_replies(byte_level: Tokenizer) -> None:
    """A reply that does not come back exactly once goes in as text."""
    turns = [CHAT[0], _generated("hello", byte_level.encode("hello")), CHAT[2]]
    for template in ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "{{ messages[-1].content }}"):
        style = PromptStyle(template, byte_level)
        assert readable_prompt(byte_level, style.encode(turns)) == style.render(turns)


def test_bos_comes_exactly_once(llama: Tokenizer) -> None:
    """A template that writes <s> gets no second one; one that does not gets the one its model wants."""
    assert load_prompt_style("llama2", llama).encode(CHAT)[:2].count(1) == 1
    assert load_prompt_style("chatml", llama).encode(CHAT)[:2].count(1) == 1
    assert PromptStyle("{{ bos_token }}{{ bos_token }}{{ messages[-1].content }}", llama).encode(CHAT)[:2].count(1) == 1
    never = load_gguf_vocab(llama_metadata(add_bos_token=False)).tokenizer
    assert 1 not in load_prompt_style("chatml", never).encode(CHAT)


def test_prefill_stands_where_it_will_stand_later(llama: Tokenizer) -> None:
    """The start that the person wrote follows the template's own spacing."""
    assert load_prompt_style("plain", llama).render(CHAT, prefill_text="Sure").endswith("\nAssistant: Sure")
    assert load_prompt_style("chatml", llama).render(CHAT, prefill_text="Sure").endswith("<|im_start|>assistant\nSure")
    only_users = PromptStyle("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}>", llama)
    assert only_users.render(CHAT, prefill_text="Sure") == "HiBye>Sure"


def test_stop_strings_are_read_off_the_template(byte_level: Tokenizer) -> None:
    """What a person's turn begins with ends a reply, unless a control token does."""
    assert load_prompt_style("plain", byte_level).stop_strings == ("\nUser:",)
    assert load_prompt_style("chatml", byte_level).stop_strings == ()
    assert load_prompt_style("llama3", byte_level).stop_strings == ("<|eot_id|>",)
    alpaca = "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}"
    assert PromptStyle(alpaca, byte_level).stop_strings == ("\n\n### user:",)
    assert PromptStyle("{{ messages[-1].content }}", byte_level).stop_strings == ()
    assert PromptStyle("{{ raise_exception('no') }}", byte_level).stop_strings == ()


def test_the_token_behind_replies_ends_them(byte_level: Tokenizer) -> None:
    """A control token that the template writes right after a reply is read off the template, whatever its name."""
    named = byte_level_metadata()
    named["tokenizer.ggml.tokens"][2] = "<|fin|>"
    tokenizer = load_gguf_vocab(named).tokenizer
    fin = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}\n <|fin|>{% endfor %}"
    assert PromptStyle(fin, tokenizer).end_ids == (2,)
    assert load_prompt_style("chatml", byte_level).end_ids == (2,)
    assert load_prompt_style("plain", byte_level).end_ids == ()
    begun = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}"
    assert PromptStyle(begun, byte_level).end_ids == (1,)
    assert PromptStyle("{{ raise_exception('no') }}", byte_level).end_ids == ()


PARTS = (
    "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}"
    "{% endif %}{% endfor %}{% endfor %}"
)


def test_templates_that_take_what_is_said_in_parts(byte_level: Tokenizer) -> None:
    """Templates of models that see pictures get a list of parts where a text alone would vanish."""
    turns = _turns(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"))
    style = PromptStyle(PARTS, byte_level)
    assert style.render(turns) == "[system]Be brief.[user]Hi[assistant]Hello.[user]Bye"
    assert readable_prompt(byte_level, style.encode(turns)) == style.render(turns)
    drawn = [token_id for char in "hello" for token_id in byte_level.encode(char)]
    assert _contains(style.encode([CHAT[0], _generated("hello", drawn), CHAT[2]]), drawn)


def test_each_role_gets_the_form_that_it_is_read_in(byte_level: Tokenizer) -> None:
    """A template may take questions in parts, and answers and the system prompt as texts."""
    mixed = (
        "{% for m in messages %}[{{ m.role }}]{% if m.role == 'user' %}{{ m.content[0].text }}"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    )
    turns = _turns(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"))
    assert PromptStyle(mixed, byte_level).render(turns) == "[system]Be brief.[user]Hi[assistant]Hello.[user]Bye"


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}[{{ m.role }}]{{ m.contnet }}{% endfor %}",
        "{% for m in messages %}{{ m.text }}{% endfor %}",
        "{% for m in messages if m.role == 'human' %}{{ m.content }}{% endfor %}",
        "{{ messages[0].content }}",
        "Once upon a time",
    ],
)
def test_templates_that_lose_what_is_said_are_refused(byte_level: Tokenizer, template: str) -> None:
    """A misspelt field or role would send a prompt without the person's words."""
    with pytest.raises(GenerationError, match="leaves out what you say"):
        PromptStyle(template, byte_level).encode(CHAT)


def test_templates_that_lose_the_system_prompt_in_some_chats_are_refused(byte_level: Tokenizer) -> None:
    """One that shows it in short chats only would drop it without a word."""
    short = "{% for m in messages if m.role != 'system' or messages | length < 3 %}{{ m.content }}{% endfor %}"
    turns = _turns(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye"))
    style = PromptStyle(short, byte_level)
    assert style.encode(turns[:2])
    with pytest.raises(GenerationError, match="leaves out the system prompt"):
        style.encode(turns)


def test_templates_may_change_what_is_said(byte_level: Tokenizer) -> None:
    """Other letters and blanks are no loss."""
    for change in ("upper", "replace('i', 'j')", "trim", "replace(' ', '_')"):
        turns = _turns(("user", "  this is it "))
        assert PromptStyle("{{ messages[-1].content | " + change + " }}", byte_level).encode(turns)


def test_stop_strings_as_the_vocabulary_writes_them() -> None:
    """A vocabulary without capitals and line breaks has its own form of a stop string."""
    assert load_prompt_style("plain", load_tokenizer(TINY)).stop_strings == ("\nUser:", " user:")


def test_styles_come_from_names_files_and_templates(byte_level: Tokenizer, tmp_path: Path) -> None:
    """A style can be named, written out, or kept in a Jinja or JSON file."""
    template = "{{ messages[0].content }}!"
    named = [{"name": "tool", "template": ""}, {"name": "default", "template": template}]
    files = {
        "a.jinja": template,
        "b.json": json.dumps({"chat_template": template}),
        "c.json": json.dumps({"chat_template": named}),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        assert load_prompt_style(tmp_path / name, byte_level).render(CHAT) == "Hi!"
    assert load_prompt_style(template, byte_level).render(CHAT) == "Hi!"


def test_unknown_styles_are_one_clear_error(byte_level: Tokenizer, tmp_path: Path) -> None:
    """A name that means nothing, a directory, and files that hold no template say what would."""
    for given in ("chatlm", tmp_path, "a\0b"):
        with pytest.raises(ModelLoadError, match="chatml, llama2, llama3, plain"):
            load_prompt_style(given, byte_level)
    for text in ("{}", "[", '{"chat_template": []}', '{"chat_template": 3}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ModelLoadError, match="holds no chat template"):
            load_prompt_style(tmp_path / "bad.json", byte_level)
    (tmp_path / "bad.jinja").write_text("{% if %}")
    with pytest.raises(ModelLoadError, match=r"bad\.jinja is not valid"):
        load_prompt_style(tmp_path / "bad.jinja", byte_level)
