"""Pictures of the page for the documents: light, dark and on a phone; needs chromium and chromedriver.

python scripts/render_app.py: writes light.webp, dark.webp and phone.webp in docs/app.
"""

import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By

ROOT = Path(__file__).parents[1]
VIEWS = {"light": (1100, 780, 1.0), "dark": (1100, 780, 1.0), "phone": (390, 844, 2.0)}


def browser() -> Chrome:
    """A browser without a window."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for argument in ("--headless=new", "--disable-gpu", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    return Chrome(options, ChromeService(shutil.which("chromedriver")))


def wait(driver: Chrome, script: str) -> None:
    """Wait until a script returns something true."""
    while not driver.execute_script(f"return {script}"):
        time.sleep(0.1)


def render(driver: Chrome, link: str, name: str) -> None:
    """One view of the page with the example picture done."""
    width, height, ratio = VIEWS[name]
    size = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": name == "phone"}
    scheme = {"name": "prefers-color-scheme", "value": "light" if name != "dark" else "dark"}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    driver.get(link)
    driver.execute_script("sessionStorage.removeItem('jobs')")
    driver.refresh()
    wait(driver, "document.querySelectorAll('#model option').length > 1")
    driver.find_element(By.ID, "files").send_keys(str(ROOT / "examples" / "harbour.png"))
    wait(driver, "document.getElementById('after').naturalWidth > 0")
    stage = driver.find_element(By.ID, "stage")
    stage.send_keys("0" if name == "phone" else "1++" + 3 * Keys.ARROW_DOWN + 2 * Keys.ARROW_RIGHT)
    driver.execute_script("document.activeElement.blur(); scrollTo(0, arguments[0])", 760 * (name == "phone"))
    time.sleep(0.5)
    image = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    image.save(ROOT / "docs" / "app" / f"{name}.webp", quality=80, method=6)


def main() -> None:
    """Start a server, and look at it."""
    command = [sys.executable, "-m", "esc_sr", "app", "--no-browser", "--port", "0"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        link, driver = server.stdout.readline().split()[0], browser()
        try:
            for name in VIEWS:
                render(driver, link, name)
        finally:
            driver.quit()
            server.terminate()


if __name__ == "__main__":
    main()
