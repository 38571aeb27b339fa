"""The ttbar selection of the Analysis Grand Challenge, in miniature.

Workers import this module by its name, as the notebook does: it is part of the image they all run in.
"""

from __future__ import annotations

import json
from typing import Any

import awkward as ak
import fsspec
import hist
import numpy as np
import vector
from coffea import processor
from coffea.nanoevents import NanoAODSchema

vector.register_awkward()
NanoAODSchema.warn_missing_crossrefs = False  # the files have only the collections that are used here

B_TAG = 0.5
LUMINOSITY = 3378.0  # inverse picobarns, as in the CMS open data that the challenge uses
PT_SCALE_UP = 1.03


def fileset(data: str) -> dict[str, Any]:
    """Return coffea's fileset for the files in the directory at the URL or path ``data``, from its ``files.json``."""
    with fsspec.open(f"{data.rstrip('/')}/files.json", "r") as stream:
        samples = json.load(stream)
    return {
        name: {
            "files": {f"{data.rstrip('/')}/{file}": "Events" for file in sample["files"]},
            "metadata": {"xsec": sample["xsec"], "total": sample["events"]},
        }
        for name, sample in samples.items()
    }


def empty_histogram(name: str, label: str) -> hist.Hist:
    """Return the histogram of one region."""
    return (
        hist.Hist.new.Reg(25, 50, 550, name="observable", label=f"{label} [GeV]")
        .StrCat([], name="process", label="process", growth=True)
        .StrCat([], name="variation", label="variation", growth=True)
        .Weight(name=name)
    )


class TtbarAnalysis(processor.ProcessorABC):
    """One lepton, four jets: H_T with one b jet (``4j1b``), the mass of the top candidate with two (``4j2b``)."""

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Return the histograms and the number of events of one chunk."""
        histograms = {
            "4j1b": empty_histogram("4j1b", "$H_T$"),
            "4j2b": empty_histogram("4j2b", "$m_{bjj}$"),
        }
        sample = events.metadata
        weight = sample["xsec"] * LUMINOSITY / sample["total"]
        leptons = count_leptons(events)
        for variation, scale in (("nominal", 1.0), ("pt_scale_up", PT_SCALE_UP)):
            jets = ak.with_field(events.Jet, events.Jet.pt * scale, "pt")
            jets = jets[(jets.pt > 30) & (abs(jets.eta) < 2.4) & (jets.jetId == 6)]
            b_jets = ak.sum(jets.btagCSVV2 > B_TAG, axis=1)
            preselected = (leptons == 1) & (ak.num(jets) >= 4)
            observables = {
                "4j1b": ak.sum(jets[preselected & (b_jets == 1)].pt, axis=1),
                "4j2b": trijet_mass(jets[preselected & (b_jets >= 2)]),
            }
            for region, values in observables.items():
                histograms[region].fill(
                    observable=ak.to_numpy(values), process=sample["dataset"], variation=variation, weight=weight
                )
        return {"histograms": histograms, "events": len(events)}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return what was accumulated: nothing is left to do."""
        return accumulator


def count_leptons(events: ak.Array) -> ak.Array:
    """Return the number of good electrons and muons of each event."""
    electrons, muons = events.Electron, events.Muon
    good_electrons = (
        (electrons.pt > 30) & (abs(electrons.eta) < 2.1) & (electrons.cutBased == 4) & (electrons.sip3d < 4)
    )
    good_muons = (
        (muons.pt > 30) & (abs(muons.eta) < 2.1) & muons.tightId & (muons.sip3d < 4) & (muons.pfRelIso04_all < 0.15)
    )
    return ak.sum(good_electrons, axis=1) + ak.sum(good_muons, axis=1)


def trijet_mass(jets: ak.Array) -> ak.Array:
    """Return for each event the mass of its three jets of highest summed pt of which at least one is a b jet."""
    momenta = ak.zip({name: jets[name] for name in ("pt", "eta", "phi", "mass", "btagCSVV2")}, with_name="Momentum4D")
    one, two, three = ak.unzip(ak.combinations(momenta, 3))
    candidates = one + two + three
    tagged = (one.btagCSVV2 > B_TAG) | (two.btagCSVV2 > B_TAG) | (three.btagCSVV2 > B_TAG)
    candidates = candidates[tagged]
    best = ak.argmax(candidates.pt, axis=1, keepdims=True)
    return ak.flatten(candidates[best].mass)


def same(one: dict[str, hist.Hist], other: dict[str, hist.Hist]) -> bool:
    """Tell whether the histograms of two runs agree in every bin, up to the order in which weights were added."""
    if one.keys() != other.keys():
        return False
    for region in one:
        bins, other_bins = (
            {
                (process, variation): histogram[{"process": process, "variation": variation}].view(flow=True)
                for process in histogram.axes["process"]
                for variation in histogram.axes["variation"]
            }
            for histogram in (one[region], other[region])
        )
        if bins.keys() != other_bins.keys():
            return False
        for key, content in bins.items():
            for field in ("value", "variance"):
                if not np.allclose(content[field], other_bins[key][field], rtol=1e-9, atol=0):
                    return False
    return True
