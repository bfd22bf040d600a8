"""Prompt lookup: what probably follows is what followed where the last tokens stood before, in prompt or reply.

Saxena, "Prompt Lookup Decoding" (2023). Which tokens are drawn does not depend on it: a draft is only run in the same
pass as the token before it, and its logits are used if the dice draw just that. So all there is to decide is when a
draft pays: where the chance that its tokens are drawn, by what came of others like it, outweighs the longer pass. Each
token that the text foretells is counted, drafted or not, so that nothing needs to be tried to be known.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

_LONGEST = 64
"""A match is not looked at further back."""

_FIRST_ODDS = ((1, 0.15), (4, 0.25), (8, 0.6), (16, 0.75), (_LONGEST + 1, 0.85))
"""Below so many tokens that agree, the chance of the next one while little is known."""

_FIRST_COUNT = 3.0
"""How many tokens that is worth."""

_MEMORY = 0.96
"""What the counts keep at each new token, so that the latest 25 weigh the most."""

_LEAST_GAIN = 1.05
"""A pass with a draft must promise so many times the tokens of a plain one in the same time."""


class PromptLookup:
    """Drafts for one reply. Tell it every token that is drawn, by `after`."""

    def __init__(self, text: Sequence[int], most: int, cost_of: Callable[[int], float]) -> None:
        """A lookup in a text.

        Args:
            text: The prompt, and what the reply begins with.
            most: Tokens of a draft, at most.
            cost_of: How long a pass over so many positions takes, in passes over one.
        """
        self._text = list(text)
        self._most, self._cost_of = most, cost_of
        self._places = {pair: end for end, pair in enumerate(pairwise(text), 2)}  # behind the latest of each pair
        self._odds = [_Odds(chance) for _, chance in _FIRST_ODDS]
        self._source = 0  # where the token stands that should come next; 0 if none is foretold
        self._agreed = 0  # how many tokens before it are those at the end of the text
        self._pending = 0  # how many tokens of the last draft are still to be drawn
        self.drafted = 0
        """Tokens of drafts, all together."""
        self.accepted = 0
        """How many of them were drawn."""

    def after(self, token_id: int) -> Sequence[int]:
        """What probably follows a token that has been drawn; nothing while a draft is used up, or if none would pay."""
        is_foretold = self._source > 0 and self._text[self._source] == token_id
        if self._source:
            self._odds_now.note(is_foretold)
        if len(self._text) > 1:
            self._places[self._text[-2], self._text[-1]] = len(self._text)
        self._text.append(token_id)
        if is_foretold:
            self._source, self._agreed = self._source + 1, min(self._agreed + 1, _LONGEST)
        else:
            self._find()
        if is_foretold and self._pending:
            self._pending -= 1
            self.accepted += 1
            return ()
        draft = self._text[self._source : self._source + self._length()] if self._source else []
        self._pending = len(draft)
        self.drafted += len(draft)
        return draft

    @property
    def _odds_now(self) -> _Odds:
        return next(odds for odds, (below, _) in zip(self._odds, _FIRST_ODDS, strict=True) if self._agreed < below)

    def _find(self) -> None:
        """Look for the latest earlier place of the text's last two tokens."""
        text, end = self._text, len(self._text)
        found = self._places.get((text[-2], text[-1]), 0) if end > 1 else 0
        if not found:
            # The last token may stand in the place of the one that was foretold.
            self._source, self._agreed = self._source and self._source + 1, 0
            return
        agreed = 2
        while agreed < min(_LONGEST, found) and text[found - 1 - agreed] == text[end - 1 - agreed]:
            agreed += 1
        self._source, self._agreed = found, agreed

    def _length(self) -> int:
        """How many tokens to draft: as many as promise the most in the same time, or none."""
        chance = self._odds_now.chance
        best, length, expected, reach = _LEAST_GAIN, 0, 1.0, 1.0
        for count in range(1, self._most + 1):
            reach *= chance
            expected += reach
            if (gain := expected / self._cost_of(count + 1)) > best:
                best, length = gain, count
        return length


class _Odds:
    """How often what was foretold came, the latest weighing the most."""

    def __init__(self, chance: float) -> None:
        self._hits, self._count = chance * _FIRST_COUNT, _FIRST_COUNT

    @property
    def chance(self) -> float:
        return self._hits / self._count

    def note(self, has_come: bool) -> None:
        self._hits = self._hits * _MEMORY + has_come
        self._count = self._count * _MEMORY + 1
