"""The dashboard in a real browser: it shows what runs, and the keyboard is enough."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from served import Served, served

playwright: Any = pytest.importorskip("playwright.sync_api", reason="Playwright is not there")
CHROMIUM = shutil.which("chromium") or ""
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, seed_path: Path) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("home"), seed=seed_path) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


def opened(browser: Any, server: Served, faults: list[str], **how: Any) -> Any:
    """The page, once it knows the models. What the browser complains of goes to `faults`."""
    page = browser.new_context(**how).new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda told: faults.append(told.text) if told.type == "error" else None)
    page.goto(f"{server.address}/ui")
    page.get_by_role("button", name="unload").wait_for(state="attached")
    return page


def test_the_keyboard_is_enough(browser: Any, server: Served) -> None:
    """An answer, the model's unloading, and an answer that is stopped, by keys alone."""
    faults: list[str] = []
    page = opened(browser, server, faults, viewport={"width": 1200, "height": 900})

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            found = page.evaluate("[document.activeElement.id, document.activeElement.textContent]")
            if name in found:
                return
        raise AssertionError(f"{name} is not reached")

    tab_to("text")
    page.keyboard.type("Once upon a time")
    page.keyboard.press("Control+Enter")
    page.locator("#talk span").nth(20).wait_for(state="attached")
    levels = page.evaluate(
        "[...document.querySelectorAll('#talk span')].map((span) => span.className)"
    )
    assert len(set(levels)) > 1  # tokens differ in how sure they were
    assert "nats" in page.get_attribute("#talk span", "title")
    page.evaluate("document.getElementById('stop').click()")  # the seed may go on for long
    page.locator("#send:enabled").wait_for()
    planes = server.state()["models"][0]["all_planes"]
    used = page.text_content("#talk .planes-used")
    found = re.findall(r"(\d+)(?: planes?)? for (\d+)", used)
    assert found  # at every moment of the answer so many
    assert all(1 <= int(one) <= planes for one, _ in found)
    assert sum(int(count) for _, count in found) >= len(levels)
    assert page.locator("#talk .mark").count() == len(found)
    assert page.locator("#talk .mark").first.get_attribute("data-planes") == found[0][0]
    assert "planes" in page.get_attribute("#talk span", "title")
    page.get_by_text(re.compile(r"[1-9]\d* of \d+ planes")).wait_for()
    tab_to("unload")
    page.keyboard.press("Enter")
    page.get_by_text("not in memory").wait_for()
    tab_to("text")
    page.keyboard.type("The sea")
    page.keyboard.press("Control+Enter")
    tab_to("stop")  # while the model is loaded again
    page.keyboard.press("Enter")
    page.locator("#send:enabled").wait_for()
    assert faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_schemes(browser: Any, server: Served, scheme: str) -> None:
    faults: list[str] = []
    phone = {"width": 390, "height": 844}
    page = opened(browser, server, faults, viewport=phone, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    paper, ink = page.evaluate(
        "(({ backgroundColor, color }) => [backgroundColor, color])"
        "(getComputedStyle(document.body))"
    )
    sums = [sum(map(int, found.strip("rgb()").split(","))) for found in (paper, ink)]
    assert (sums[0] > sums[1]) == (scheme == "light")
    assert abs(sums[0] - sums[1]) > 350  # of 765: readable
    assert faults == []
