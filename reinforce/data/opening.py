"""From a location that a user types to a source of images."""

from __future__ import annotations

from pathlib import Path

from braceexpand import braceexpand

from reinforce.catalog import split_off
from reinforce.data.csv_list import open_csv
from reinforce.data.folder import folder_source, scan_folder
from reinforce.data.hf_source import PREFIX as HF_PREFIX
from reinforce.data.hf_source import open_hf
from reinforce.data.mask_layouts import without_masks
from reinforce.data.sources import ImageSource
from reinforce.data.tar_source import open_tars
from reinforce.errors import DataError, MissingDataError, UsageError
from reinforce.remote import is_url

ACCEPTED = "a folder of images, a folder of tars, a .csv, a .tar or pattern such as x/{00000..00012}.tar, hf:NAME, or s3://BUCKET/PREFIX"


def open_source(location: str) -> ImageSource:
    """Open a folder (nested or flat; of images or of tars), a CSV, tars (brace patterns expand), "hf:NAME[:SPLIT]", or
    a URL of a prefix or of tars on an object store.

    "@train", "@val" or "@test" behind a dataset is that split of it, see `open_split`. Otherwise names and headers
    alone are read. In a folder of images, masks that lie beside their images are left out, see `without_masks`. Raises
    MissingDataError where nothing is, DataError where no image is, UsageError for a malformed pattern, and
    MissingExtraError for "hf:" without the `datasets` package.
    """
    if location.startswith(HF_PREFIX):
        return open_hf(location)
    whole, split = split_off(location)
    if split is not None:
        from reinforce.data.split_source import open_split  # which opens the whole by this function

        return open_split(whole, split)
    if is_url(location):
        from reinforce.data.remote_files import open_remote  # obstore is an extra

        return open_remote(location)
    path = Path(location).expanduser()
    if path.is_dir():
        return _open_folder(path)
    if location.endswith(".tar"):
        return open_tars([path] if path.exists() else _expand(str(path)))
    if not path.exists():
        raise MissingDataError(f"{location} is not there: expected {ACCEPTED}")
    if path.suffix.lower() == ".csv":
        return open_csv(path)
    raise DataError(f"{location} is neither a folder nor a list: expected {ACCEPTED}")


def check_outside(out: Path, location: str) -> None:
    """Raises UsageError where the images that are written to `out` would be among those of a folder that is read."""
    folder = Path(split_off(location)[0]).expanduser()
    if not is_url(location) and folder.is_dir() and folder.resolve() in out.resolve().parents:
        raise UsageError(f"{out} lies in {folder}, whose images it would be read with: type --out beside it")


def _open_folder(root: Path) -> ImageSource:
    contents = scan_folder(root)
    if contents.images and contents.tars:
        raise DataError(
            f"{root} holds tars and loose images, such as {contents.images[0]}: "
            "type a pattern of the tars, or move one kind elsewhere"
        )
    if contents.images:
        return folder_source(root, without_masks(contents))
    if contents.tars:
        return open_tars([root / tar for tar in contents.tars], root)
    unread = f" that can be read ({contents.unread[0]} is of another kind)" if contents.unread else ""
    raise DataError(f"{root} holds no images{unread}: expected {ACCEPTED}")


def _expand(pattern: str) -> list[Path]:
    try:
        return [Path(path) for path in braceexpand(pattern)]
    except ValueError as error:
        raise UsageError(f"the braces in {pattern} do not match: write for example x/{{00000..00012}}.tar") from error
