"""The study's page in a real browser without a window: Chromium or Chrome, and its chromedriver.

On Debian: apt-get install chromium chromium-driver.
"""

import contextlib
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter

import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

METHODS = ("GM-SRM", "LISK", "MEDFE")
SAMPLES = ("arch", "bay", "court", "door", "eave", "front")
SIZE = (96, 64)
# What the participant thinks of each sample: places in METHODS, the best first.
TASTE = {
    "arch": (0, 1, 2),
    "bay": (0, 2, 1),
    "court": (1, 0, 2),
    "door": (0, 1, 2),
    "eave": (2, 1, 0),
    "front": (0, 2, 1),
}
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 20  # seconds
# The colour in the middle of every picture that can be ranked.
COLOURS = """
return [...document.querySelectorAll("#pictures button img")].map((image) => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d");
  context.drawImage(image, image.naturalWidth / 2, 5, 1, 1, 0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
});
"""


@pytest.fixture(scope="module")
def chromium():
    """The paths of a browser and its driver."""
    names = ("google-chrome", "chromium", "chromium-browser")
    browser = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (browser and driver):
        pytest.fail(
            "the study's page is tested in a real browser: install Chromium and its driver"
            " (Debian: apt-get install chromium chromium-driver)"
        )
    return browser, driver


@pytest.fixture
def browser(chromium, tmp_path, monkeypatch):
    monkeypatch.setenv("SE_OFFLINE", "true")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium[0]
    for flag in (*FLAGS, "--window-size=1280,800", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=chromium[1])
    driver = webdriver.Chrome(options=options, service=service)
    yield Page(driver)
    driver.quit()


@pytest.fixture
def folders(tmp_path):
    """Pictures of one colour: methods differ in red, samples in green."""
    for row, method in enumerate((*METHODS, "input")):
        for column, sample in enumerate(SAMPLES):
            path = tmp_path / "pictures" / method / f"{sample}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZE, (60 * row, 40 * column, 90)).save(path)
    return tmp_path / "pictures"


@contextlib.contextmanager
def served(folders, out, *more, port=0):
    """Runs the command, and yields a namespace with its address; afterwards, what it printed."""
    pairs = [f"{method}={folders / method}" for method in METHODS]
    command = [sys.executable, "-m", "gmsrm_jax.cli", "study", "--methods", *pairs]
    command += ["--out", str(out), "--port", str(port), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    run = Run(process, out)
    try:
        yield run
    finally:
        process.send_signal(signal.SIGINT)
        run.printed = process.communicate(timeout=PATIENCE)[0]


class Run:
    """A running study."""

    def __init__(self, process, out):
        lines = [process.stdout.readline(), process.stdout.readline()]
        self.url = re.search(r"http://127\.0\.0\.1:(\d+)/", lines[1])[0]
        self.port = int(self.url.split(":")[-1].strip("/"))
        self.out = out
        self.printed = ""

    def rankings(self):
        """What is stored now: the latest ranking by participant and sample."""
        connection = sqlite3.connect(f"file:{self.out / 'study.sqlite'}?mode=ro", uri=True)
        rows = connection.execute(
            "SELECT participant, sample, ranking FROM latest WHERE NOT again ORDER BY sample"
        ).fetchall()
        connection.close()
        return {(person, sample): json.loads(ranking) for person, sample, ranking in rows}


class Page:
    """The page as a participant sees and works it."""

    def __init__(self, driver):
        self.driver = driver

    def __getitem__(self, name):
        return self.driver.find_element(By.ID, name)

    def wait(self, condition):
        WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: condition())

    def open(self, url):
        self.driver.get(url)
        self.wait(lambda: self["intro"].is_displayed() or self["done"].is_displayed())

    def wait_for(self, number):
        """Waits until picture `number` of the study and its results are there."""
        self.wait(lambda: self["place"].text.startswith(f"Picture {number} of"))
        self.wait(lambda: self["pictures"].get_attribute("aria-busy") is None)

    def wait_for_end(self):
        self.wait(lambda: self["done"].is_displayed())

    def results(self):
        return self["pictures"].find_elements(By.TAG_NAME, "button")

    def ranks(self):
        """The rank below each result, "" if it has none."""
        return [result.find_element(By.CLASS_NAME, "rank").text for result in self.results()]

    def look(self):
        """Which sample is shown, and the place of each method, by their colours."""
        colours = self.driver.execute_script(COLOURS)
        samples = {SAMPLES[green // 40] for _, green, _ in colours}
        assert len(samples) == 1
        shown = [red // 60 for red, _, _ in colours]
        assert sorted(shown) == [0, 1, 2]
        return samples.pop(), shown

    def taste(self):
        """Places on the screen in the order of TASTE."""
        sample, shown = self.look()
        return [shown.index(method) for method in TASTE[sample]]

    def press(self, *keys):
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def tab(self, steps):
        """Moves the focus forwards, or backwards."""
        for _ in range(abs(steps)):
            chain = ActionChains(self.driver)
            if steps < 0:
                chain.key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
            else:
                chain.send_keys(Keys.TAB).perform()


def test_six_rankings_by_mouse_and_keyboard_are_stored_and_add_up(browser, folders, tmp_path):
    with served(folders, tmp_path / "out", "--input", str(folders / "input")) as run:
        browser.open(run.url)
        browser["start"].click()
        for number in (1, 2, 3):  # by mouse
            browser.wait_for(number)
            best, second, last = browser.taste()
            results = browser.results()
            assert not browser["submit"].is_enabled()
            if number == 1:  # a slip, taken back by the button; and another, by the picture
                results[last].click()
                browser["undo"].click()
                results[second].click()
                assert browser.ranks()[second] == "1st"
                results[second].click()
                assert browser.ranks() == ["", "", ""]
            results[best].click()
            results[second].click()
            assert [browser.ranks()[k] for k in (best, second, last)] == ["1st", "2nd", "3rd"]
            assert len(run.rankings()) == number - 1
            browser["submit"].click()
        for number in (4, 5, 6):  # by keyboard
            browser.wait_for(number)
            best, second, last = browser.taste()
            assert len(run.rankings()) == number - 1
            if number == 4:
                browser.press(str(best + 1), str(second + 1), Keys.ENTER)
            elif number == 5:  # slips, and letters
                browser.press(Keys.ENTER, str(last + 1), Keys.BACKSPACE, "9", "abc"[best])
                assert browser["submit"].is_enabled() is False
                browser.press("ABC"[last], Keys.BACKSPACE, "ABC"[second], Keys.ENTER)
            else:  # without shortcuts
                for before, place in ((-1, best), (best, second)):
                    browser.tab(place - before)
                    browser.press(Keys.SPACE)
                    label = f"Result {'ABC'[place]}, ranked {browser.ranks()[place]}"
                    focused = browser.driver.switch_to.active_element
                    assert focused.get_attribute("aria-label") == label
                    assert focused.get_attribute("aria-pressed") == "true"
                browser.press(Keys.ENTER)
        browser.wait_for_end()
        assert "All 6 rankings are stored" in browser["stored"].text
        stored = run.rankings()
        assert {sample: ranking for (_, sample), ranking in stored.items()} == {
            sample: [METHODS[k] for k in taste] for sample, taste in TASTE.items()
        }
        (participant,) = {participant for participant, _ in stored}
        assert re.fullmatch("[0-9a-f]{32}", participant)
        # Second thoughts about the last picture; the participant is known again after a reload.
        browser.open(run.url)
        assert browser["done"].is_displayed()
        browser["back"].click()
        browser.wait_for(6)
        sample, shown = browser.look()
        assert browser.ranks()[shown.index(TASTE[sample][0])] == "1st"
        # Two go back at once: the last result ranks itself.
        worst_first = [str(shown.index(method) + 1) for method in reversed(TASTE[sample])]
        browser.press(Keys.BACKSPACE, Keys.BACKSPACE, *worst_first[:2], Keys.ENTER)
        browser.wait_for_end()
        changed = run.rankings()[participant, sample]
        assert changed == [METHODS[k] for k in reversed(TASTE[sample])]
        loaded = browser.driver.execute_script(
            "return performance.getEntriesByType('resource').map((entry) => entry.name)"
        )
        assert all(name.startswith(run.url) for name in loaded)
        assert not re.search("GM-SRM|LISK|MEDFE", " ".join(loaded) + browser.driver.page_source)
        assert browser.driver.get_log("browser") == []
    winners = {name: METHODS[taste[0]] for name, taste in TASTE.items()} | {sample: changed[0]}
    counts = Counter(winners.values())
    result = json.loads((tmp_path / "out" / "tally.json").read_text())
    assert (result["votes"], result["participants"], result["replaced_votes"]) == (6, 1, 1)
    rows = result["methods"]
    assert {name: row["first_places"] for name, row in rows.items()} == {
        name: counts[name] for name in METHODS
    }
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1.0)
    assert sum(row["winning_samples"] for row in rows.values()) == 6
    assert sum(row["first_places"] for row in result["positions"].values()) == 6
    table = re.findall(
        r"^(\S+) +(\d) +(\d+\.\d\d) %.* % +[0-9.]+ +(\d) ", run.printed, re.MULTILINE
    )
    assert table == [
        (name, str(counts[name]), f"{100 * counts[name] / 6:.2f}", str(counts[name]))
        for name in METHODS
    ]
    assert re.search(r"^Total +6 +100\.00 % +6$", run.printed, re.MULTILINE)


def test_a_phone_shows_all_without_scrolling_sideways(browser, folders, tmp_path):
    driver = browser.driver
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    with served(folders, tmp_path / "out", "--input", str(folders / "input")) as run:
        browser.open(run.url)
        browser["start"].click()
        browser.wait_for(1)
        assert driver.execute_script("return document.documentElement.scrollWidth") == 390
        assert not browser["keys"].is_displayed()
        boxes = [result.rect for result in browser.results()]
        assert all(150 <= box["width"] <= 195 for box in boxes)
        assert len({box["x"] for box in boxes}) == 2
        # Upright and, when there is no room for all, scrolling under the buttons.
        for height in (500, 844):
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone | {"height": height})
            browser.wait(
                lambda height=height: driver.execute_script("return innerHeight") == height
            )
            assert [result.rect for result in browser.results()] == boxes
            for name in ("undo", "submit"):
                box = browser[name].rect
                assert box["height"] >= 44
                assert box["y"] + box["height"] <= height
        sample, _ = browser.look()
        for place in browser.taste()[:2]:
            box = boxes[place]
            point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
            for kind, points in (("touchStart", [point]), ("touchEnd", [])):
                touch = {"type": kind, "touchPoints": points}
                driver.execute_cdp_cmd("Input.dispatchTouchEvent", touch)
            browser.wait(lambda place=place: browser.ranks()[place])
        browser["submit"].click()
        browser.wait_for(2)
        (ranking,) = run.rankings().values()
    assert ranking == [METHODS[k] for k in TASTE[sample]]


def test_nothing_is_ranked_before_all_is_seen(browser, folders, tmp_path):
    slow = {"offline": False, "latency": 1500, "downloadThroughput": -1, "uploadThroughput": -1}
    with served(folders, tmp_path / "out") as run:
        browser.open(run.url)
        browser.driver.execute_cdp_cmd("Network.enable", {})
        browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
        browser["start"].click()
        browser.press("1", "2", Keys.ENTER)
        assert browser["pictures"].get_attribute("aria-busy") == "true"
        browser.wait_for(1)
        assert browser.ranks() == ["", "", ""]
    assert run.rankings() == {}


def test_a_vote_that_does_not_arrive_is_said_and_sent_again(browser, folders, tmp_path):
    with served(folders, tmp_path / "out") as run:
        browser.open(run.url)
        browser.press(Keys.ENTER)
        browser.wait_for(1)
        taste = browser.taste()
    browser.press(str(taste[0] + 1), str(taste[1] + 1), Keys.ENTER)
    browser.wait(lambda: browser["message"].is_displayed())
    assert "Your ranking was not stored" in browser["message"].text
    assert run.rankings() == {}
    with served(folders, tmp_path / "out", port=run.port) as run:
        browser["message"].find_element(By.TAG_NAME, "button").click()
        browser.wait_for(2)
        assert not browser["message"].is_displayed()
        ((_, sample),) = run.rankings()
        assert [*run.rankings().values()] == [[METHODS[k] for k in TASTE[sample]]]
        browser.open(run.url)
        assert browser["start"].text == "Go on with picture 2"


def test_the_next_person_is_another_participant(browser, folders, tmp_path):
    with served(folders, tmp_path / "out", "--count", "1") as run:
        browser.open(run.url)
        browser["start"].click()
        for people in (1, 2):
            browser.wait_for(1)
            browser.press("1", "2", Keys.ENTER)
            browser.wait_for_end()
            assert browser["stored"].text.startswith("Your ranking is stored.")
            assert len({participant for participant, _ in run.rankings()}) == people
            if people == 1:
                browser["next-person"].click()
                browser.wait(lambda: browser["intro"].is_displayed())
                assert browser["task"].text.startswith("You will see 1 picture in which")
                assert browser["start"].text == "Start"
                browser["start"].click()
    assert re.search("^2 votes of 2 participants", run.printed, re.MULTILINE)
