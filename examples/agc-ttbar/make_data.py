"""Writes synthetic files in the manner of NanoAOD, for trying the analysis without any experiment's data.

    python make_data.py DIRECTORY [--files 2] [--events 20000]

Three processes; every file has its own seed, so the same command writes the same events. ``files.json`` tells what is
there. Top quarks decay hadronically to three jets of their mass, all else is noise.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

TOP_MASS, W_MASS, B_MASS = 172.5, 80.4, 4.8
FourVectors = np.ndarray  # shape (4, n): energy and momentum


@dataclass(frozen=True)
class Process:
    """What the files of one process are made of: mean number of jets, part of them that are b jets, cross section."""

    seed: int
    jets: float
    b_fraction: float
    xsec: float  # picobarns
    tops: bool = False


PROCESSES = {
    "ttbar": Process(1000, 5.5, 0.35, 729.8, tops=True),
    "wjets": Process(2000, 3.0, 0.05, 1548.7),  # a tenth of the true one: so few of them have four jets
    "single_top_t_chan": Process(3000, 3.8, 0.22, 204.2),
}


def two_body_decay(
    rng: np.random.Generator, parent: FourVectors, masses: tuple[float, float]
) -> tuple[FourVectors, FourVectors]:
    """Return the two products of an isotropic decay, in the frame the parent is given in."""
    mass = np.sqrt(parent[0] ** 2 - (parent[1:] ** 2).sum(axis=0))
    one, two = masses
    momentum = np.sqrt((mass**2 - (one + two) ** 2) * (mass**2 - (one - two) ** 2)) / (2 * mass)
    cosine, phi = rng.uniform(-1, 1, len(mass)), rng.uniform(-np.pi, np.pi, len(mass))
    sine = np.sqrt(1 - cosine**2)
    direction = np.stack([sine * np.cos(phi), sine * np.sin(phi), cosine]) * momentum
    return boost(np.sqrt(one**2 + momentum**2), direction, parent), boost(
        np.sqrt(two**2 + momentum**2), -direction, parent
    )


def boost(energy: np.ndarray, momentum: np.ndarray, frame: FourVectors) -> FourVectors:
    """Return the four vectors, given in the rest frame of ``frame``, in the frame where ``frame`` is given."""
    mass = np.sqrt(frame[0] ** 2 - (frame[1:] ** 2).sum(axis=0))
    along = (frame[1:] * momentum).sum(axis=0)
    boosted = (frame[0] * energy + along) / mass
    return np.concatenate([boosted[np.newaxis], momentum + frame[1:] * (energy + boosted) / (frame[0] + mass)])


def top_jets(rng: np.random.Generator, events: int) -> dict[str, np.ndarray]:
    """Return pt, eta, phi, mass, each of shape (events, 3), of the b and the two light jets of one top per event."""
    pt, eta, phi = rng.exponential(120, events), rng.normal(0, 0.8, events), rng.uniform(-np.pi, np.pi, events)
    momentum = np.stack([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
    top = np.concatenate([np.sqrt(TOP_MASS**2 + (momentum**2).sum(axis=0))[np.newaxis], momentum])
    b, w = two_body_decay(rng, top, (B_MASS, W_MASS))
    jets = np.stack([b, *two_body_decay(rng, w, (0.0, 0.0))], axis=-1)
    jets *= rng.normal(1, 0.08, jets.shape[1:])  # the calorimeter
    jet_pt = np.hypot(jets[1], jets[2])
    mass_squared = jets[0] ** 2 - (jets[1:] ** 2).sum(axis=0)
    return {
        "pt": jet_pt,
        "eta": np.arcsinh(jets[3] / jet_pt),
        "phi": np.arctan2(jets[2], jets[1]),
        "mass": np.sqrt(np.clip(mass_squared, 0, None)),
    }


def random_objects(rng: np.random.Generator, counts: np.ndarray, mean_pt: float, mass: float) -> dict[str, np.ndarray]:
    """Return flat pt, eta, phi and mass of as many objects as ``counts`` says in all."""
    total = int(counts.sum())
    return {
        "pt": 15 + rng.exponential(mean_pt, total),
        "eta": rng.normal(0, 1.4, total),
        "phi": rng.uniform(-np.pi, np.pi, total),
        "mass": np.full(total, mass),
    }


def make_jets(rng: np.random.Generator, process: Process, events: int) -> ak.Array:
    """Return the jets of all events."""
    counts = rng.poisson(process.jets - 3 if process.tops else process.jets, events)
    flat = random_objects(rng, counts, 35, 6.0)
    is_b = ak.unflatten(rng.random(int(counts.sum())) < process.b_fraction, counts)
    jets = {name: ak.unflatten(values, counts) for name, values in flat.items()}
    if process.tops:
        jets = {name: ak.concatenate([values, jets[name]], axis=1) for name, values in top_jets(rng, events).items()}
        is_b = ak.concatenate([np.tile([True, False, False], (events, 1)), is_b], axis=1)
        counts = counts + 3
    total = int(counts.sum())
    tags = np.where(ak.to_numpy(ak.flatten(is_b)), rng.beta(4, 1.2, total), rng.beta(1, 5, total))
    fields = {name: as_float(values) for name, values in jets.items()}
    fields["btagCSVV2"] = as_float(ak.unflatten(tags, counts))
    fields["qgl"] = as_float(ak.unflatten(rng.random(total), counts))
    fields["jetId"] = ak.unflatten(rng.choice(np.array([2, 6], np.int32), total, p=[0.05, 0.95]), counts)
    return ak.zip(fields)


def make_leptons(rng: np.random.Generator, events: int, *, muons: bool) -> ak.Array:
    """Return the electrons or muons of all events."""
    counts = rng.poisson(0.6, events)
    total = int(counts.sum())
    flat = random_objects(rng, counts, 30, 0.10566 if muons else 0.000511)
    flat["sip3d"] = rng.exponential(1.5, total)
    fields = {name: as_float(ak.unflatten(values, counts)) for name, values in flat.items()}
    fields["charge"] = ak.unflatten(rng.choice(np.array([-1, 1], np.int32), total), counts)
    if muons:
        fields["pfRelIso04_all"] = as_float(ak.unflatten(rng.exponential(0.1, total), counts))
        fields["tightId"] = ak.unflatten(rng.random(total) < 0.8, counts)
    else:
        fields["cutBased"] = ak.unflatten(rng.integers(0, 5, total).astype(np.int32), counts)
    return ak.zip(fields)


def as_float(values: ak.Array) -> ak.Array:
    """Return the values in single precision, as NanoAOD has them."""
    return ak.values_astype(values, np.float32)


def write_file(path: Path, process: Process, seed: int, events: int) -> None:
    """Write one file with a tree ``Events``."""
    rng = np.random.default_rng(seed)
    branches = {
        "run": np.full(events, 1, np.uint32),
        "luminosityBlock": np.full(events, seed, np.uint32),
        "event": np.arange(events, dtype=np.uint64),
        "genWeight": np.ones(events, np.float32),
        "MET_pt": rng.exponential(40, events).astype(np.float32),
        "Jet": make_jets(rng, process, events),
        "Electron": make_leptons(rng, events, muons=False),
        "Muon": make_leptons(rng, events, muons=True),
    }
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        tree = file.mktree(
            "Events",
            {
                name: values.dtype if isinstance(values, np.ndarray) else values.type
                for name, values in branches.items()
            },
        )
        tree.extend(branches)


def main() -> None:
    """Write the files of all processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--files", type=int, default=2, help="per process")
    parser.add_argument("--events", type=int, default=20_000, help="per file")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    samples = {}
    for name, process in PROCESSES.items():
        files = [f"{name}_{number}.root" for number in range(options.files)]
        for number, file in enumerate(files):
            write_file(options.directory / file, process, process.seed + number, options.events)
        samples[name] = {"files": files, "events": options.files * options.events, "xsec": process.xsec}
    (options.directory / "files.json").write_text(json.dumps(samples, indent=1))


if __name__ == "__main__":
    main()
