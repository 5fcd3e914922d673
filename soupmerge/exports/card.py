"""The model card: ingredients of a soup, its evaluations, how to use it and how to reproduce it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import soupmerge
from soupmerge.choices import ORIGINS
from soupmerge.errors import printable
from soupmerge.exports.evaluations import Evaluation, attack_in
from soupmerge.label_spaces.outputs import in_words
from soupmerge.weights.files import Checkpoint
from soupmerge.weights.lineage import family_of
from soupmerge.weights.recipe import Recipe

UNKNOWN = "unknown"
STATISTICS = {
    "average": "averaged like weights",
    "base": "those of one ingredient",
    "recalibrate": "re-estimated on images",
}
HUB_PAGES = "https://huggingface.co/"


@dataclass(frozen=True)
class Facts:
    """The facts that a card states.

    Attributes:
        name: name of the model.
        sha256: hash of its weights.
        network: the reference of its network.
        loader: ``timm`` or ``soupmerge``.
        checkpoint: the soup.
        recipe: its recipe, or None if it is no soup.
        evaluations: evaluations of it.
        licence: its licence, if one was given.
    """

    name: str
    sha256: str
    network: str
    loader: str
    checkpoint: Checkpoint
    recipe: Recipe | None
    evaluations: tuple[Evaluation, ...]
    licence: str | None

    @property
    def licences(self) -> list[str]:
        """The licence of each ingredient, or of the checkpoint if it is no soup; or ``unknown``."""
        notes = self.checkpoint.notes_of_soupmerge
        if self.recipe is None:
            return [" and ".join(_licences({**notes, "parents": notes.get("family")}))]
        family: Any = notes.get("family")
        k = len(self.recipe.sources)
        complete = isinstance(family, list) and len(family) == k
        return [" and ".join(_licences(node)) for node in family] if complete else [UNKNOWN] * k

    @property
    def licence_to_publish(self) -> str | None:
        """The licence that was given, else the one that all ingredients share, or None."""
        theirs = set(self.licences)
        shared = theirs.pop() if len(theirs) == 1 else UNKNOWN
        return self.licence or (None if shared == UNKNOWN or " and " in shared else shared)


def _licences(node: Any) -> list[str]:
    """Return the licences of *node* of a family tree, or of its ancestors, in their order."""
    if not isinstance(node, dict):
        return [UNKNOWN]
    if isinstance(node.get("licence"), str):
        return [node["licence"]]
    parents = node.get("parents")
    found = (
        [licence for p in parents for licence in _licences(p)] if isinstance(parents, list) else []
    )
    return list(dict.fromkeys(found)) or [UNKNOWN]


def text_of(facts: Facts) -> str:
    """Return the card: the Hub's metadata as YAML, and Markdown to read."""
    sections = [_introduction, _ingredients, _evaluations, _use, _reproduction]
    body = "\n\n".join("\n".join(section(facts)) for section in sections)
    return f"---\n{_metadata(facts)}\n---\n\n{body}\n"


def _metadata(facts: Facts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [EvalResult(**result) for e in facts.evaluations for result in e.results()]
    refs = [source.ref for source in facts.recipe.sources] if facts.recipe else []
    repos = [ref.removeprefix("hf-hub:").partition("@")[0] for ref in refs if _page(ref)]
    tags = ["image-classification", "model-soup", "soupmerge", facts.loader]
    fields: dict[str, Any] = {
        "license": facts.licence_to_publish,
        "library_name": facts.loader,
        "pipeline_tag": "image-classification",
        "tags": list(dict.fromkeys(tags)),
        "base_model": list(dict.fromkeys(repos)),
        "base_model_relation": "merge" if repos else None,
    }
    if results:
        fields |= {"model_name": facts.name, "eval_results": results}
    text: str = ModelCardData(**{k: v for k, v in fields.items() if v}).to_yaml()
    return text


def _introduction(facts: Facts) -> list[str]:
    lines = [f"# {plain(facts.name)}", ""]
    if facts.recipe is None:
        return [*lines, f"Weights of the network {code(facts.network)}, exported by soupmerge."]
    k, groups = len(facts.recipe.sources), len(facts.recipe.groups)
    each = "" if groups == 1 else f", one for each of {groups} groups of tensors,"
    origin = ORIGINS.get(facts.recipe.origin)
    chosen = origin.sentence if origin else f"chosen by {plain(facts.recipe.origin)}"
    return [
        *lines,
        f"A *model soup*: the weights of this network are the weighted mean of those of {k} "
        f"networks of one architecture, {code(facts.network)}. It is as large and as fast as "
        f"one of them. The coefficients{each} were {chosen}; batch-norm statistics, if it has any, "
        f"are {STATISTICS[facts.recipe.buffers]}.",
    ]


def _ingredients(facts: Facts) -> list[str]:
    lines = ["## Ingredients", ""]
    if facts.recipe is None:
        tree = [printable(line) for line in family_of(facts.checkpoint).lines()]
        shown = [line.replace("`", "'") for line in tree]
        return [*lines, "```text", *shown, "```", "", _licence_sentence(facts)]
    mean = "mean coefficient" if len(facts.recipe.groups) > 1 else "coefficient"
    rows = [
        [_linked(source.ref), f"{weight:.6g}", plain(licence), code(source.sha256)]
        for source, weight, licence in zip(
            facts.recipe.sources, facts.recipe.mean_weights, facts.licences, strict=True
        )
    ]
    return [
        *lines,
        *_table(["ingredient", mean, "licence", "sha256"], rows),
        "",
        _licence_sentence(facts),
    ]


def _licence_sentence(facts: Facts) -> str:
    if facts.licence_to_publish:
        source = "stated by its publisher" if facts.licence else "that of all it was made from"
        return f"Licence: {plain(facts.licence_to_publish)}, {source}."
    return (
        "No licence is stated, since the licences of what it was made from differ or are unknown. "
        "Ask its authors before you pass this on."
    )


def _evaluations(facts: Facts) -> list[str]:
    lines = ["## How it was judged", ""]
    if not facts.evaluations:
        return [*lines, "It was not judged, or no results were given to the export."]
    rows, doubts = [], []
    for evaluation in facts.evaluations:
        data = evaluation.data
        images = [data["ref"], data.get("split", ""), in_words(data)]
        for metric, result in evaluation.metrics.items():
            low, high = result["ci95"]
            rows.append(
                [
                    ", ".join(plain(part) for part in images if part),
                    plain(metric),
                    f"{result['accuracy']:.1%}",
                    f"{100 * low:.1f}–{100 * high:.1f}",
                    str(result["n"]),
                    plain(attack_in(result)) or "–",
                ]
            )
        doubts += [
            f"- **{plain(d.get('name'))}**: {plain(d.get('what'))}" for d in evaluation.doubts
        ]
    lines += _table(["images", "metric", "accuracy", "95% interval", "n", "attack"], rows)
    lines += [
        "",
        "Accuracies under attack are upper bounds: a stronger attack may find more. A threat is a "
        "norm and a radius, for images in [0, 1]; *union* counts images that are classified "
        "correctly under all threats. An image counts as robust only if it was classified "
        "correctly again after the attack, in float32, inside the ball and the pixel box.",
    ]
    if doubts:
        return [*lines, "", "Reasons to doubt these numbers:", "", *doubts]
    return lines


def _use(facts: Facts) -> list[str]:
    lines = ["## Use", ""]
    if facts.loader == "timm":
        return [
            *lines,
            "```python",
            "import timm",
            "",
            'net = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # or hf-hub:…',
            "config = timm.data.resolve_model_data_config(net)  # with mean and std for images",
            "```",
            "",
            "soupmerge reads the folder too, and normalises images itself: "
            "`soupmerge eval FOLDER --data …`.",
        ]
    return [
        *lines,
        f"timm cannot load it: its network {code(facts.network)} is not one of timm's.",
        "",
        "```python",
        "import soupmerge as sm",
        "",
        'weights = sm.load("FOLDER/model.safetensors")[0]',
        "net = sm.bind(sm.model(like=weights), weights)  # images (B, C, H, W) in [0, 1] to logits",
        "```",
    ]


def _reproduction(facts: Facts) -> list[str]:
    sha256 = f"Exported by soupmerge {soupmerge.__version__}. sha256 of `model.safetensors`:"
    end = [sha256, code(facts.sha256) + "."]
    if facts.recipe is None:
        return ["## Made by", "", *end]
    mix = ["soupmerge", "mix", "--recipe", "recipe.json", *_calibration_options(facts.recipe)]
    mix += ["-o", "soup.safetensors"]
    export = ["soupmerge", "export", "soup.safetensors", "-o", facts.name]
    return [
        "## Make it again",
        "",
        "Put the ingredients beside `recipe.json`, or give them as arguments in its order; those "
        "on the Hub are pulled. The same recipe gives the same bytes.",
        "",
        "```bash",
        *(printable(shlex.join(command)) for command in (mix, export)),
        "```",
        "",
        *end,
    ]


def _calibration_options(recipe: Recipe) -> Iterator[str]:
    """Yield the options that re-estimate statistics as *recipe* did."""
    calibration: Mapping[str, Any] = recipe.calibration or {}
    data = calibration.get("data") or {}
    if not data:
        return
    split, _, limit = str(data.get("split", "")).partition(", ")
    yield from ("--data", str(data.get("ref")), "--split", split)
    if space := (data.get("mapping") or {}).get("ref"):
        yield from ("--classes", str(space))
    if limit:
        yield from ("--limit", limit.partition(" ")[0])
    if calibration.get("attack"):
        yield from ("--threat", str(calibration["attack"].get("threat")))
    yield from ("--batch-size", str(calibration.get("batch_size")))
    yield from ("--seed", str(calibration.get("seed")))


def _page(ref: str) -> str | None:
    """Return the address of the page of the ingredient *ref*, or None if it is not on the Hub."""
    match = re.fullmatch(r"hf-hub:([\w.-]+/[\w.-]+)(?:@(\w+))?(?::.*)?", ref)
    return match and HUB_PAGES + match[1] + (f"/tree/{match[2]}" if match[2] else "")


def _linked(ref: str) -> str:
    page = _page(ref)
    return f"[{plain(ref.partition('@')[0])}]({page})" if page else plain(ref)


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (headers, ["---"] * len(headers), *rows)]


def plain(value: object) -> str:
    """Return *value*, which is not trusted, escaped so that Markdown shows it as it is."""
    text = re.sub(r"([\\`*_{}\[\]<>()#|!~&:@$])", r"\\\1", printable(value))
    return re.sub(r"(?i)www\.", r"www\\.", text)


def code(value: object) -> str:
    """Return *value* as inline code; characters that could end it are replaced."""
    text = printable(value).replace("`", "'").replace("|", "¦")
    return f"`{text}`"
