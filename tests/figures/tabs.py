"""Pages of runs that are open in a browser."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupmerge.figures.page import writing
from soupmerge.figures.page.contents import contents
from soupmerge.figures.reading import RunRecord


@dataclass
class Tab:
    """A page that is open in a browser.

    Attributes:
        tab: playwright's page.
        seen: what it fetched, and what it complained of.
        runs: whose page it is.
        data: what its script works on.
    """

    tab: Any
    seen: list[str]
    runs: list[RunRecord]
    data: dict[str, Any]

    def value(self, script: str, *args: Any) -> Any:
        return self.tab.evaluate(script, *args)

    def until(self, condition: str) -> None:
        """Wait for *condition*; playwright's own way is forbidden by the page's policy."""
        for _ in range(100):
            if self.tab.evaluate(condition):
                return
            self.tab.wait_for_timeout(100)
        raise AssertionError(condition)

    def status(self) -> str:
        return str(self.tab.inner_text("#status"))

    def cells(self, table: str) -> list[list[str]]:
        """Return the texts of the rows of *table*, its header first."""
        script = """(table) => [...document.querySelector(table).rows].map(
            (row) => [...row.cells].map((cell) => cell.textContent))"""
        found: list[list[str]] = self.tab.evaluate(script, table)
        return found

    def texts(self, where: str) -> list[str]:
        """Return the texts of all elements at *where*."""
        found: list[str] = self.tab.evaluate(
            "(where) => [...document.querySelectorAll(where)].map((one) => one.textContent)", where
        )
        return found

    def choose(self, number: int) -> None:
        """Click the soup *number* in the table, which has its row on the present page."""
        self.tab.click(f"[data-soup='{number - 1}']")


def opened(
    chromium: Any,
    runs: list[RunRecord],
    path: Path,
    *,
    width: int = 1200,
    ready: str = "#soups tbody tr",
) -> Tab:
    """Write the page of *runs* to *path*, and return it as a browser shows it.

    Args:
        chromium: playwright's browser.
        width: the width of the window.
        ready: what is on the page once it can be used.
    """
    writing.write_page(runs, path)
    seen: list[str] = []
    tab = chromium.new_page(color_scheme="dark", viewport={"width": width, "height": 800})
    tab.set_default_timeout(20_000)
    tab.on("request", lambda request: seen.append(request.url))
    tab.on("console", lambda message: seen.append(message.text))
    tab.on("pageerror", lambda error: seen.append(str(error)))
    tab.on("dialog", lambda dialog: seen.append(f"dialog {dialog.message}"))
    tab.goto(path.as_uri())
    tab.wait_for_selector(ready)
    return Tab(tab, seen, runs, contents(runs))
