"""A page in headless Chromium, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def complaints(page: Path, profile: Path) -> list[str]:
    """What the console says, and every address but the page's own that was asked for. Raises where nothing renders."""
    assert CHROMIUM is not None
    log = profile / "net.json"
    argv = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
            "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND", f"--log-net-log={log}",
            "--disable-background-networking", "--dump-dom", page.resolve().as_uri()]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert "</html>" in done.stdout
    addresses = set(re.findall(r'"url":"(https?:[^"]+)"', log.read_text())) if log.exists() else set()
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return console + sorted(url for url in addresses if "google" not in url and "gvt1" not in url)
