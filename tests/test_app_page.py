"""The page in a real browser: chromium without a window, driven by selenium; skipped where there is none."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import httpx
import pytest
from axe_core_python.base import AXE_SCRIPT
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from typer.testing import CliRunner

from app_servers import served, until
from esc_sr.app import work
from esc_sr.cli.main import app as command
from esc_sr.weights import bundle
from pictures import noise, pillow
from weights_files import shelf_of_pairs

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    BROWSER is None or DRIVER is None, reason="needs chromium and chromedriver; neither is fetched by itself"
)

DROP = """
const given = new DataTransfer();
given.items.add(new File([arguments[1]], arguments[0]));
const event = arguments[2] === "paste"
    ? new ClipboardEvent("paste", {clipboardData: given, bubbles: true})
    : new DragEvent("drop", {dataTransfer: given, bubbles: true, cancelable: true});
document.body.dispatchEvent(event);
"""


class Page:
    """What a person sees and does."""

    def __init__(self, driver: Chrome, link: str, downloads: Path) -> None:
        self.driver, self.link, self.downloads = driver, link, downloads

    def open(self) -> None:
        """Begin anew."""
        self.driver.get(f"{self.link}/no-page")
        self.driver.execute_script("sessionStorage.clear()")
        self.driver.get(self.link)
        until(lambda: len(self.find_all("#model option")) > 1)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def set(self, selector: str, value: str) -> None:
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))"
        self.driver.execute_script(script, self.find(selector), value)

    def give(self, *files: Path) -> None:
        self.find("#files").send_keys("\n".join(map(str, files)))

    def states(self) -> list[str]:
        return [found.text for found in self.find_all("#jobs .state")]

    def press(self, name: str) -> None:
        (button,) = [
            found
            for found in self.find_all("button")
            if name in (found.text, found.get_attribute("aria-label")) and found.is_displayed()
        ]
        button.click()

    def shows(self, id: str) -> bool:
        """Whether a picture is there, decoded."""
        return bool(self.driver.execute_script(f"return document.getElementById('{id}').naturalWidth"))

    def column(self) -> float:
        """Where the line between before and after is, in percent of the stage."""
        line, stage = (self.find(selector).rect for selector in ("#line", "#stage"))
        return 100 * (line["x"] + line["width"] / 2 - stage["x"]) / stage["width"]

    def violations(self) -> list[Any]:
        """What axe finds."""
        self.driver.execute_script(AXE_SCRIPT)
        found = self.driver.execute_async_script("axe.run().then(arguments[0])")
        return [(fault["id"], fault["nodes"][0]["html"]) for fault in found["violations"]]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    downloads = tmp_path_factory.mktemp("downloads")
    options = ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,1000"):
        options.add_argument(argument)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.add_experimental_option(
        "prefs",
        {
            "download.default_directory": str(downloads),
            "profile.default_content_setting_values.automatic_downloads": 1,
        },
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with served(tmp_path_factory.mktemp("scratch")) as link:
        driver = Chrome(options, ChromeService(DRIVER))
        try:
            yield Page(driver, link, downloads)
        finally:
            driver.quit()


@pytest.fixture(autouse=True)
def opened(page: Page, one_thread: None) -> Iterator[None]:
    page.open()
    page.driver.get_log("browser")
    yield
    said = [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert [text for text in said if "Failed to load resource" not in text] == []


def picture(path: Path, side: int = 24) -> Path:
    path.write_bytes(pillow(Image.fromarray(noise(side, side + 8, 3)), "PNG"))
    return path


def done(page: Page, count: int = 1) -> None:
    until(lambda: sum(state.startswith("done in ") for state in page.states()) == count)


def test_a_picture_in_and_its_result_out(page: Page, tmp_path: Path) -> None:
    source = picture(tmp_path / "sea.png")
    page.set("#value", "3")
    page.give(source)
    done(page)
    until(lambda: page.shows("before") and page.shows("after"))
    assert page.find("#viewer-title").text == "sea.png"
    assert "32 × 24 to 96 × 72 pixels, esc-light x3" in page.find("#facts").text
    assert "96 × 72" in page.states()[0]
    page.press("Download sea.png")
    until((page.downloads / "sea_3x.png").exists)
    assert CliRunner().invoke(command, ["upscale", str(source), "-s", "3", "-q"]).exit_code == 0
    assert (page.downloads / "sea_3x.png").read_bytes() == (tmp_path / "sea_3x.png").read_bytes()
    page.press("Remove sea.png")
    until(lambda: not page.find("#viewer").is_displayed())


def test_line_zoom_and_pan_by_keyboard_and_pointer(page: Page, tmp_path: Path) -> None:
    page.give(picture(tmp_path / "a.png", 300))
    until(lambda: page.shows("before"))
    assert page.column() == pytest.approx(50, abs=1)
    page.find("#divider").send_keys(Keys.ARROW_RIGHT * 10)
    assert page.column() == pytest.approx(60, abs=1)
    assert "inset(0px 0px 0px " in page.find("#after-side").value_of_css_property("clip-path")
    stage = page.find("#stage")
    stage.send_keys("4")
    assert page.find("#percent").text == "400 %"
    left = page.find("#before").rect["x"]
    stage.send_keys(Keys.ARROW_RIGHT)
    assert page.find("#before").rect["x"] < left - 50
    stage.send_keys("-")
    assert page.find("#percent").text == "267 %"
    page.press("100 %")
    assert page.find("[data-zoom='100']").get_attribute("aria-pressed") == "true"
    stage.send_keys("0")
    assert page.find("[data-zoom=fit]").get_attribute("aria-pressed") == "true"
    line = page.find("#line")
    ActionChains(page.driver).drag_and_drop_by_offset(line, -200, 0).perform()
    assert page.column() == pytest.approx(60 - 100 * 200 / stage.rect["width"], abs=1)
    page.press("400 %")
    before = page.find("#before").rect
    ActionChains(page.driver).move_to_element_with_offset(stage, 200, 100).click_and_hold().move_by_offset(
        50, 30
    ).release().perform()
    after = page.find("#before").rect
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((50, 30), abs=1)
    touch(page, [(300, 200), (500, 200)], [(200, 200), (600, 200)])
    assert page.find("#percent").text == "800 %"
    middle = line.rect["x"] + line.rect["width"] / 2 - stage.rect["x"]
    touch(page, [(round(middle), 150)], [(100, 150)])
    assert page.column() == pytest.approx(100 * 100 / stage.rect["width"], abs=1)
    before = page.find("#before").rect
    touch(page, [(400, 200)], [(440, 180)])
    after = page.find("#before").rect
    assert (after["x"] - before["x"], after["y"] - before["y"]) == pytest.approx((40, -20), abs=1)
    page.press("Cancel a.png")


def touch(page: Page, begin: list[tuple[int, int]], end: list[tuple[int, int]]) -> None:
    """Two fingers in the stage, from some places to others."""
    stage = page.find("#stage")
    page.driver.execute_script("arguments[0].scrollIntoView()", stage)
    frame = page.driver.execute_script("return arguments[0].getBoundingClientRect()", stage)

    def send(kind: str, points: list[tuple[int, int]]) -> None:
        places = [
            {"x": x + frame["x"], "y": y + frame["y"], "id": number} for number, (x, y) in enumerate(points)
        ]
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    send("touchStart", begin)
    send("touchMove", end)
    send("touchEnd", [])


def test_a_preview_comes_first(page: Page, tmp_path: Path) -> None:
    page.set("#model", "esc-light-real")
    page.set("#value", "4")
    page.give(picture(tmp_path / "large.png", 500))
    until(lambda: page.find("#part").is_displayed())
    assert page.find("#part").text == "Preview"
    assert not page.states()[0].startswith("done")
    assert page.find("#percent").text == "100 %"
    part, stage = page.find("#part").rect, page.find("#stage").rect
    assert part["width"] == pytest.approx(min(800, stage["width"]), abs=8) and part["x"] >= stage["x"]
    assert page.find("#right-tag").text == "After: not yet there"
    page.press("Cancel large.png")
    until(lambda: page.states() == [])
    assert "large.png: cancelled" in page.find("#said").text


def test_two_at_once_a_wrong_file_and_one_that_is_cancelled(page: Page, tmp_path: Path) -> None:
    wrong = tmp_path / "no.png"
    wrong.write_text("no picture")
    page.give(
        picture(tmp_path / "long.png", 500), picture(tmp_path / "b.png"), wrong, picture(tmp_path / "c.png")
    )
    until(lambda: any("cannot read no.png: not a complete PNG" in state for state in page.states()))
    until(lambda: [state.startswith("waits") for state in page.states()].count(True) == 2)
    page.press("Cancel long.png")
    done(page, 2)
    page.give(picture(tmp_path / "c.png"))
    done(page, 3)
    ids = [job["id"] for job in page.driver.execute_script("return JSON.parse(sessionStorage.jobs)")]
    results = [httpx.get(f"{page.link}/v1/jobs/{id}/result").content for id in ids]
    assert httpx.delete(f"{page.link}/v1/jobs/{ids[0]}").status_code == 204
    page.press("Download all")
    until((page.downloads / "pictures.zip").exists)
    with ZipFile(page.downloads / "pictures.zip") as archive:
        assert archive.namelist() == ["c_2x.png", "c_2x (2).png"]
        assert [archive.read(name) for name in archive.namelist()] == results[1:]
    assert "does not have this picture any more" in page.states()[0]
    page.press("Remove all")
    until(lambda: page.states() == [])


def test_reload_during_a_job_and_after_its_time(page: Page, tmp_path: Path) -> None:
    page.give(picture(tmp_path / "a.png", 150), picture(tmp_path / "b.png"))
    until(lambda: len(page.states()) == 2 and "is being sent" not in page.states())
    page.driver.refresh()
    done(page, 2)
    until(lambda: page.shows("after"))
    ids = [job["id"] for job in page.driver.execute_script("return JSON.parse(sessionStorage.jobs)")]
    assert httpx.delete(f"{page.link}/v1/jobs/{ids[0]}").status_code == 204
    page.driver.refresh()
    until(lambda: len(page.states()) == 2 and page.states()[1].startswith("done in "))
    assert "does not have this picture any more" in page.states()[0]
    page.press("Remove all")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(page: Page, tmp_path: Path, way: str) -> None:
    script = DROP.replace("arguments[1]", "new Uint8Array(arguments[1])")
    page.driver.execute_script(script, f"{way}.png", list(picture(tmp_path / "a.png").read_bytes()), way)
    done(page)
    page.press(f"Remove {way}.png")


def test_denoise_is_offered_where_it_is(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "FOLDER", shelf_of_pairs(tmp_path))
    work.models.cache_clear()
    try:
        page.open()
        assert not page.find("#denoise").is_displayed()
        page.set("#model", "tiny")
        slider = page.find("#denoise")
        assert slider.is_displayed() and page.find("#share").text == "1"
        slider.send_keys(Keys.ARROW_LEFT * 10)
        assert page.find("#share").text == "0.5" and page.violations() == []
        page.give(picture(tmp_path / "a.png"))
        done(page)
        assert "tiny x2, denoise 0.5" in page.find("#facts").text
        slider.send_keys(Keys.ARROW_RIGHT * 10)
        page.give(picture(tmp_path / "b.png"))
        done(page, 2)
        assert "denoise" not in page.find("#facts").text
        page.press("Remove all")
    finally:
        work.models.cache_clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, tmp_path: Path, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        wrong = tmp_path / "no.png"
        wrong.write_text("no picture")
        page.give(picture(tmp_path / "a.png"), wrong)
        done(page)
        until(lambda: page.shows("after"))
        assert page.violations() == []
        phone = {"width": 360, "height": 740, "deviceScaleFactor": 3, "mobile": True}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        wide = page.driver.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
        assert wide == [360, 360] and page.violations() == []
        page.press("Remove all")
        page.driver.get(f"{page.link}/api")
        assert page.violations() == []
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_token_is_in_the_link(page: Page, tmp_path: Path) -> None:
    with served(tmp_path, token="secret-of-mine-0123") as link:
        page.driver.get(link)
        until(lambda: page.find("#token").is_displayed())
        assert page.violations() == []
        page.driver.get(f"{link}/#token=secret-of-mine-0123")
        page.driver.refresh()
        until(lambda: len(page.find_all("#model option")) > 1)
        assert "secret" not in page.driver.current_url
        page.give(picture(tmp_path / "a.png"))
        done(page)
        until(lambda: page.shows("before") and page.shows("after"))
        page.driver.get("about:blank")
