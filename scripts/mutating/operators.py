"""Kinds of changes: cosmic-ray's operators without those that only make noise, and four more.

Of the replacements of one operator by another, only slips that somebody could make are kept; the
others (`a + b` to `a >> b`) fail in any test. The removal of decorators is left out: nearly all of
ours are options of commands, `property` or `dataclass`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator
from parso.python.tree import Keyword

BINARY = (
    "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_FloorDiv Pow_Mul RShift_LShift LShift_RShift "
    "BitOr_BitAnd BitAnd_BitOr"
)
COMPARISON = (
    "Eq_NotEq NotEq_Eq Lt_LtE LtE_Lt Gt_GtE GtE_Gt Lt_GtE LtE_Gt Gt_LtE GtE_Lt Is_IsNot IsNot_Is"
)
OTHERS = (
    "AddNot ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceAndWithOr ReplaceOrWithAnd "
    "ReplaceBreakWithContinue ReplaceContinueWithBreak ExceptionReplacer NumberReplacer "
    "ZeroIterationForLoop ReplaceUnaryOperator_Delete_USub ReplaceUnaryOperator_Delete_Not "
    "ReplaceUnaryOperator_Delete_Invert"
)
ARITHMETIC = {"arith_expr", "term", "power", "shift_expr", "expr", "and_expr"}

PAIRS = ["min max", "amin amax", "minimum maximum", "argmin argmax", "any all", "floor ceil"]
PAIRS += ["sum mean", "startswith endswith", "zeros ones", "zeros_like ones_like"]
SWAPS = {a: b for pair in PAIRS for a, b in (pair.split(), pair.split()[::-1])}
PROSE = {
    "help",
    "metavar",
    "short_help",
    "show_default",
    "fix",
    "stacklevel",
    "strict",
    "slots",
    "repr",
}
"""Arguments whose absence changes nothing, or only wording."""
STYLE = set(
    re.findall(
        r"\w+",
        "alpha bbox borderaxespad capsize cmap color dpi edgecolor facecolor figsize fontsize "
        "fontweight framealpha frameon gridcolor ha handlelength hatch height_ratios linestyle "
        "linewidth lw markeredgecolor markeredgewidth markersize ms pad size thickness tickfont "
        "tickformat va zorder",
    )
)
"""Keywords of matplotlib and plotly that say how a figure looks, not what it shows."""


class _Own(Operator):  # type: ignore[misc]
    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class DeleteStatement(_Own):
    """A call, an update, a `raise` or a nested `return` becomes `pass`."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        """Yield the place of a statement without which later ones can still run."""
        if node.type == "simple_stmt" and self._can_go(node, node.children[0]):
            yield node.children[0].start_pos, node.children[0].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Replace it by `pass`."""
        first = node.children[0]
        node.children[0] = Keyword("pass", first.start_pos, first.get_first_leaf().prefix)
        return node

    @staticmethod
    def _can_go(node: Any, what: Any) -> bool:
        if what.type == "return_stmt":
            return bool(node.parent.parent.type != "funcdef")
        if what.type == "expr_stmt":
            target, sign = what.children[:2]
            again = re.search(rf"\b{re.escape(target.get_code().strip())}\b", _code(what, 2))
            if target.type not in ("name", "atom_expr", "power") or sign.type != "operator":
                return False
            return bool(sign.value != "=" or target.type != "name" or again)
        called = what.type in ("atom_expr", "power") and what.children[-1].children[0] == "("
        return called or what.type in ("raise_stmt", "del_stmt", "assert_stmt")


class DropKeyword(_Own):
    """A call loses one of its keyword arguments."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        """Yield the place of each keyword argument of a call."""
        if node.type in ("arglist", "trailer"):
            for child in self._keywords(node):
                yield child.start_pos, child.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Drop the argument and the comma after it."""
        child = self._keywords(node)[index]
        place = node.children.index(child)
        after = node.children[place + 1 : place + 2]
        del node.children[place : place + (2 if after and after[0] == "," else 1)]
        return node

    @staticmethod
    def _keywords(node: Any) -> list[Any]:
        named = [c for c in node.children if c.type == "argument" and c.children[1] == "="]
        return [c for c in named if c.children[0].value not in PROSE | STYLE]


class SwapName(_Own):
    """`min` becomes `max`, `any` becomes `all`, and so on, in calls and as keywords."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        """Yield the place of a name with an opposite."""
        if node.type == "name" and node.value in SWAPS:
            after = node.get_next_leaf()
            if after == "(" or (after == "=" and node.parent.type == "argument"):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Replace it by its opposite."""
        node.value = SWAPS[node.value]
        return node


class ReplaceString(_Own):
    """A one-word string, which is probably a name, becomes another."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        """Yield the place of a string without white space, unless it is a docstring."""
        plain = node.type == "string" and re.fullmatch(r"b?(['\"])[^\s'\"\\]+\1", node.value)
        if plain and node.parent.type not in ("simple_stmt", "strings"):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        """Add an X in front."""
        node.value = re.sub(r"^(b?['\"])", r"\1X", node.value)
        return node


def _code(node: Any, start: int) -> str:
    return "".join(child.get_code() for child in node.children[start:])


def operators() -> dict[str, Operator]:
    """Return the operators by name."""
    names = [f"ReplaceBinaryOperator_{name}" for name in BINARY.split()]
    names += [f"ReplaceComparisonOperator_{name}" for name in COMPARISON.split()]
    found = {name: get_operator(f"core/{name}")() for name in names + OTHERS.split()}
    own = (DeleteStatement, DropKeyword, SwapName, ReplaceString)
    return found | {kind.__name__: kind() for kind in own}


def by_type(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the operators for each type of leaf, and, under an empty name, for other nodes."""
    words = ("Break", "Continue", "True", "False", "And", "Or")
    found = {
        "operator": [n for n in names if n.startswith("ReplaceBinary")],
        "keyword": [n for n in names if n.startswith(tuple(f"Replace{word}" for word in words))],
        "number": ["NumberReplacer"],
        "string": ["ReplaceString"],
        "name": ["SwapName"],
        "newline": [],
    }
    return found | {"": [n for n in names if n not in sum(found.values(), [])]}


def is_noise(node: Any) -> bool:
    """Tell whether changes below *node* mean nothing: types, messages of errors, `__all__`."""
    parent = node.parent
    if node.type == "annassign":  # the value counts, the type does not
        return False
    if parent is not None and parent.type == "annassign":
        return bool(node is parent.children[1])
    if parent is not None and parent.type == "tfpdef":
        return bool(node is parent.children[-1])
    if parent is not None and parent.type == "funcdef" and node is parent.annotation:
        return True
    if node.type == "raise_stmt":
        return True
    if node.type == "operator":
        return node.value in ("*", "**", "/", "|") and parent.type not in ARITHMETIC
    if node.type in ("if_stmt", "atom_expr", "expr_stmt", "decorator", "classdef", "decorated"):
        code = node.get_code(include_prefix=False)
    if node.type in ("if_stmt", "atom_expr", "expr_stmt"):
        start = r"if TYPE_CHECKING|Literal\[|__all__|__version__|__slots__|cast\(|warnings\.filter"
        return re.match(rf"({start})", code) is not None
    if node.type == "decorator":
        return re.match(r"@(dataclass|overload|property|abstractmethod)", code) is not None
    if node.type == "decorated":
        return "@overload" in code
    if node.type == "classdef":
        return re.match(r"class \w+\([^)]*Protocol", code) is not None
    if node.type == "argument" and node.children[1] == "=":
        return node.children[0].value in PROSE | STYLE
    if parent is not None and parent.type == "dictorsetmaker" and node.type in ("number", "string"):
        return re.search(rf"\W({'|'.join(STYLE)})\W*$", _before(node)) is not None
    return False


def _before(node: Any) -> str:
    place = node.parent.children.index(node)
    return "".join(child.get_code() for child in node.parent.children[max(place - 2, 0) : place])
