"""Labelled images under the name and the licence that the catalog gives them."""

from __future__ import annotations

from dataclasses import replace

from reinforce import catalog
from reinforce.catalog import Entry
from reinforce.data.labelled import LabelledDataset, open_labelled
from reinforce.data.licence import data_licence
from reinforce.data.masked import MaskedDataset, open_masked


def named_labelled(name: str, *, needs_train: bool = True) -> LabelledDataset:
    """By a catalog name or a place; see `open_labelled`. A place is called as its source is."""
    entry = catalog.resolve_data(name)
    dataset = open_labelled(str(entry.path), needs_train=needs_train)
    return replace(dataset, name=_name(entry, dataset.name), license=data_licence(entry, dataset.source))


def named_masked(name: str, *, needs_train: bool = True) -> MaskedDataset:
    """The same of images with masks; see `open_masked`."""
    entry = catalog.resolve_data(name)
    dataset = open_masked(str(entry.path), needs_train=needs_train)
    return replace(dataset, name=_name(entry, dataset.name), license=data_licence(entry, dataset.source))


def _name(entry: Entry, of_source: str) -> str:
    return of_source if entry.origin_file is None else entry.name
