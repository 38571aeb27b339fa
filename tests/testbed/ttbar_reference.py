"""The ttbar selection of examples/agc-ttbar-legacy once more, as loops over single events, without awkward arrays."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING

import numpy as np
import uproot

if TYPE_CHECKING:
    from pathlib import Path

_PT_SCALES = {"nominal": 1.0, "pt_scale_up": 1.03}
_EDGES = np.linspace(50, 550, 26)

_B_TAG = 0.5
_LUMINOSITY = 3378.0

Object = dict[str, float]
Histograms = dict[str, list[float]]


def reference(directory: Path) -> Histograms:
    """Return the bins of every region, process and variation (``4j2b ttbar nominal``) of ``directory``'s files."""
    histograms: Histograms = {}
    for process, sample in json.loads((directory / "files.json").read_text()).items():
        weight = sample["xsec"] * _LUMINOSITY / sample["events"]
        events = [event for file in sample["files"] for event in _read(directory / file)]
        for variation, scale in _PT_SCALES.items():
            values: dict[str, list[float]] = {"4j1b": [], "4j2b": []}
            for leptons, jets in events:
                _select(leptons, jets, scale, values)
            for region, observed in values.items():
                counts, _ = np.histogram(observed, _EDGES)
                histograms[f"{region} {process} {variation}"] = (counts * weight).tolist()
    return histograms


def _read(path: Path) -> list[tuple[int, list[Object]]]:
    """Return for every event the number of good leptons and all jets."""
    with uproot.open(path) as file:
        tree = file["Events"]
        columns = {name: tree[name].array(library="np") for name in sorted(tree.keys()) if "_" in name}
        total = tree.num_entries
    return [
        (
            sum(map(_good_electron, _objects(columns, "Electron", event)))
            + sum(map(_good_muon, _objects(columns, "Muon", event))),
            _objects(columns, "Jet", event),
        )
        for event in range(total)
    ]


def _objects(columns: dict[str, np.ndarray], collection: str, event: int) -> list[Object]:
    names = [name for name in columns if name.startswith(f"{collection}_")]
    values = zip(*(columns[name][event] for name in names), strict=True)
    fields = [name.partition("_")[2] for name in names]
    return [dict(zip(fields, map(float, one), strict=True)) for one in values]


def _good_electron(one: Object) -> bool:
    return one["pt"] > 30 and abs(one["eta"]) < 2.1 and one["cutBased"] == 4 and one["sip3d"] < 4


def _good_muon(one: Object) -> bool:
    isolated = one["pfRelIso04_all"] < 0.15 and one["sip3d"] < 4
    return one["pt"] > 30 and abs(one["eta"]) < 2.1 and one["tightId"] == 1 and isolated


def _select(leptons: int, found: list[Object], scale: float, values: dict[str, list[float]]) -> None:
    """Add the observable of one event to that of its region, if it is in one."""
    jets = [{**jet, "pt": jet["pt"] * scale} for jet in found]
    jets = [jet for jet in jets if jet["pt"] > 30 and abs(jet["eta"]) < 2.4 and jet["jetId"] == 6]
    if leptons != 1 or len(jets) < 4:
        return
    tagged = sum(jet["btagCSVV2"] > _B_TAG for jet in jets)
    if tagged == 1:
        values["4j1b"].append(sum(jet["pt"] for jet in jets))
    elif tagged >= 2:
        values["4j2b"].append(_top_mass(jets))


def _top_mass(jets: list[Object]) -> float:
    """Return the mass of the three jets of highest summed pt of which at least one is a b jet."""
    best_pt = best_mass = -1.0
    for three in itertools.combinations(jets, 3):
        if max(jet["btagCSVV2"] for jet in three) <= _B_TAG:
            continue
        energy, px, py, pz = np.sum([_four_vector(jet) for jet in three], axis=0)
        if np.hypot(px, py) > best_pt:
            best_pt, best_mass = float(np.hypot(px, py)), float(np.sqrt(energy**2 - px**2 - py**2 - pz**2))
    return best_mass


def _four_vector(jet: Object) -> tuple[float, float, float, float]:
    px, py, pz = jet["pt"] * np.cos(jet["phi"]), jet["pt"] * np.sin(jet["phi"]), jet["pt"] * np.sinh(jet["eta"])
    return np.sqrt(px**2 + py**2 + pz**2 + jet["mass"] ** 2), px, py, pz
