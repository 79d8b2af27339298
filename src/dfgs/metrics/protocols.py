"""Evaluation protocols as data: which gallery images a query is compared with, and which of them match."""

from dataclasses import asdict, dataclass
from typing import Any

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
        """Digest the rule and the JSON-able `settings` of a number (16 hexadecimal digits).

        Numbers with different fingerprints must not share a table. Name what changes a number: split, distance,
        normalisation, input size, re-ranking, digest of the dataset.
        """
        return digest_json({"protocol": asdict(self), "settings": settings})


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("market1501", junk_pids=(-1,), distractor_pids=(0,)),
        Protocol("cuhk03-new"),
        Protocol("single-gallery-shot", repeats=10),
        Protocol("plain", removes_same_camera=False),
    )
}
