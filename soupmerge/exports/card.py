"""The model card: what a soup is made of, how it was judged, how to use it and make it again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import soupmerge
from soupmerge.choices import ORIGINS
from soupmerge.errors import printable
from soupmerge.exports import evaluations
from soupmerge.exports.evaluations import Evaluation
from soupmerge.weights.files import Checkpoint
from soupmerge.weights.lineage import family_of
from soupmerge.weights.recipe import Recipe

UNKNOWN = "unknown"
STATISTICS = {
    "average": "averaged like weights",
    "base": "those of one ingredient",
    "recalibrate": "estimated anew on images",
}
HUB_PAGES = "https://huggingface.co/"


@dataclass(frozen=True)
class Story:
    """All that a card tells.

    Attributes:
        name: what the soup is called.
        sha256: of its weights.
        network: the written form of its network.
        loader: ``timm`` or ``soupmerge``.
        checkpoint: the soup.
        recipe: how it was mixed, if it was.
        evaluations: how it was judged, if it was.
        licence: its licence, if someone said one.
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
        """The licence of each ingredient, or of what is no soup its own; or ``unknown``."""
        notes = self.checkpoint.notes_of_soupmerge
        if self.recipe is None:
            return [" and ".join(_licences({**notes, "parents": notes.get("family")}))]
        family: Any = notes.get("family")
        k = len(self.recipe.sources)
        told = isinstance(family, list) and len(family) == k
        return [" and ".join(_licences(node)) for node in family] if told else [UNKNOWN] * k

    @property
    def agreed(self) -> str | None:
        """The licence to publish under: the one given, or the one that all ingredients have."""
        theirs = set(self.licences)
        alone = theirs.pop() if len(theirs) == 1 else UNKNOWN
        return self.licence or (None if alone == UNKNOWN or " and " in alone else alone)


def _licences(node: Any) -> list[str]:
    """Return the licences of what *node* of a family tree was made from, first to last."""
    if not isinstance(node, dict):
        return [UNKNOWN]
    if isinstance(node.get("licence"), str):
        return [node["licence"]]
    parents = node.get("parents")
    found = (
        [licence for p in parents for licence in _licences(p)] if isinstance(parents, list) else []
    )
    return list(dict.fromkeys(found)) or [UNKNOWN]


def written(story: Story) -> str:
    """Return the card of *story*: the Hub's metadata as YAML, and Markdown to read."""
    parts = [_introduction(story), _ingredients(story), _judgement(story), _use(story)]
    body = "\n\n".join("\n".join(part) for part in [*parts, _again(story)] if part)
    return f"---\n{_metadata(story)}\n---\n\n{body}\n"


def _metadata(story: Story) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    results = [EvalResult(**told) for e in story.evaluations for told in e.results()]
    bases = [s.ref for s in story.recipe.sources] if story.recipe else []
    repos = [ref.removeprefix("hf-hub:").partition("@")[0] for ref in bases if _page(ref)]
    told: dict[str, Any] = {
        "license": story.agreed,
        "library_name": story.loader,
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "model-soup", "soupmerge", story.loader],
        "base_model": list(dict.fromkeys(repos)) or None,
        "base_model_relation": "merge" if repos else None,
    }
    told["tags"] = list(dict.fromkeys(told["tags"]))
    named: dict[str, Any] = {"model_name": story.name, "eval_results": results} if results else {}
    text: str = ModelCardData(**{k: v for k, v in told.items() if v}, **named).to_yaml()
    return text


def _introduction(story: Story) -> list[str]:
    lines = [f"# {plain(story.name)}", ""]
    if story.recipe is None:
        return [*lines, f"Weights of the network {code(story.network)}, exported by soupmerge."]
    k, groups = len(story.recipe.sources), len(story.recipe.groups)
    each = "" if groups == 1 else f", one for each of {groups} groups of tensors,"
    known = ORIGINS.get(story.recipe.origin)
    made = known.sentence if known else f"chosen by {plain(story.recipe.origin)}"
    return [
        *lines,
        f"A *model soup*: the weights of this network are the weighted mean of those of {k} "
        f"networks of one architecture, {code(story.network)}. It costs what one of them costs. "
        f"The coefficients{each} were {made}; batch-norm statistics, if it has any, are "
        f"{STATISTICS[story.recipe.buffers]}.",
    ]


def _ingredients(story: Story) -> list[str]:
    lines = ["## Ingredients", ""]
    if story.recipe is None:
        tree = [printable(line) for line in family_of(story.checkpoint).lines()]
        shown = [line.replace("`", "'") for line in tree]
        return [*lines, "```text", *shown, "```", "", _about_licences(story)]
    mean = "mean coefficient" if len(story.recipe.groups) > 1 else "coefficient"
    rows = [
        [_linked(source.ref), f"{weight:.6g}", plain(licence), code(source.sha256)]
        for source, weight, licence in zip(
            story.recipe.sources, story.recipe.mean_weights, story.licences, strict=True
        )
    ]
    return [
        *lines,
        *_table(["ingredient", mean, "licence", "sha256"], rows),
        "",
        _about_licences(story),
    ]


def _about_licences(story: Story) -> str:
    if story.agreed:
        given = "as its publisher says" if story.licence else "that of all it was made from"
        return f"Licence: {plain(story.agreed)}, {given}."
    return (
        "No licence is stated: those of what it was made from differ or are unknown. Ask whoever "
        "made that before you pass this on."
    )


def _judgement(story: Story) -> list[str]:
    lines = ["## How it was judged", ""]
    if not story.evaluations:
        return [*lines, "It was not judged, or the results were not given to the export."]
    rows, doubts = [], []
    for evaluation in story.evaluations:
        for metric, told in evaluation.metrics.items():
            low, high = told["ci95"]
            rows.append(
                [
                    f"{plain(evaluation.data['ref'])}, {plain(evaluation.data.get('split', ''))}",
                    plain(metric),
                    f"{told['accuracy']:.1%}",
                    f"{100 * low:.1f}–{100 * high:.1f}",
                    str(told["n"]),
                    plain(evaluations.attack(told)) or "–",
                ]
            )
        doubts += [
            f"- **{plain(d.get('name'))}**: {plain(d.get('what'))}" for d in evaluation.doubts
        ]
    lines += _table(["images", "accuracy", "right", "95% interval", "n", "attack"], rows)
    lines += [
        "",
        "Accuracies under attack are upper bounds: a stronger attack may find more. A threat is a "
        "norm and a radius, for images in [0, 1]; *union* counts images that are right under all "
        "threats. An image counts as robust only if it was found right again after the attack, in "
        "float32, inside the ball and the pixel box.",
    ]
    if doubts:
        return [*lines, "", "Reasons to doubt these numbers:", "", *doubts]
    return lines


def _use(story: Story) -> list[str]:
    lines = ["## Use", ""]
    if story.loader == "timm":
        return [
            *lines,
            "```python",
            "import timm",
            "",
            'net = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # or hf-hub:…',
            "config = timm.data.resolve_model_data_config(net)  # with mean and std for images",
            "```",
            "",
            "soupmerge takes it as it is, the normaliser inside: `soupmerge eval FOLDER --data …`.",
        ]
    return [
        *lines,
        f"timm cannot load it: {code(story.network)} is a network of soupmerge's, or one's own.",
        "",
        "```python",
        "import soupmerge as sm",
        "",
        'weights = sm.load("FOLDER/model.safetensors")[0]',
        "net = sm.bind(sm.model(like=weights), weights)  # images (B, C, H, W) in [0, 1] to logits",
        "```",
    ]


def _again(story: Story) -> list[str]:
    made = f"Exported by soupmerge {soupmerge.__version__}. sha256 of `model.safetensors`:"
    end = [made, code(story.sha256) + "."]
    if story.recipe is None:
        return ["## Made by", "", *end]
    words = ["soupmerge", "mix", "--recipe", "recipe.json", *_calibrating(story.recipe)]
    words += ["-o", "soup.safetensors"]
    export = ["soupmerge", "export", "soup.safetensors", "-o", story.name]
    return [
        "## Make it again",
        "",
        "With the ingredients beside `recipe.json`, or given as arguments in its order; those of "
        "the Hub are pulled. The same recipe gives the same bytes.",
        "",
        "```bash",
        *(printable(shlex.join(command)) for command in (words, export)),
        "```",
        "",
        *end,
    ]


def _calibrating(recipe: Recipe) -> Iterator[str]:
    """Yield the options that say again what statistics were estimated on."""
    told: Mapping[str, Any] = recipe.calibration or {}
    data = told.get("data") or {}
    if not data:
        return
    split, _, limit = str(data.get("split", "")).partition(", ")
    yield from ("--data", str(data.get("ref")), "--split", split)
    if limit:
        yield from ("--limit", limit.partition(" ")[0])
    if told.get("attack"):
        yield from ("--threat", str(told["attack"].get("threat")))
    yield from ("--batch-size", str(told.get("batch_size")), "--seed", str(told.get("seed")))


def _page(ref: str) -> str | None:
    """Return the address of an ingredient's page, if it is on the Hub."""
    match = re.fullmatch(r"hf-hub:([\w.-]+/[\w.-]+)(?:@(\w+))?(?::.*)?", ref)
    return match and HUB_PAGES + match[1] + (f"/tree/{match[2]}" if match[2] else "")


def _linked(ref: str) -> str:
    page = _page(ref)
    return f"[{plain(ref.partition('@')[0])}]({page})" if page else plain(ref)


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (headers, ["---"] * len(headers), *rows)]


def plain(value: object) -> str:
    """Return *value*, which may be anyone's, so that Markdown shows it and does nothing else."""
    text = re.sub(r"([\\`*_{}\[\]<>()#|!~&:@$])", r"\\\1", printable(value))
    return re.sub(r"(?i)www\.", r"www\\.", text)


def code(value: object) -> str:
    """Return *value* as code; what could end it is replaced."""
    text = printable(value).replace("`", "'").replace("|", "¦")
    return f"`{text}`"
