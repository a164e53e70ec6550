"""Benchmarks that nothing else runs still run, in a tiny form. What they measure is not looked at."""

import json
import subprocess
import sys

import pytest

from standins import HERE, debian, package


def lines_of(script: str, *flags: str) -> list[str]:
    command = [sys.executable, HERE / "bench" / script, *flags]
    return subprocess.check_output(command, text=True, timeout=300).splitlines()


@pytest.mark.parametrize(
    "browser, program, needed",
    [
        ("chromium", "chromium", "playwright.sync_api"),
        ("firefox", "firefox-esr", "websockets.sync.client"),
        ("webkit", "WebKitWebDriver", "pytest"),
    ],
)
def test_the_benchmark_of_the_page_runs_in_every_browser(browser, program, needed):
    debian(program), package(needed)
    lines = lines_of("page.py", "--browser", browser, "--rounds", "1", "--tokens", "60", "--messages", "20")
    titles, _, row = (line.strip("| ").split(" | ") for line in lines)
    assert row[0] == browser and len(row) == len(titles) and all(float(cell) >= 0 for cell in row[1:])


def test_the_benchmark_of_gpus_runs_without_one():
    lines = lines_of("gpu.py", "--device-type", "cpu", "--depths", "1", "--rounds", "1", "-d", "float32")
    found = json.loads(lines[-1])["depths"]["1"]
    assert found["difference"] < 1e-4 and found["alike"][:2] == [300, 300]
