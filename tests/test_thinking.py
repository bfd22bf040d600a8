"""Replies of models that think before they answer, from the model's file to what is printed, kept and made again."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event as Flag

import pytest

from llmchat.chat.archive import read_transcript
from llmchat.chat.generation_config import GenerationConfig
from llmchat.chat.model import ModelSpec
from llmchat.chat.turn import Reply, Turn
from llmchat.engine.engine import Engine
from llmchat.engine.generation import ReplyStream
from llmchat.engine.opening import open_engine
from llmchat.engine.prompt import build_prompt
from tests.program import Here, run_program
from tests.spelled_model import END, HARMONY, OPENING, QWEN, THOUGHT, spell

GREEDY = GenerationConfig(do_sample=False, repetition_penalty=1.0)
ONCE = ("--once", "--greedy", "--prompt", "hi")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that opens its thought itself."""
    path = tmp_path_factory.mktemp("models") / "qwen.gguf"
    spell(path, THOUGHT, QWEN)
    return path


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template opens the thought."""
    path = tmp_path_factory.mktemp("models") / "opened.gguf"
    spell(path, THOUGHT[2:], OPENING)
    return path


def engine_of(path: Path) -> Engine:
    """The model in a file, open."""
    return open_engine(ModelSpec(str(path)), lambda stage, fraction: None, Flag())


def reply_to(engine: Engine, *, prefill: str = "", script: tuple[str, ...] = (), **values: object) -> Reply:
    """A reply to "hi", token by token as a script says, or as the model has it."""
    config = GREEDY.changed(**values)
    prompt = build_prompt(engine, [Turn("user", "hi")], prefill_text=prefill, template_args=config.template_args)
    ids = [engine.tokenizer.find(piece) or engine.tokenizer.encode(piece)[0] for piece in script]
    stream = ReplyStream(engine, prompt, lambda _: config, 1, forced=tuple(enumerate(ids)))
    stream.prefill()
    list(stream)
    return stream.reply()


def test_once_prints_the_answer_and_the_thought_only_if_asked(qwen: Path, opened: Path) -> None:
    """The answer alone; with the flag the thought too, between marks that are the same for every model."""
    for model in (qwen, opened):
        assert run_program(*ONCE, "--model", model) == (0, "It is blue.\n", "")
    shown = "<think>\nLet me see.\n- a list\n</think>\n\nIt is blue.\n"
    for model in (qwen, opened):
        assert run_program(*ONCE, "--model", model, "--show-thinking").out == shown


def test_json_has_the_thought_in_a_field_of_its_own(here: Here, opened: Path) -> None:
    """Text, thought, and how many of the tokens were the thought's; steps part them too."""
    value = json.loads(here(*ONCE, "--model", opened, "--json").out)
    assert (value["text"], value["thinking"]) == ("It is blue.", "Let me see.\n- a list")
    assert value["usage"]["generated_tokens"] == len(value["token_ids"]) == 9
    assert value["usage"]["thinking_tokens"] == 6
    *steps, end = map(json.loads, here(*ONCE, "--model", opened, "--jsonl").out.splitlines())
    assert "".join(step["thinking"] for step in steps) == end["thinking"] == value["thinking"]
    assert "".join(step["text"] for step in steps) == value["text"]


def test_a_reply_that_ends_in_its_thought_says_so(here: Here, opened: Path, tmp_path: Path) -> None:
    """The answer is empty, the thought is kept as it is, and going on closes it."""
    file = tmp_path / "c.toml"
    done = here(*ONCE, "--model", opened, "-n", "3", "--save", file)
    assert done.out == "\n" and "still thinking" in done.err
    (reply,) = (turn.reply for turn in read_transcript(file)[0].path() if turn.reply)
    assert reply.thought.is_open and reply.thought.text == "Let me see.\n- a" and reply.text == ""
    assert reply.thought.tokens == 3
    assert here(*ONCE, "--model", opened, "-n", "3", "--show-thinking").out == "<think>\nLet me see.\n- a\n"


def test_past_thoughts_are_not_sent_back_and_replay_is_exact(here: Here, qwen: Path, tmp_path: Path) -> None:
    """What was thought is kept in the file, apart; the template leaves it out, and every token comes again."""
    file = tmp_path / "c.toml"
    for _ in range(2):
        assert here(*ONCE, "--model", qwen, "--save", file).out == "It is blue.\n"
    prompt = here("--once", "--dry-run", "--prompt", "third", "--model", qwen, "--resume", file).out
    assert prompt.count("It is blue.") == 2 and "Let me" not in prompt and "<think>" not in prompt
    first, second = (turn.reply for turn in read_transcript(file)[0].path() if turn.reply)
    assert first.thought.text == second.thought.text == "Let me see.\n- a list"
    assert first.written == "".join(THOUGHT)
    # The answer's own ids went into the second prompt.
    assert second.prompts[0].tokens < first.prompts[0].tokens + len(first.token_ids) + 30
    done = here("replay", file)
    assert done.code == 0 and "2 of 2 replies are the same." in done.out and "another one" not in done.out


def test_template_arguments_reach_the_prompt_the_file_and_the_replay(here: Here, qwen: Path, tmp_path: Path) -> None:
    """A thought that is switched off is closed in the prompt; replay takes what was recorded."""
    file, off = tmp_path / "c.toml", ("--template-arg", "enable_thinking=false")
    shown = here(*ONCE, "--dry-run", "--model", qwen, *off).out
    assert "<think>\n\n</think>\n\n" in shown
    assert here(*ONCE, "--model", qwen, *off, "--save", file).code == 0
    (reply,) = (turn.reply for turn in read_transcript(file)[0].path() if turn.reply)
    assert reply.config.template_args == ("enable_thinking=false",)
    assert "1 of 1 replies are the same." in here("replay", file).out
    # Another reply in the file is made under the same.
    assert "</think>" in here("--once", "--dry-run", "--prompt", "more", "--model", qwen, "--resume", file).out
    assert "knows no variable colour" in here(*ONCE, "--model", qwen, "--template-arg", "colour=red").err
    assert here(*ONCE, "--model", qwen, "--template-arg", "messages=1").code == 2


def test_template_arguments_of_the_settings_file(here: Here, qwen: Path, tmp_path: Path) -> None:
    """They stand among the sampling values; a flag goes before them."""
    file = tmp_path / "settings.toml"
    file.write_text('[generation]\ntemplate_args = ["enable_thinking=false"]\n')
    ask = (*ONCE, "--dry-run", "--model", qwen, "--config", file)
    assert "</think>" in here(*ask).out
    assert "</think>" not in here(*ask, "--template-arg", "enable_thinking=true").out


def test_stop_strings_act_on_the_answer_alone(qwen: Path) -> None:
    """A thought may say them."""
    reply = reply_to(engine_of(qwen), stop=(" see", "blue"))
    assert (reply.thought.text, reply.text) == ("Let me see.\n- a list", "It is ")
    assert reply.finish_detail == "stop string 'blue'"


def test_every_token_has_its_place_in_what_was_written(qwen: Path, opened: Path) -> None:
    """The records of tokens cover thought, marks and answer; a cut anywhere keeps its parts."""
    for path in (qwen, opened):
        engine = engine_of(path)
        reply = reply_to(engine)
        data = b"".join(map(engine.tokenizer.token_bytes, reply.token_ids))
        assert reply.written.encode() == data
        ends = [*(fact.start for fact in reply.facts[1:]), len(data)]
        for fact, end, token_id in zip(reply.facts, ends, reply.token_ids, strict=True):
            assert data[fact.start : end] == engine.tokenizer.token_bytes(token_id)
        assert engine.tokenizer.decode(reply.answer_ids) == reply.text
        for index in range(len(reply.token_ids) + 1):
            part = reply.before(index)
            assert part.written.encode() == data[: [*(fact.start for fact in reply.facts), len(data)][index]]
            assert reply.text.startswith(part.text) and part.thought.tokens == min(index, reply.thought.tokens)


@pytest.mark.parametrize("count", range(1, len(THOUGHT)))
def test_going_on_from_any_token_gives_the_same_whole(qwen: Path, count: int) -> None:
    """Also from the middle of a thought or of a mark."""
    engine = engine_of(qwen)
    whole = reply_to(engine)
    prompt = build_prompt(engine, [Turn("user", "hi")], continued_ids=whole.token_ids[:count])
    stream = ReplyStream(engine, prompt, lambda _: GREEDY, whole.seed, earlier=whole.before(count))
    stream.prefill()
    pieces = list(stream)
    again = stream.reply()
    assert (again.token_ids, again.written, again.text) == (whole.token_ids, whole.written, whole.text)
    assert again.thought.tokens == whole.thought.tokens
    assert "".join(piece.text for piece in pieces) == whole.text
    assert "".join(piece.thought.text for piece in pieces) == whole.thought.text


def test_a_thought_can_be_prefilled(qwen: Path, opened: Path) -> None:
    """A prefill that begins with the mark is thought; any other is the answer's beginning, after a thought or none."""
    for path in (qwen, opened):
        engine = engine_of(path)
        turns = [Turn("user", "hi")]
        prompt = build_prompt(engine, turns, prefill_text="<think>\nAha,")
        text = b"".join(map(engine.tokenizer.token_bytes, prompt.token_ids)).decode()
        assert text.count("<think>") == 1 and text.endswith("assistant\n<think>\nAha,") and prompt.stage == "start"
        reply = reply_to(engine, prefill="<think>\nAha,", script=(" ", "o", "k", "</think>", "Yes", END))
        assert (reply.thought.text, reply.text) == ("Aha, ok", "Y")
        assert reply.answer_prefill == "" and reply.thought.tokens == 4
        answered = reply_to(engine, prefill="Sure", script=("!", END))
        assert (answered.thought.written, answered.text) == ("", "Sure!")


def test_harmony_goes_on_behind_the_end_of_its_analysis(tmp_path: Path) -> None:
    """The token that ends a message ends the reply only in the final channel."""
    path = tmp_path / "harmony.gguf"
    names = ("<|channel|>", "<|message|>", "<|end|>", "<|start|>", "<|return|>")
    spell(path, ("analysis", "assistant", "final", "Hmm", "Yes"), HARMONY, controls=names)
    engine = engine_of(path)
    ids = {word: at for word in ("analysis", "assistant", "final", "Hmm", "Yes") for at in [_id_of(engine, word)]}
    assert engine.tokenizer.find("<|end|>") in engine.end_ids
    script = (
        "<|channel|>", "analysis", "<|message|>", "Hmm", "<|end|>", "<|start|>", "assistant", "<|channel|>", "final",
        "<|message|>", "Yes", "<|end|>",
    )  # fmt: skip
    prompt = build_prompt(engine, [Turn("user", "hi")], template_args=('reasoning_effort="low"',))
    assert "Reasoning: low" in engine.tokenizer.decode(prompt.token_ids)
    forced = tuple((at, ids.get(piece) or engine.tokenizer.find(piece) or 0) for at, piece in enumerate(script))
    stream = ReplyStream(engine, prompt, lambda _: GREEDY, 1, forced=forced)
    stream.prefill()
    list(stream)
    reply = stream.reply()
    assert (reply.thought.text, reply.text, reply.finish_detail) == ("Hmm", "Yes", "end token <|end|>")
    assert reply.thought.opening == "<|channel|>analysis<|message|>"
    assert reply.answer_ids == (ids["Yes"],)
    asked = [Turn("user", "hi"), Turn("assistant", "Yes", reply=reply), Turn("user", "so?")]
    again = build_prompt(engine, asked)
    assert "Hmm" not in engine.tokenizer.decode(again.token_ids) and ids["Yes"] in again.token_ids


def _id_of(engine: Engine, word: str) -> int:
    """The token that says a word; encoding would give its letters."""
    data = word.encode()
    return next(one for one in range(engine.tokenizer.vocab_size) if engine.tokenizer.token_bytes(one) == data)


def test_a_past_thought_is_given_under_the_name_that_the_template_has_for_it(qwen: Path) -> None:
    """Where the template shows it, it is there; what is said in it is only said."""
    engine = engine_of(qwen)
    reply = reply_to(engine)
    style = engine.prompt_style
    assert style is not None
    said = [Turn("user", "hi"), Turn("assistant", reply.text, reply=reply)]
    ids = style.encode(said)
    text = b"".join(map(engine.tokenizer.token_bytes, ids)).decode()
    assert "<think>\nLet me see.\n- a list\n</think>\n\nIt is blue." in text


def test_exports_say_the_thought_apart(here: Here, qwen: Path, tmp_path: Path) -> None:
    """Markdown folds it and lets nothing in it be markup; text names it; JSON has it beside the text."""
    file = tmp_path / "c.toml"
    here(*ONCE, "--model", qwen, "--save", file)
    markdown = here("export", file).out
    assert "<details><summary>Thought: " in markdown and "```text\nLet me see.\n- a list\n```" in markdown
    assert "qwen, thinking (" in here("export", file, "--format", "text").out
    turn = json.loads(here("export", file, "--format", "json").out)["turns"][-1]
    assert turn["text"] == "It is blue." and turn["reply"]["thought"]["text"] == "Let me see.\n- a list"


def test_plain_says_that_it_thinks_and_reads_out_the_answer(qwen: Path) -> None:
    """Not the thought; /think tells and takes what the template knows, /stats counts."""
    lines = b"/think off\n/think low\nhi\n/stats\n"
    done = run_program("--plain", "--greedy", "--no-save", "--model", qwen, stdin=lines)
    assert "Told to the template: enable_thinking=false." in done.out
    assert "knows enable_thinking: on, off, not low" in done.err
    assert "It is blue." in done.out and "Let me see" not in done.out and "(thinking …)" in done.out
    assert "Thought before the answer:" in done.out


def test_a_reply_cut_by_a_stop_string_is_gone_on_with_under_its_thought(qwen: Path, tmp_path: Path) -> None:
    """Its ids do not say where it was cut, so its text does, with the thought before it."""
    lines = b"hi\n/set stop off\n/continue\n"
    file = tmp_path / "c.toml"
    done = run_program("--plain", "--greedy", "--stop", " blue", "--save", file, "--model", qwen, stdin=lines)
    assert done.code == 0, done.err
    first, second = (turn.reply for turn in read_transcript(file)[0] if turn.reply)
    assert (first.thought.text, first.text) == ("Let me see.\n- a list", "It is")
    assert second.written.startswith(first.written) and second.thought.text == first.thought.text


def test_replies_side_by_side_keep_their_thoughts_apart(here: Here, opened: Path) -> None:
    """Compared, each has its answer as text and its thought beside it."""
    done = here("--once", "-p", "hi", "--model", opened, "--compare", "greedy", "--compare", "greedy,top_k=3", "--json")
    replies = json.loads(done.out)["replies"]
    assert [reply["text"] for reply in replies] == ["It is blue."] * 2
    assert [reply["thinking"] for reply in replies] == ["Let me see.\n- a list"] * 2
    refused = here("--once", "-p", "hi", "--model", opened, "--compare", "template_args=a=1", "--compare", "greedy")
    assert refused.code == 2 and "one prompt" in refused.err
