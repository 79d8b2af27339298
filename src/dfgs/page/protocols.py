"""The protocol of a number in words."""

import pandas as pd

from dfgs.page.shown import Sheet
from dfgs.rendering import Entry

MEANING = {
    "rule": "Evaluation rule by name, as in the dataset's own benchmark.",
    "dataset": "Digest of the query and gallery images: names, labels and contents.",
    "split": "Which of the target's splits is scored.",
    "input": "Pixels that the model sees, height and width.",
    "features": "Which of the encoder's features are compared, side by side.",
    "rows": "Whether features are scaled to length 1 before they are compared.",
    "distance": "By what queries and gallery images are compared.",
    "same_camera": "Whether images of the query's person by the query's own camera are removed for that query.",
    "junk": "Person numbers whose gallery images are removed for everybody.",
    "distractors": "Person numbers that stay in the gallery as wrong answers.",
    "repeats": "How often one gallery image per person is drawn; 0: all gallery images count.",
    "seed": "Seed of these draws.",
    "k1": "Re-ranking: neighbours that must find each other.",
    "k2": "Re-ranking: nearest images whose codes are averaged.",
    "lambda": "Re-ranking: share of the plain distance.",
}
"""What the words of a fingerprint say, in the order of the page."""


def parse(fingerprint: str) -> dict[str, str]:
    """Return the words of a fingerprint by their keys; a text of another form has none."""
    return dict(word.split("=", 1) for word in fingerprint.split() if "=" in word)


def sentence(fingerprint: str) -> str:
    """Write a fingerprint as a sentence; what it does not tell is left out."""
    said = parse(fingerprint)
    camera = {"removed": "without images of the query's person by its own camera", "kept": "all cameras kept"}
    size = said.get("input", "").replace(",", " × ")
    parts = [
        f"rule {said.get('rule', 'not told')}",
        camera.get(said.get("same_camera", ""), ""),
        f"images of person {said['junk']} removed as junk" if said.get("junk") else "",
        f"person {said['distractors']} kept as a wrong answer" if said.get("distractors") else "",
        f"{said['repeats']} draws of one gallery image per person" if said.get("repeats", "0") != "0" else "",
        f"features {said['features'].replace(',', ' and ')}" if said.get("features") else "",
        {"length-1": "scaled to length 1", "as-they-are": "as they are"}.get(said.get("rows", ""), ""),
        f"by {said['distance']} distance" if said.get("distance") else "",
        f"from images of {size} pixels" if size else "",
        f"re-ranked (k1 {said['k1']}, k2 {said.get('k2')}, λ {said.get('lambda')})" if "k1" in said else "",
        f"split {said['split']}" if said.get("split") else "",
    ]
    return ", ".join(part for part in parts if part)


def sentences(rows: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Say what the protocols among long rows are: the targets that share one, and it as a sentence."""
    found: dict[str, set[str]] = {}
    for text, targets in rows.groupby("protocol", sort=True)["target"].unique().items():
        found.setdefault(sentence(str(text)), set()).update(targets)
    return tuple(sorted((", ".join(sorted(targets)), text) for text, targets in found.items()))


def protocols(rows: pd.DataFrame) -> Sheet:
    """List every protocol among long rows with what it was used on, a column per word."""
    found = rows.groupby("protocol", sort=True)["target"].unique()
    parsed = [(str(text), parse(str(text)), ", ".join(sorted(targets))) for text, targets in found.items()]
    keys = [key for key in MEANING if any(key in words for _, words, _ in parsed)]
    keys += sorted({key for _, words, _ in parsed for key in words} - set(keys))
    body = tuple(
        tuple(Entry(text) for text in (full.split(" ", 1)[0], targets, *(words.get(key) or "none" for key in keys)))
        for full, words, targets in parsed
    )
    return Sheet(
        ident="protocols",
        title="Protocols of the numbers on this page.",
        note="Two numbers compare only under one protocol; its fingerprint is the digest of these words.",
        header=("fingerprint", "targets", *keys),
        labels=2,
        rows=body,
    )


def words(rows: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """Explain the words that occur in the protocols of long rows."""
    keys = {key for text in rows["protocol"].unique() for key in parse(str(text))}
    return tuple((key, text) for key, text in MEANING.items() if key in keys)
