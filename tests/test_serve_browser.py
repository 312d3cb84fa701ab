"""The page in a real browser without a window: Chromium or Chrome, and its chromedriver.

On Debian: apt-get install chromium chromium-driver.
"""

import io
import json
import os
import shutil
import time
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
from exported_networks import exported
from PIL import Image, ImageOps
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from serving import PATIENCE, ask, decoded, encoded, hole, photo, running

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # The editor draws with WebGL, here without a GPU.
    *("--enable-unsafe-swiftshader", "--window-size=1280,1000"),
)
OFFLINE = {"SE_OFFLINE": "true"}  # Selenium looks for no driver on the net
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "temporary").mkdir()
    with running(exported(folder / "tiny"), folder / "temporary") as run:
        yield run
        assert run.stop()[0] == 0
        assert not any((folder / "temporary").glob("gmsrm-serve-*"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """The browser, and the folder of its downloads."""
    names = ("google-chrome", "chromium", "chromium-browser")
    chromium = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.fail(
            "the page is tested in a real browser: install Chromium and its driver"
            " (Debian: apt-get install chromium chromium-driver)"
        )
    folder = tmp_path_factory.mktemp("browser")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    downloads = {"download.default_directory": str(folder / "downloads")}
    options.add_experimental_option("prefs", downloads)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver, env={**os.environ, **OFFLINE})
    driver = webdriver.Chrome(options=options, service=service)
    yield driver, folder
    driver.quit()


@pytest.fixture
def page(run, browser):
    page = Page(*browser)
    page.open(run.url)
    yield page
    page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.check_network(run.url)


class Page:
    """The page as a person sees and works it."""

    def __init__(self, driver, folder):
        self.driver, self.folder = driver, folder

    def open(self, url):
        self.driver.get(url)
        self.find("#fill")

    def wait(self, condition):
        return WebDriverWait(self.driver, PATIENCE, 0.1).until(lambda _: condition())

    def find(self, selector):
        return self.wait(
            lambda: next(iter(self.driver.find_elements(By.CSS_SELECTOR, selector)), None)
        )

    def click(self, selector):
        target = self.find(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", target)
        target.click()

    def choose(self, selector, name, data):
        path = self.folder / name
        path.write_bytes(data)
        self.find(f"{selector} input[type=file]").send_keys(str(path))

    def choose_picture(self, name, data):
        self.choose("#picture", name, data)
        self.wait(lambda: "pixels." in self.status)

    @property
    def status(self):
        return " ".join(
            text.text for text in self.driver.find_elements(By.CSS_SELECTOR, "#status .prose")
        )

    def paint(self, *steps):
        """Draws a line with the mouse, from the middle of the picture; returns the zoom."""
        canvas = self.find("#editor canvas")
        self.find("#editor .zoom-number")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        time.sleep(1)  # the editor fits the picture into itself, and says nothing of it
        chain = ActionChains(self.driver, duration=50).move_to_element(canvas).click_and_hold()
        for x, y in steps:
            chain.move_by_offset(x, y)
        chain.release().perform()
        return float(self.find("#editor .zoom-number").text.rstrip("%")) / 100

    def fill(self, count=1):
        """Presses the button; waits for the files, and returns their addresses."""
        self.click("#fill")
        self.wait(lambda: "filled in" in self.status)
        links = self.wait(
            lambda: (
                (found := self.driver.find_elements(By.CSS_SELECTOR, "#files a"))
                and len(found) == count
                and found
            )
        )
        return [link.get_attribute("href") for link in links]

    def message(self):
        """Waits for what went wrong, and returns its line."""
        self.wait(lambda: self.status.startswith("Not done: "))
        assert "\n" not in self.status and "Traceback" not in self.status
        return self.status

    def shows_no_result(self):
        selectors = "#slider, #files, #again, #results"
        return not self.driver.find_elements(By.CSS_SELECTOR, selectors)

    def shown(self):
        """The addresses of the pictures before and after."""
        images = self.driver.find_elements(By.CSS_SELECTOR, "#slider img")
        return [image.get_attribute("src") for image in images]

    def check_network(self, url):
        """Checks that nothing else was asked for, that nothing failed, and that no error came."""
        failed = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked = message["params"]["request"]["url"]
                if urlsplit(asked).scheme in ("http", "https", "ws", "wss"):
                    assert asked.startswith(url)
            elif message["method"] == "Network.responseReceived":
                response = message["params"]["response"]
                if response["status"] >= 400:
                    failed.append((response["status"], response["url"]))
        assert failed == []
        resources = self.driver.execute_script(
            "return performance.getEntriesByType('resource').map((entry) => entry.name)"
        )
        assert len(resources) > 10
        assert all(name.startswith((url, f"blob:{url}", "data:")) for name in resources)
        # Gradio's own remarks, "console-api", are left out; what the browser says is not.
        said = [
            entry
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and entry["source"] != "console-api"
        ]
        assert said == []


def fetched(address):
    with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
        return decoded(answer.read())


def test_a_hole_is_painted_filled_and_downloaded(page):
    # A phone's picture: stored lying, shown upright, larger than it is shown.
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo(1200, 1600), "JPEG", exif=exif.tobytes(), quality=90)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    height, width = upright.shape[:2]
    assert (height, width) == (1600, 1200)
    page.choose_picture("phone.jpg", data)
    assert "1200 × 1600 pixels" in page.status
    zoom = page.paint((40, 30), (40, 0))
    page.fill()
    assert "of 1200 × 1600 pixels filled" in page.status
    page.click("#files a")
    file = page.wait(lambda: next((page.folder / "downloads").glob("*.png"), None))
    assert file.name == "filled-seed-0.png"
    filled = page.wait(lambda: _whole(file)).pop()
    assert filled.shape == upright.shape
    changed = (filled != upright).any(2)
    # Pixels of the picture for one of the screen: shown 1024 high, and that at the zoom.
    scale = 1600 / 1024 / zoom
    rows, columns = np.nonzero(changed)
    top, left = rows.min() - height / 2, columns.min() - width / 2
    bottom, right = rows.max() - height / 2, columns.max() - width / 2
    brush = -left / scale  # radius
    assert 3 < brush < 60
    tolerance = 0.05 * 80 + 3
    assert -top / scale == pytest.approx(brush, abs=tolerance)
    assert bottom / scale == pytest.approx(30 + brush, abs=tolerance)
    assert right / scale == pytest.approx(80 + brush, abs=tolerance)
    for x, y in ((0, 0), (20, 15), (40, 30), (60, 30), (80, 30)):
        row, column = int(height / 2 + y * scale), int(width / 2 + x * scale)
        assert changed[row - 4 : row + 5, column - 4 : column + 5].mean() > 0.9
    # It is what the status says, and so nothing else.
    ratio = float(page.status.split(" %")[0])
    assert 100 * changed.mean() == pytest.approx(ratio, abs=0.1 + 0.1 * ratio)
    before, after = page.shown()
    assert fetched(before).shape == fetched(after).shape == (1024, 768, 3)


def _whole(file):
    """A list of the picture, empty as long as it is not written to its end."""
    try:
        return [decoded(file.read_bytes())]
    except (OSError, SyntaxError):
        return []


def test_a_mask_is_uploaded_and_filled_twice(page):
    picture, mask = photo(150, 200), hole(150, 200)
    page.choose_picture("picture.png", encoded(picture))
    page.find("#editor canvas")
    assert page.find("#hint").text == "Paint over what should go."
    page.click("button[role=tab]:nth-of-type(2)")
    page.wait(lambda: not page.find("#hint").is_displayed())
    assert "Paint" not in page.status
    page.choose("#mask", "mask.png", encoded(mask))
    page.find("#mask a")
    samples = page.find("#samples input[type=number]")
    samples.clear()
    samples.send_keys("2")
    seed = page.find("#seed input")
    seed.clear()
    seed.send_keys("41")
    addresses = page.fill(count=2)
    assert [address.rsplit("/")[-1] for address in addresses] == [
        "filled-seed-41.png",
        "filled-seed-42.png",
    ]
    first, second = map(fetched, addresses)
    for filled in (first, second):
        np.testing.assert_array_equal(filled[~mask], picture[~mask])
        assert (filled[mask] != picture[mask]).any(1).mean() > 0.9
    assert (first != second).any()
    before, after = page.shown()
    np.testing.assert_array_equal(fetched(before), picture)
    np.testing.assert_array_equal(fetched(after), first)
    page.click("#results .gallery-item:nth-of-type(2) button")
    page.wait(lambda: page.shown()[1] != after)
    np.testing.assert_array_equal(fetched(page.shown()[1]), second)
    page.click("#again")  # from the second, which is shown
    page.wait(lambda: "200 × 150 pixels." in page.status)
    page.wait(page.shows_no_result)
    link = page.wait(lambda: page.find("#picture a").get_attribute("href"))
    assert link.endswith("/filled-seed-42.png")
    assert not page.driver.find_elements(By.CSS_SELECTOR, "#mask a")


def test_an_example_is_filled(page):
    page.click("#examples .gallery-item:nth-of-type(2) button")
    page.find("#editor canvas")
    page.find("#picture a")
    assert not page.find("#editor button[aria-label=Color]").is_displayed()
    (address,) = page.fill()
    before, after = map(fetched, page.shown())
    changed = (before != after).any(2)
    np.testing.assert_array_equal(fetched(address), after)
    assert 0.05 < changed.mean() < 0.3
    first = page.status
    ratio = float(first.split(" %")[0])
    assert 100 * changed.mean() == pytest.approx(ratio, rel=0.1)
    page.paint((60, 40))  # there is more that should go
    page.click("#fill")
    page.wait(lambda: "filled in" in page.status and page.status != first)
    assert float(page.status.split(" %")[0]) > ratio + 1
    # The next picture is not filled by the example's mask, and what was filled is gone.
    page.click("#picture button[aria-label=Clear]")
    page.wait(page.shows_no_result)
    page.choose_picture("next.png", encoded(photo(64, 96)))
    page.click("#fill")
    assert "there is no hole" in page.message()


def test_a_filling_under_way_is_not_shown_beside_the_next_picture(page, run):
    def jobs():
        return ask(run.port, "GET", "/healthz").json["queue"]

    page.choose_picture("large.png", encoded(photo(900, 1200)))
    page.click("button[role=tab]:nth-of-type(2)")
    page.choose("#mask", "mask.png", encoded(hole(900, 1200)))
    page.find("#mask a")
    page.click("#fill")
    page.wait(jobs)
    page.click("#picture button[aria-label=Clear]")
    page.wait(lambda: not page.find("#picture").text.count("large.png"))
    page.wait(lambda: not jobs())
    time.sleep(1)  # in which it would come
    assert page.shows_no_result()
    page.click("#mask button[aria-label=Clear]")
    page.choose_picture("next.png", encoded(hole(64, 96)))
    page.click("#fill")
    assert "there is no hole" in page.message()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("", b"", "choose a picture first"),
        ("text.png", b"<b>no picture</b>", "image: not one of JPEG, PNG, BMP, WEBP, TIFF"),
        ("cut.png", encoded(photo(64, 64))[:300], "image: damaged"),
        ("whole.png", encoded(photo(64, 64)), "there is no hole"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(page, name, data, message):
    if name == "whole.png":
        page.choose_picture(name, data)
    elif name:
        page.choose("#picture", name, data)
    if name in ("", "whole.png"):
        page.click("#fill")
    assert message in page.message()


def test_a_phone_shows_all_without_scrolling_sideways(page, run):
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    page.open(run.url)
    page.choose_picture("picture.png", encoded(photo(300, 400)))
    canvas = page.find("#editor canvas")
    page.wait(lambda: canvas.rect["width"] > 250)
    # As high as the picture needs, and the button is the next thing to be seen.
    width, height = (page.find("#editor").rect[side] for side in ("width", "height"))
    assert height == pytest.approx((width - 60) * 3 / 4 + 60, abs=10)
    places = [page.find(name).rect["y"] for name in ("#editor", "#fill", "#options", "#examples")]
    assert places == sorted(places)
    assert 0 <= places[1] - places[0] - height < 40
    page.paint((30, 20))
    page.fill()
    page.wait(lambda: len(page.shown()) == 2)
    assert page.driver.execute_script("return document.documentElement.scrollWidth") == 390
    assert page.find("#fill").rect["height"] >= 40
