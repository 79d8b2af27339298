"""Evaluation protocols as data: which gallery images a query is compared with, and which of them match."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from dfgs.provenance import digest_json


@dataclass(frozen=True, slots=True)
class Protocol:
    """Which gallery images count for a query. A gallery image matches a query if it shows the same pid.

    `removes_same_camera`: images of the query's pid taken by the query's camera are removed for that query.
    `junk_pids`: gallery images with these pids are removed for all; such queries have no match.
    `distractor_pids`: these gallery images stay, as wrong answers; such queries have no match.
    `repeats`: 0 keeps all gallery images. Otherwise the ranking is repeated that many times, and each time a query sees
    one image of every identity, drawn at random (`seed`) among those that are not removed for it.

    >>> PROTOCOLS["market1501"].junk_pids
    (-1,)
    """

    name: str
    removes_same_camera: bool = True
    junk_pids: tuple[int, ...] = ()
    distractor_pids: tuple[int, ...] = ()
    repeats: int = 0
    seed: int = 0

    def fingerprint(self, **settings: Any) -> str:
        """Write down the rule and the `settings` of a number: a digest (16 hexadecimal digits), then `key=value` words.

        Numbers with different fingerprints must not share a table; `difference` names what tells them apart. Name what
        changes a number: split, distance, normalisation, input size, re-ranking, digest of the dataset.

        >>> PROTOCOLS["plain"].fingerprint(distance="cosine")
        '24461d5f7cdfbbd6 rule=plain distance=cosine distractors= junk= repeats=0 same_camera=kept seed=0'
        """
        rule = asdict(self)
        words = {
            "junk": rule.pop("junk_pids"),
            "distractors": rule.pop("distractor_pids"),
            "same_camera": "removed" if rule.pop("removes_same_camera") else "kept",
            **rule,
            **settings,
        }
        name = words.pop("name")
        text = " ".join(f"{key}={_word(value)}" for key, value in [("rule", name), *sorted(words.items())])
        return f"{digest_json(text)} {text}"


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("market1501", junk_pids=(-1,), distractor_pids=(0,)),
        Protocol("cuhk03-new"),
        Protocol("single-gallery-shot", repeats=10),
        Protocol("plain", removes_same_camera=False),
    )
}


def difference(one: str, other: str) -> str:
    """Name what two fingerprints disagree in, as in `distance cosine and euclidean; split none and test`.

    Texts of another form are given whole.

    >>> rule = PROTOCOLS["plain"]
    >>> difference(rule.fingerprint(distance="cosine"), rule.fingerprint(distance="euclidean"))
    'distance cosine and euclidean'
    """
    found, others = (dict(word.split("=", 1) for word in text.split() if "=" in word) for text in (one, other))
    differs = [name for name in dict.fromkeys([*found, *others]) if found.get(name) != others.get(name)]
    if not differs:
        return f"{one} and {other}"
    return "; ".join(f"{name} {found.get(name) or 'none'} and {others.get(name) or 'none'}" for name in differs)


def _word(value: Any) -> str:
    """Write a value without spaces, a list with commas."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return quote(str(value), safe="+-.:/")
    return ",".join(map(_word, value))
