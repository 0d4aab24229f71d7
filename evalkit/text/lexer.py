"""A longest-match lexer over characters, like those of lex and JFlex; knows no language.

Patterns are built from Python values (`text`, `chars`, `|`, `+`, `star`, ...) and run as an automaton
whose states are created when a text first needs them; after that it takes about 0.1 us per character. Time
is linear in the text's length, whatever is in it: what a long look ahead found is remembered (Reps, 1998).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

Test = Callable[[str], bool]
Known = dict[tuple[int, int], "tuple[int, int] | None"]
"""(place, state after it) to the longest match that ends later: (rule, end), or None where there is none."""
NEAR = 64  # characters that are read without being remembered


class Pattern:
    """A regular expression as a tree; `|` joins alternatives and `+` a sequence."""

    def __init__(self, kind: str, parts: Sequence[Pattern] = (), test: Test | None = None) -> None:
        self.kind, self.parts, self.test = kind, tuple(parts), test

    def __or__(self, other: Pattern) -> Pattern:
        return Pattern("either", (self, other))

    def __add__(self, other: Pattern) -> Pattern:
        return Pattern("then", (self, other))

    @property
    def star(self) -> Pattern:
        return Pattern("star", (self,))

    @property
    def plus(self) -> Pattern:
        return self + self.star

    @property
    def maybe(self) -> Pattern:
        return self | EMPTY

    def times(self, least: int, most: int) -> Pattern:
        """The pattern repeated `least` to `most` times, both included."""
        more = reduce(lambda rest, _: (self + rest).maybe, range(most - least), EMPTY)
        return reduce(lambda rest, _: self + rest, range(least), more)


EMPTY = Pattern("empty")


def chars(members: str | Test, but: str = "") -> Pattern:
    """One character that is in a string or passes a test, and is none of `but`."""
    inside: Test = frozenset(members).__contains__ if isinstance(members, str) else members
    if but:
        outside = frozenset(but)
        return Pattern("char", test=lambda c: c not in outside and inside(c))
    return Pattern("char", test=inside)


def no(members: str) -> Pattern:
    """One character that is none of these."""
    return chars(lambda _: True, but=members)


def span(first: str, last: str) -> str:
    """The characters from `first` to `last`."""
    return "".join(map(chr, range(ord(first), ord(last) + 1)))


def text(literal: str) -> Pattern:
    """These characters in upper or lower case."""
    return reduce(lambda a, b: a + b, (chars(c.lower() + c.upper()) for c in literal), EMPTY)


def either(*patterns: Pattern) -> Pattern:
    return reduce(lambda a, b: a | b, patterns)


def words(listed: str) -> Pattern:
    """Any word of a blank-separated list, in upper or lower case."""
    return either(*map(text, listed.split()))


@dataclass(frozen=True)
class Rule:
    """A token's name, its pattern, and a pattern that must follow it (which counts for the longest match)."""

    name: str
    body: Pattern
    after: Pattern | None = None


class _Net:
    """The patterns of all rules as one nondeterministic automaton."""

    def __init__(self) -> None:
        self.free: list[list[int]] = []  # steps without a character
        self.move: list[tuple[Test, int] | None] = []
        self.rule: list[int | None] = []

    def node(self) -> int:
        self.free.append([])
        self.move.append(None)
        self.rule.append(None)
        return len(self.free) - 1

    def lay(self, pattern: Pattern, start: int) -> int:
        """Adds the pattern from node `start` on; returns the node where it ends."""
        if pattern.kind == "then":
            return self.lay(pattern.parts[1], self.lay(pattern.parts[0], start))
        end = self.node()
        if pattern.kind == "char":
            assert pattern.test is not None
            self.move[start] = (pattern.test, end)
            return end
        if pattern.kind == "empty":
            self.free[start].append(end)
            return end
        for part in pattern.parts:  # either, or the one part of a star
            first = self.node()
            self.free[start].append(first)
            last = self.lay(part, first)
            self.free[last].append(first if pattern.kind == "star" else end)
        if pattern.kind == "star":
            middle = self.node()
            self.free[last].append(middle)
            self.free[start].append(middle)
            self.free[middle].append(end)
        return end

    def closure(self, nodes: Iterable[int]) -> frozenset[int]:
        found = set(nodes)
        waiting = list(found)
        while waiting:
            for node in self.free[waiting.pop()]:
                if node not in found:
                    found.add(node)
                    waiting.append(node)
        return frozenset(found)


class _State(dict[str, "_State"]):
    """One deterministic state: the next state by character, created on demand. `rule` is the rule matched
    here, or -1."""

    __slots__ = ("dead", "machine", "nodes", "rule")

    def __init__(self, machine: Lexer, nodes: frozenset[int]) -> None:
        super().__init__()
        self.machine, self.nodes = machine, nodes
        accepted = [r for r in (machine.net.rule[n] for n in nodes) if r is not None]
        self.rule = min(accepted, default=-1)  # the earliest rule wins
        self.dead = not nodes

    def __missing__(self, char: str) -> _State:
        net = self.machine.net
        moves = (net.move[node] for node in self.nodes)
        self[char] = result = self.machine.state(net.closure(m[1] for m in moves if m and m[0](char)))
        return result


class Lexer:
    """Rules, earliest first; at each place the longest match wins, then the earliest rule."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.net = _Net()
        self._states: dict[frozenset[int], _State] = {}
        start = self.net.node()
        for n, rule in enumerate(rules):
            first = self.net.node()
            self.net.free[start].append(first)
            last = self.net.lay(rule.body, first)
            self.net.rule[self.net.lay(rule.after, last) if rule.after else last] = n
        self._start = self.state(self.net.closure([start]))
        self._split = {
            n: (Lexer([Rule("", rule.body)]), Lexer([Rule("", rule.after)]))
            for n, rule in enumerate(rules)
            if rule.after
        }

    def state(self, nodes: frozenset[int]) -> _State:
        if nodes not in self._states:
            self._states[nodes] = _State(self, nodes)
        return self._states[nodes]

    def match(self, string: str, start: int, known: Known | None = None) -> tuple[int, int]:
        """(rule, end of its token) at `start`; the rule is -1 if none matches.

        `known` is for one string: matches that begin later read there what earlier ones found far ahead.
        """
        known = {} if known is None else known
        state, best, end = self._start, -1, start
        near = start if known else min(start + NEAR, len(string))
        for place in range(start, near):  # the usual case: a word
            state = state[string[place]]
            if state.dead:
                break
            if state.rule >= 0:
                best, end = state.rule, place + 1
        else:
            best, end = self._far(string, start, near, state, (best, end), known)
        if best in self._split:
            end = self._body_end(best, string, start, end)
        return best, end

    def _far(
        self, string: str, start: int, near: int, state: _State, found: tuple[int, int], known: Known
    ) -> tuple[int, int]:
        """Goes on from `near` in `state`, where the longest match so far is `found`."""
        seen = []
        for place in range(near, len(string)):
            state = state[string[place]]
            if state.dead:
                break
            if state.rule >= 0:
                found = state.rule, place + 1
            key = place, id(state)
            if key in known:
                later = known[key]
                found = found if later is None else later
                break
            if place >= start + NEAR:
                seen.append(key)
        for key in seen:
            known[key] = found if found[1] > key[0] + 1 else None
        return found

    def _body_end(self, rule: int, string: str, start: int, end: int) -> int:
        """The end of the longest body after which the rest matches what must follow."""
        body, after = self._split[rule]
        first, *more = body.ends(string, start, end - 1)
        return next((middle for middle in reversed(more) if after.whole(string, middle, end)), first)

    def ends(self, string: str, start: int, last: int) -> list[int]:
        """Every place up to `last` where some rule's match could end."""
        state, found = self._start, []
        for place in range(start, last):
            state = state[string[place]]
            if state.dead:
                break
            if state.rule >= 0:
                found.append(place + 1)
        return found

    def whole(self, string: str, start: int, end: int) -> bool:
        """Whether `string[start:end]` as a whole is matched by some rule."""
        state = self._start
        for place in range(start, end):
            state = state[string[place]]
            if state.dead:
                return False
        return state.rule >= 0
