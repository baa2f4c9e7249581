"""The page of all results in a real browser: ``pytest -m browser``, with Chromium and its driver installed."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
PAGE = Path(__file__).parent.parent / "paper_tables" / "index.html"
WIDTHS = (360, 1280)

CONTRASTS = """
for (const part of document.querySelectorAll("details")) part.open = true;
const numbers = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
function behind(element) {
  for (; element; element = element.parentElement) {
    const colour = numbers(getComputedStyle(element).backgroundColor);
    if (colour.length === 3) return colour;
  }
  return [255, 255, 255];
}
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const elements = new Set(document.querySelectorAll("svg"));
while (walker.nextNode()) if (walker.currentNode.data.trim()) elements.add(walker.currentNode.parentElement);
for (const element of elements) {
  const [a, b] = [light(numbers(getComputedStyle(element).color)), light(behind(element))];
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.tagName, element.textContent.slice(0, 40)]);
}
return found.sort((x, y) => x[0] - y[0]);
"""
"""The contrast of every text, and of every figure's text, with what is behind it, least first (WCAG 2, 1.4.3)."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; without it the tests fail, for a skipped test would tell nothing."""
    try:
        from selenium import webdriver
    except ImportError:
        pytest.fail('these tests need selenium: pip install -e ".[browser]"')
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.fail("these tests need Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)  # no sandbox: a container's root has none, and the page is our own
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


def opened(browser: Any, width: int, scheme: str = "light") -> Any:
    """The browser with the page loaded anew, so wide, in that colour scheme."""
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get(PAGE.as_uri())
    return browser


def press(browser: Any, *keys: str) -> None:
    """Presses keys, one after the other."""
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_never_wider_than_the_window(browser: Any, width: int) -> None:
    page = opened(browser, width)
    for _ in ("details closed", "details open"):
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        page.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")


def test_nothing_is_fetched_and_the_console_is_silent(browser: Any) -> None:
    page = opened(browser, 1280)
    entries = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name[:80] for name in entries if not name.startswith("data:")] == []
    assert page.get_log("browser") == []
    assert page.execute_script("return document.compatMode") == "CSS1Compat"  # a doctype the browser knows


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser: Any, scheme: str) -> None:
    page = opened(browser, 1280, scheme)
    dark = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in dark.strip("rgb()").split(", ")) < 384) == (scheme == "dark")
    found = page.execute_script(CONTRASTS)
    assert len(found) > 1_000
    assert [item for item in found if item[0] < 4.5] == []


def test_pictures_and_regions_have_names(browser: Any) -> None:
    """As the accessibility tree tells, which is what a screen reader reads."""
    page = opened(browser, 1280)
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    names: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            role = node.get("role", {}).get("value", "")
            names.setdefault(role, []).append(node.get("name", {}).get("value", ""))
    drawings = page.execute_script("return document.querySelectorAll('svg:not([aria-hidden])').length")
    assert len(names["image"]) == drawings > 0
    for role in ("image", "region", "table", "navigation", "link"):
        assert all(names[role]), role
    assert len(names["main"]) == 1
    assert names["RootWebArea"] == [page.title]


def test_the_keyboard_reaches_the_skip_link_and_scrolls_a_table(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    page = opened(browser, 360)
    press(page, Keys.TAB)
    link = page.switch_to.active_element
    assert link.get_attribute("class") == "skip"
    box = page.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.top, b.left, b.width]", link)
    assert min(box[:2]) >= 0
    assert page.execute_script("return getComputedStyle(arguments[0]).outlineStyle", link) == "solid"
    press(page, Keys.ENTER)
    assert page.switch_to.active_element.get_attribute("id") == "content"
    press(page, Keys.TAB)
    region = page.switch_to.active_element
    assert (region.get_attribute("role"), region.get_attribute("class")) == ("region", "scroll")
    assert region.accessible_name
    press(page, *[Keys.ARROW_RIGHT] * 3)
    page.execute_async_script("setTimeout(arguments[0], 500)")
    assert page.execute_script("return arguments[0].scrollLeft", region) > 0
    scrolled = "return [...document.querySelectorAll('.scroll')].every(part => part.tabIndex === 0)"
    assert page.execute_script(scrolled)
