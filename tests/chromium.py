"""Headless Chromium for the tests of pages."""

import contextlib
import importlib.util
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


def require_chromium() -> None:
    """Skips the test where there is no browser, or nothing to drive it by."""
    if importlib.util.find_spec("playwright") is None or CHROMIUM is None:
        pytest.skip("needs pip install -e '.[browser]' and Chromium")


@contextlib.contextmanager
def chromium(*flags: str):
    """Gives a browser, started with `FLAGS` and `flags`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS.split(), *flags]
        )
        yield browser
        browser.close()
