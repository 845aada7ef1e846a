"""MLflow's pages in a real browser, as a person uses them."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NEEDS_BROWSER = (
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no browser here: install Debian's chromium ({CHROMIUM})"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="no playwright here: pip install it"),
)


@contextmanager
def open_browser() -> Iterator[Any]:
    """A page of Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1200, "height": 760})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def open_models(page: Any, address: str) -> None:
    """Opens the list of models and closes what MLflow shows to a new user."""
    page.goto(f"{address}/#/models")
    welcome = page.get_by_role("dialog")
    welcome.get_by_role("button", name="Try it now").click()
    welcome.wait_for(state="hidden")
    page.get_by_role("button", name="Close", exact=True).click()  # the assistant at the side of the page


def open_version(page: Any, model: str, version: str) -> None:
    """Follows the links from the list of models to the page of a version."""
    page.get_by_role("link", name=model, exact=True).click()
    page.get_by_role("link", name=f"Version {version}").click()
    page.get_by_role("heading", name=f"{model} version {version}").wait_for()


def give_champion(page: Any, holder: str, saving: Callable[[], object] = lambda: None) -> None:
    """Gives the alias champion to the version of the open page.

    Args:
        page: the page.
        holder: the version that has the alias.
        saving: called before the button is clicked that saves it.
    """
    page.get_by_title("Edit aliases").or_(page.get_by_title("Add aliases")).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("combobox").fill("champion")
    page.keyboard.press("Enter")
    dialog.get_by_text(f"is also being used on version {holder}").wait_for()
    saving()
    dialog.get_by_role("button", name="Save aliases").click()
    dialog.wait_for(state="hidden")
    page.get_by_text("champion", exact=True).first.wait_for()
