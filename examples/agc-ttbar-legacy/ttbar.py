"""The ttbar selection of the Analysis Grand Challenge as it was written for coffea 0.7 and awkward 1, in miniature.

It reads the files that ``../agc-ttbar/make_data.py`` writes. Workers import it by its name.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import awkward as ak
import hist
import numpy as np
from coffea import processor
from coffea.nanoevents import NanoAODSchema

NanoAODSchema.warn_missing_crossrefs = False  # the files have only the collections that are used here

B_TAG = 0.5
LUMINOSITY = 3378.0  # inverse picobarns, as in the CMS open data that the challenge uses
PT_SCALES = {"nominal": 1.0, "pt_scale_up": 1.03}


def fileset(directory: str) -> dict[str, Any]:
    """Return coffea's fileset for the files in ``directory``, from its ``files.json``."""
    samples = json.loads(Path(directory, "files.json").read_text())
    return {
        name: {
            "files": [str(Path(directory, file)) for file in sample["files"]],
            "metadata": {"xsec": sample["xsec"], "total": sample["events"]},
        }
        for name, sample in samples.items()
    }


def run(directory: str, executor: processor.executor.ExecutorBase) -> dict[str, hist.Hist]:
    """Return the histograms of all regions for the files in ``directory``."""
    runner = processor.Runner(executor=executor, schema=NanoAODSchema, chunksize=500)
    return runner(fileset(directory), treename="Events", processor_instance=TtbarAnalysis())


class TtbarAnalysis(processor.ProcessorABC):
    """One lepton, four jets: H_T with one b jet (``4j1b``), the mass of the top candidate with two (``4j2b``)."""

    def process(self, events: ak.Array) -> dict[str, hist.Hist]:
        """Return the histograms of one chunk."""
        histograms = {region: empty_histogram() for region in ("4j1b", "4j2b")}
        sample = events.metadata
        weight = sample["xsec"] * LUMINOSITY / sample["total"]
        one_lepton = count_leptons(events) == 1
        for variation, scale in PT_SCALES.items():
            jets = ak.with_field(events.Jet, events.Jet.pt * scale, "pt")
            jets = jets[(jets.pt > 30) & (abs(jets.eta) < 2.4) & (jets.jetId == 6)]
            b_jets = ak.sum(jets.btagCSVV2 > B_TAG, axis=1)
            selected = one_lepton & (ak.num(jets) >= 4)
            observables = {
                "4j1b": ak.sum(jets[selected & (b_jets == 1)].pt, axis=-1),
                "4j2b": trijet_mass(jets[selected & (b_jets >= 2)]),
            }
            for region, values in observables.items():
                histograms[region].fill(
                    observable=ak.to_numpy(values), process=sample["dataset"], variation=variation, weight=weight
                )
        return histograms

    def postprocess(self, accumulator: dict[str, hist.Hist]) -> dict[str, hist.Hist]:
        """Return what was accumulated: nothing is left to do."""
        return accumulator


def empty_histogram() -> hist.Hist:
    """Return the histogram of one region."""
    return (
        hist.Hist.new.Reg(25, 50, 550, name="observable", label="observable [GeV]")
        .StrCat([], name="process", growth=True)
        .StrCat([], name="variation", growth=True)
        .Weight()
    )


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
    trijets = ak.combinations(jets, 3, fields=["one", "two", "three"])
    momenta = trijets.one + trijets.two + trijets.three
    tags = np.maximum(trijets.one.btagCSVV2, np.maximum(trijets.two.btagCSVV2, trijets.three.btagCSVV2))
    momenta = momenta[tags > B_TAG]
    return ak.flatten(momenta[ak.argmax(momenta.pt, axis=1, keepdims=True)].mass)
