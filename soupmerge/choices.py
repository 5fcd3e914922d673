"""Closed sets of names, each listed once; importable without torch.

A name that stands for code is one entry: the name, and the place of the code as
``module:attribute``, which is imported when it is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from soupmerge.errors import UsageError, near_miss


class Origin(NamedTuple):
    """What chose the coefficients of a soup.

    Attributes:
        label: the name of such soups in legends.
        sentence: completes "The coefficients were" in model cards.
    """

    label: str
    sentence: str


ORIGINS: Mapping[str, Origin] = {
    "mix": Origin("mixed by hand", "chosen by hand"),
    "grid": Origin("best of grid", "found by a grid search"),
    "greedy": Origin(
        "greedy soup",
        "found by a greedy search, which adds one ingredient at a time (Wortsman et al. 2022)",
    ),
    "path": Origin(
        "best on a path",
        "chosen on the straight line between two networks (WiSE-FT, Wortsman et al. 2022)",
    ),
    "search": Origin(
        "best of a search",
        "found by drawing soups from the simplex at random, by CMA-ES, or by a model of accuracy",
    ),
    "adapt": Origin(
        "adapted to shifts",
        "chosen on a few labelled images of shifted data sets (Croce et al. 2023)",
    ),
    "learn": Origin("learned", "learned by gradient descent (Huang 2023)"),
    "front": Origin(
        "point of a front", "a point of a front that was learned by gradient descent, all at once"
    ),
}
"""`Recipe.origin` → its texts in figures, tables and model cards."""

NO_SOUPS: Mapping[str, str] = {
    "finetune": "trained",
    "elsewhere": "from elsewhere",
    "ensemble": "ensemble",
}
"""What made a judged network that is not a soup → its name in legends."""

MAKERS: Mapping[str, str] = {
    **NO_SOUPS,
    **{origin: entry.label for origin, entry in ORIGINS.items()},
}
"""What made a judged network → its name in legends."""


def require_origin(origin: str) -> None:
    """Reject an *origin* without texts for figures and model cards.

    Raises:
        UsageError: it is not one of `ORIGINS`.
    """
    if origin not in ORIGINS:
        raise UsageError(
            f"unknown origin {origin!r}", where="origin", fix=near_miss(origin, ORIGINS)
        )


# ---- Names that stand for code, and where that is.


def implementation(table: Mapping[str, Any], name: str, what: str) -> Any:
    """Return the object that *name* stands for in *table*, which gives its place.

    Args:
        table: name → ``module:attribute``, or an entry with such a ``place``.
        name: the name, as people write it.
        what: the kind of thing, for messages.

    Raises:
        UsageError: the name is unknown.

    Example:
        >>> implementation(AVERAGES, "logit", "average").__name__
        'mean_logits'
    """
    if name not in table:
        raise UsageError(f"unknown {what} {name!r}", where=what, fix=near_miss(name, table))
    entry = table[name]
    module, _, attribute = getattr(entry, "place", entry).partition(":")
    return getattr(importlib.import_module(module), attribute)


class LossEntry(NamedTuple):
    """A loss that attacks maximise.

    Attributes:
        place: its function, see `robustness.losses`.
        targeted: whether it needs target classes.
        classes: the least number of classes for which it is defined.
    """

    place: str
    targeted: bool = False
    classes: int = 2


_LOSSES = "soupmerge.robustness.losses"
LOSSES: dict[str, LossEntry] = {
    "ce": LossEntry(f"{_LOSSES}:cross_entropy"),
    "dlr": LossEntry(f"{_LOSSES}:dlr", classes=3),
    "margin": LossEntry(f"{_LOSSES}:margin"),
    "dlr-t": LossEntry(f"{_LOSSES}:dlr_to_target", targeted=True, classes=4),
    "margin-t": LossEntry(f"{_LOSSES}:margin_to_target", targeted=True),
}
"""Losses of gradient attacks."""

_PRESETS = "soupmerge.robustness.presets"
ATTACKS: dict[str, str] = {
    "fgsm": f"{_PRESETS}:fgsm",
    "pgd": f"{_PRESETS}:pgd",
    "fast": f"{_PRESETS}:fast",
    "apgd": f"{_PRESETS}:apgd",
    "apgd-t": f"{_PRESETS}:apgd_targeted",
    "apgd-ce+t": f"{_PRESETS}:apgd_twice",
    "apgd-100": f"{_PRESETS}:apgd_100",
    "train-2": f"{_PRESETS}:train_2",
    "autoattack": f"{_PRESETS}:autoattack",
}
"""Attack → function of a threat and a number of steps. ``apgd-LOSS`` is an attack for every loss,
``pgd-LOSS`` for those without targets; see `attack_names`."""


def attack_names() -> tuple[str, ...]:
    """Return the names of all attacks."""
    untargeted = [name for name, loss in LOSSES.items() if not loss.targeted]
    by_loss = [f"pgd-{name}" for name in untargeted] + [f"apgd-{name}" for name in LOSSES]
    return tuple(dict.fromkeys([*ATTACKS, *by_loss]))


AUGMENTATIONS: dict[str, str] = {
    "crop-flip": "soupmerge.training.augment:crop_flip",
    "none": "soupmerge.training.augment:none",
}
"""Augmentations of training images."""

AVERAGES: dict[str, str] = {
    "prob": "soupmerge.robustness.ensembles:mean_probabilities",
    "logit": "soupmerge.robustness.ensembles:mean_logits",
}
"""What ensembles average."""


class SearchMethod(NamedTuple):
    """A way in which a search proposes soups.

    Attributes:
        place: its function, see `soups.search.simplex.Method`.
        aim: what the soups that it proposes depend on: ``metric``; ``front``, which is clean
            accuracy and the last metric unless one metric is asked for; or ``none``.
    """

    place: str
    aim: str = "metric"


_CORRUPTIONS = "soupmerge.sources.images.corruptions"
CORRUPTIONS: dict[str, str] = {
    "blur": f"{_CORRUPTIONS}:blur",
    "noise": f"{_CORRUPTIONS}:add_noise",
    "low_contrast": f"{_CORRUPTIONS}:lower_contrast",
    "jpeg": f"{_CORRUPTIONS}:compress",
}
"""Corruption → function of images, a strength and ids; see `sources.images.corruptions`. These need
no further package, and images of any size."""

IMAGENET_C = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
"""Corruptions of ImageNet-C, which the mean corruption error is the mean over."""

IMAGENET_C_EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""Further corruptions of ImageNet-C, which its authors keep for validation."""

STRENGTHS = (1, 2, 3, 4, 5)
"""Strengths of every corruption."""


def corruption_names() -> tuple[str, ...]:
    """Return the names of all corruptions."""
    return (*CORRUPTIONS, *IMAGENET_C, *IMAGENET_C_EXTRA)


_SEARCH = "soupmerge.soups.search"
SEARCH_METHODS: dict[str, SearchMethod] = {
    "random": SearchMethod(f"{_SEARCH}.simplex:at_random", aim="none"),
    "cma": SearchMethod(f"{_SEARCH}.simplex:by_cma"),
    "surrogate": SearchMethod(f"{_SEARCH}.surrogate:by_surrogate", aim="front"),
}
"""How a search proposes soups: uniformly from the simplex, by CMA-ES, or by a model of accuracy."""

_FAMILIES = "soupmerge.weights.families"
FAMILIES: dict[str, str] = {
    "softmax-linear": f"{_FAMILIES}:SoftmaxLinear",
    "softmax-curved": f"{_FAMILIES}:SoftmaxCurved",
    "affine": f"{_FAMILIES}:Affine",
}
"""Forms of a front: how coefficients depend on the preference between objectives."""

_PREFERENCES = "soupmerge.soups.learn.preferences"
SCALARISATIONS: dict[str, str] = {
    "sum": f"{_PREFERENCES}:weighted_sum",
    "tchebycheff": f"{_PREFERENCES}:smooth_tchebycheff",
}
"""How a step of a front weighs the losses of its objectives."""


class Optimiser(NamedTuple):
    """An optimiser of coefficients.

    Attributes:
        place: function of parameters that makes an optimiser of torch.
        lr: its usual learning rate.
        mirrored: take the gradient of the coefficients for that of the logits (mirror descent).
    """

    place: str
    lr: float
    mirrored: bool = False


_OPTIMISERS = "soupmerge.soups.learn.optimisers"
OPTIMISERS: dict[str, Optimiser] = {
    "sgd": Optimiser(f"{_OPTIMISERS}:sgd", 10.0),
    "adam": Optimiser(f"{_OPTIMISERS}:adam", 0.1),
    "eg": Optimiser(f"{_OPTIMISERS}:sgd", 20.0, mirrored=True),
}
"""Optimisers of coefficients: gradient descent (as in Huang 2023), Adam, and exponentiated
gradient descent."""


FINGERPRINTS = ("content", "ids")
"""What the fingerprint of stored images is made of: ids, sizes and contents, or the first two."""


class Network(NamedTuple):
    """A built-in network.

    Attributes:
        place: its class or function; arguments may follow as a query.
        side: height and width, in pixels, of the images that it is usually used with.
    """

    place: str
    side: int = 32


_MODELS = "soupmerge.sources.models"
_WIDE = ((28, 4), (28, 10), (34, 10), (34, 15), (34, 20), (40, 2), (70, 16))
_DM_WIDE = ((28, 10), (34, 10), (34, 20), (70, 16), (82, 8), (94, 16), (106, 16))
_WIDE_AT, _DM_AT = f"{_MODELS}.wide_resnet:WideResNet", f"{_MODELS}.dm_wide_resnet:DMWideResNet"
NETWORKS: dict[str, Network] = {
    "digits-cnn": Network(f"{_MODELS}.tiny:DigitsCNN", 8),
    "resnet9": Network(f"{_MODELS}.resnet:ResNet9"),
    "resnet18-cifar": Network(f"{_MODELS}.resnet:ResNet18"),
    "resnet50-cifar": Network(f"{_MODELS}.resnet:ResNet50"),
    "preact-resnet18": Network(f"{_MODELS}.preact_resnet:PreActResNet18"),
    **{f"wrn-{d}-{w}": Network(f"{_WIDE_AT}?depth={d}&widen={w}") for d, w in _WIDE},
    "wrn-34-r": Network(f"{_MODELS}.wide_resnet:StagedWideResNet"),
    "wrn-a4": Network(f"{_MODELS}.wide_resnet:WideResNetA4"),
    "dm-preact-resnet18": Network(f"{_MODELS}.dm_wide_resnet:DMPreActResNet"),
    **{f"dm-wrn-{d}-{w}": Network(f"{_DM_AT}?depth={d}&widen={w}") for d, w in _DM_WIDE},
    "ra-wrn-70-16": Network(f"{_MODELS}.dm_wide_resnet:ra_wide_resnet"),
    **{
        f"convnext-{size}-convstem": Network(
            f"{_MODELS}.convstem:convnext_convstem?size={size}", 224
        )
        for size in ("tiny", "small", "base", "large")
    },
    **{
        f"vit-{size}-convstem": Network(f"{_MODELS}.convstem:vit_convstem?size={size}", 224)
        for size in ("small", "base")
    },
    **{
        f"xcit-{size}": Network(f"{_MODELS}.xcit:xcit?size={size}", 224)
        for size in ("s12", "m12", "l12")
    },
}
"""Built-in networks, in all sizes in which their families are published."""

_SPACES = "soupmerge.label_spaces.known"
LABEL_SPACES: dict[str, str] = {
    "imagenet": f"{_SPACES}:imagenet",
    "imagenet-a": f"{_SPACES}:imagenet_a",
    "imagenet-r": f"{_SPACES}:imagenet_r",
    "imagenet-real": f"{_SPACES}:imagenet_real",
    "conflict": f"{_SPACES}:conflict",
    "cifar10": f"{_SPACES}:cifar10",
    "cifar100": f"{_SPACES}:cifar100",
}
"""What the outputs of networks stand for, and the classes that known data sets have of them."""


# ---- Names alone.

BUFFER_POLICIES = ("average", "base", "recalibrate")
"""``average``: batch-norm statistics are mixed like the weights of their module. ``base``: they are
copied from one ingredient, as in the paper, where buffers are not averaged. ``recalibrate``: they
are averaged, and then re-estimated on images by `soups.recalibration`."""

HEADS = ("base", "first", "skip")
"""What becomes of the classifier: copied from the base or the first ingredient, or left out."""

FLOATS = ("float64", "float32", "float16", "bfloat16")
"""Floating-point dtypes of files, which a soup may be written in."""

PRECISIONS = ("fp32", "bf16")
"""What networks compute in; `binding.cast` makes them."""

PLACES = ("device", "host", "files")
"""Where ingredients are kept while coefficients are learned; ``files`` reads them at every step."""

STORES = ("fp32", "bf16")
"""How ingredients are kept: in the network's own dtype, or as bfloat16 differences from the base.
"""

BATCH_NORM_MODES = ("eval", "batch")
"""The statistics that batch norms use in a learning step: those of the soup, or of the batch."""

RACE_GOALS = ("front", "best")
"""Which soups a race keeps: those that may be on the front or best, or those that may be best."""

FIGURE_FORMATS = ("png", "svg", "pdf")
"""File formats of figures."""

NORMS = ("linf", "l2", "l1")
"""Norms of threat models."""

AUTOATTACK_VERSIONS: Mapping[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
    "custom": (),
}
"""Version of AutoAttack → its attacks, in the order in which they run; ``custom`` lists its own."""

OBJECTIVES = ("mix", "trades-kl", "mart")
"""Forms of adversarial training; `robustness.objectives` has the losses."""
