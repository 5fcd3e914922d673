"""Published data sets by name: what they hold, how they are laid out, and where they come from.

Nothing here is downloaded: a message says what to get, and where it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from soupmerge.choices import IMAGENET_C, IMAGENET_C_EXTRA


class Part(NamedTuple):
    """A part of a set.

    Attributes:
        place: its folder or file below that of the set. ``{kind}`` and ``{strength}`` stand for
            those of a corruption.
        images: the number of its images.
    """

    place: str
    images: int


class Archive(NamedTuple):
    """A file to get.

    Attributes:
        name: its name.
        sum: its published checksum, as ``md5sum`` or ``sha256sum`` prints it.
        holds: the splits or kinds of corruption that are in it, if there are other archives.
    """

    name: str
    sum: str
    holds: tuple[str, ...] = ()

    @property
    def tool(self) -> str:
        """The command that prints the checksum."""
        return "md5sum" if len(self.sum) == 32 else "sha256sum"


class KnownSet(NamedTuple):
    """A published data set.

    Attributes:
        title: its name as papers write it.
        parts: split → part.
        classes: the number of its classes.
        site: where its authors offer it.
        terms: under which terms.
        archives: the files to get from there.
        unpacked: the folder that the archives unpack to, which may stay as it is.
        space: the label space of its classes, or "" if its folders name them.
        layout: how it is laid out, one of `sources.images.known.LAYOUTS`.
        home: the set whose folder it shares.
        advice: what unpacking does not do by itself.
    """

    title: str
    parts: Mapping[str, Part]
    classes: int
    site: str
    terms: str
    archives: tuple[Archive, ...] = ()
    unpacked: str = ""
    space: str = ""
    layout: str = "folders"
    home: str = ""
    advice: str = ""

    def archives_of(self, what: str) -> list[Archive]:
        """Return the archives that hold the split or kind of corruption *what*."""
        return [archive for archive in self.archives if what in archive.holds or not archive.holds]

    @property
    def is_corrupted(self) -> bool:
        """Whether it consists of the corruptions of another set."""
        return any("{kind}" in part.place for part in self.parts.values())


_CORRUPTED = "{kind}/{strength}"
_TRAIN = Archive("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e", ("train",))
_VAL = Archive(
    "ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622", ("val", "test", "rb5000")
)
_RESEARCH = "non-commercial research, after registration"
_AS_IMAGENET = "the images as ImageNet's"
_ATTRIBUTION = "CC BY 4.0"
_SYNSETS = "with a folder for each synset, such as val/n01440764"
_BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"

KNOWN_SETS: dict[str, KnownSet] = {
    "imagenet": KnownSet(
        "ImageNet (ILSVRC 2012)",
        {
            "train": Part("train", 1_281_167),
            "val": Part("val", 50_000),
            "test": Part("val", 50_000),
            "rb5000": Part("val", 5_000),
        },
        1000,
        "https://image-net.org/challenges/LSVRC/2012",
        _RESEARCH,
        (_VAL, _TRAIN),
        space="imagenet",
        advice=_SYNSETS,
    ),
    "imagenet-real": KnownSet(
        "ImageNet with the labels of Beyer et al. 2020",
        {"val": Part("val", 50_000), "test": Part("val", 50_000)},
        1000,
        "https://image-net.org/challenges/LSVRC/2012",
        f"{_RESEARCH}; the labels (Apache 2.0) come with timm",
        (_VAL,),
        space="imagenet-real",
        home="imagenet",
        advice=_SYNSETS,
    ),
    "imagenet-v2": KnownSet(
        "ImageNet-V2, matched frequency (Recht et al. 2019)",
        {"test": Part("", 10_000)},
        1000,
        "https://huggingface.co/datasets/vaishaal/ImageNetV2",
        _AS_IMAGENET,
        (
            Archive(
                "imagenetv2-matched-frequency.tar.gz",
                "f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
            ),
        ),
        "imagenetv2-matched-frequency-format-val",
        "imagenet",
    ),
    "imagenet-a": KnownSet(
        "ImageNet-A (Hendrycks et al. 2021)",
        {"test": Part("", 7_500)},
        200,
        f"{_BERKELEY}/imagenet-a.tar",
        "MIT",
        (Archive("imagenet-a.tar", "c3e55429088dc681f30d81f4726b6595"),),
        "imagenet-a",
        "imagenet-a",
    ),
    "imagenet-r": KnownSet(
        "ImageNet-R (Hendrycks et al. 2021)",
        {"test": Part("", 30_000)},
        200,
        f"{_BERKELEY}/imagenet-r.tar",
        "research, as the images are others' works",
        (Archive("imagenet-r.tar", "a61312130a589d0ca1a8fca1f2bd3337"),),
        "imagenet-r",
        "imagenet-r",
    ),
    "imagenet-sketch": KnownSet(
        "ImageNet-Sketch (Wang et al. 2019)",
        {"test": Part("", 50_889)},
        1000,
        "https://github.com/HaohanWang/ImageNet-Sketch",
        "research, as the images are others' works",
        (
            Archive(
                "ImageNet-Sketch.zip",
                "4d3ce6b82a7c48aabf14aeac105eb533e75707f152cc858f55bfc022031a72ed",
            ),
        ),
        "sketch",
        "imagenet",
    ),
    "imagenet-c": KnownSet(
        "ImageNet-C (Hendrycks & Dietterich 2019)",
        {"test": Part(_CORRUPTED, 50_000), "rb5000": Part(_CORRUPTED, 5_000)},
        1000,
        "https://zenodo.org/records/2235448",
        _ATTRIBUTION,
        (
            Archive("noise.tar", "e80562d7f6c3f8834afb1ecf27252745", IMAGENET_C[:3]),
            Archive("blur.tar", "2d8e81fdd8e07fef67b9334fa635e45c", IMAGENET_C[3:7]),
            Archive("weather.tar", "33ffea4db4d93fe4a428c40a6ce0c25d", IMAGENET_C[7:11]),
            Archive("digital.tar", "89157860d7b10d5797849337ca2e5c03", IMAGENET_C[11:]),
            Archive("extra.tar", "d492dfba5fc162d8ec2c3cd8ee672984", IMAGENET_C_EXTRA),
        ),
        space="imagenet",
    ),
    "conflict": KnownSet(
        "cue-conflict images, labelled by shape (Geirhos et al. 2019)",
        {"test": Part("", 1_280)},
        16,
        "https://github.com/rgeirhos/texture-vs-shape, folder stimuli",
        _ATTRIBUTION,
        unpacked="style-transfer-preprocessed-512",
        space="conflict",
    ),
    "cifar10-c": KnownSet(
        "CIFAR-10-C (Hendrycks & Dietterich 2019)",
        {"test": Part("{kind}.npy", 10_000)},
        10,
        "https://zenodo.org/records/2535967",
        _ATTRIBUTION,
        (Archive("CIFAR-10-C.tar", "56bf5dcef84df0e2308c6dcbcbbd8499"),),
        "CIFAR-10-C",
        "cifar10",
        "arrays",
    ),
    "cifar100-c": KnownSet(
        "CIFAR-100-C (Hendrycks & Dietterich 2019)",
        {"test": Part("{kind}.npy", 10_000)},
        100,
        "https://zenodo.org/records/3555552",
        _ATTRIBUTION,
        (Archive("CIFAR-100-C.tar", "11f0ed0f1191edbf9fa23466ae6021d3"),),
        "CIFAR-100-C",
        "cifar100",
        "arrays",
    ),
    "tiny-imagenet": KnownSet(
        "Tiny ImageNet (Stanford CS231n)",
        {
            "train": Part("train", 100_000),
            "val": Part("val", 10_000),
            "test": Part("val", 10_000),
        },
        200,
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        _AS_IMAGENET,
        (Archive("tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"),),
        "tiny-imagenet-200",
        layout="annotated",
    ),
}
"""Name → published data set."""
