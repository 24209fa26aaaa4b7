"""The compared systems beside MMSA's own versions of them: speed, memory, accuracy, on one file, in one run.

    pip install '.[bench]'
    python benchmarks/compare_mmsa.py --model mult                  # every sequence at its full length
    python benchmarks/compare_mmsa.py --model mult --lengths mosi   # lengths as uneven as those of real utterances
    python benchmarks/compare_mmsa.py --model tfn --accuracy        # same epochs and seeds, test scores of both

Both sides read the same planted file in MMSA's format, with CMU-MOSI's shapes, and have the same layers, heads, widths
and batch size, those of MMSA's configuration for CMU-MOSI. Each side trains in a process of its own. MMSA's models and
loader are driven by a loop of this script, since MMSA's own stops only early and needs a GPU; loss (L1), optimiser
(Adam), rate and weight decay are MMSA's. It pads every sequence to the file's length, so lengths do not change its
speed.
MMSA runs as it comes; ours with the memory allocator set as ``run_all.sh`` sets it, and what these settings do for MMSA
is shown too. FINE, in its default configuration at batch 32, takes its turn on the same file, and in the paper's
configuration once. Operations are those of a training step's matrix products, per utterance. The last line is the
result as JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pickle
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"mult": "MulT", "tfn": "TFN", "lmf": "LMF", "lf_dnn": "LF-DNN", "mfn": "MFN"}
SIZES, FRAMES, WIDTHS = (1284, 229, 686), (50, 375, 500), (768, 5, 20)
FINE = ("FINE", "FINE (paper)")  # in its default and in the paper's configuration
SLOW = ("mult",)  # timed on a part of the rows; the time of a step does not depend on how many there are
SLOW_ROWS = (256, 32, 32)
ACCURACY_ROWS = (400, 100, 400)
SIGNAL = 0.04  # shift of every frame per unit of the label, in a random direction of length sqrt(d)
ALLOCATOR = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184:"
    "glibc.malloc.hugetlb=1"
}
SPEED_SECONDS, SPEED_BATCHES = 8, 2  # a peer is timed for so long, and for so many batches at least


# ------------------------------------------------------------------------------------------------ the file


def write_file(folder: Path, rows: tuple[int, int, int], lengths: str, aligned: bool) -> dict:
    """Planted data in MMSA's format below ``folder``; returns what lengths the training rows have."""
    rng = np.random.default_rng(0)
    frames = (FRAMES[0],) * 3 if aligned else FRAMES
    direction = [rng.choice([-1.0, 1.0], d) for d in WIDTHS]
    content, drawn = {}, {}
    for split, n in zip(("train", "valid", "test"), rows, strict=True):
        share = np.ones(n) if lengths == "full" else rng.lognormal(np.log(1 / 3), 0.5, n).clip(0.05, 1)
        length = [np.maximum(np.round(share * t), 4).astype(int) for t in frames]
        label = rng.choice(np.arange(-15, 16) / 5, n).astype(np.float32)
        arrays = []
        for own, t, d, way in zip(length, frames, WIDTHS, direction, strict=True):
            x = rng.standard_normal((n, t, d), dtype=np.float32)
            x += (SIGNAL * label[:, None] * way).astype(np.float32)[:, None]
            arrays.append(x * (np.arange(t) < own[:, None])[..., None])
        mask = np.arange(frames[0]) < length[0][:, None]
        content[split] = {
            "raw_text": np.array(["words"] * n, dtype=object),
            "id": np.array([f"{split}{i}$_$0" for i in range(n)]),
            "annotations": ["Positive" if y > 0 else "Negative" for y in label],
            "text": arrays[0],
            "audio": arrays[1],
            "vision": arrays[2],
            "text_bert": np.stack([mask * 1000, mask, mask * 0], 1).astype(np.float32),
            "regression_labels": label,
            "classification_labels": np.sign(label) + 1,
        }
        if not aligned:
            content[split] |= {"audio_lengths": length[1].tolist(), "vision_lengths": length[2].tolist()}
        drawn[split] = length
    path = folder / "MOSI" / "Processed" / ("aligned_50.pkl" if aligned else "unaligned_50.pkl")
    path.parent.mkdir(parents=True)
    with path.open("wb") as stream:
        pickle.dump(content, stream, 4)
    uneven = "one relative length per utterance, lognormal of median 1/3 and sigma 0.5, clipped to [0.05, 1]"
    about = "all at the maximum" if lengths == "full" else uneven
    return {"name": lengths, "about": about, "maximum": frames, "median": [float(np.median(x)) for x in drawn["train"]]}


# ------------------------------------------------------------------------------------------------- MMSA


def peer_parts(model_name: str, folder: Path, seed: int):
    """MMSA's settings, loader and model for the file, with what it needs to run without a GPU on PyTorch 2.13."""
    import torch

    torch.cuda.set_device = lambda device: None
    from MMSA.config import get_config_regression
    from MMSA.data_loader import MMDataLoader
    from MMSA.models.AMIO import AMIO

    args = get_config_regression(model_name, "mosi")
    aligned = bool(args.need_data_aligned)
    args.featurePath = str(folder / "MOSI" / "Processed" / ("aligned_50.pkl" if aligned else "unaligned_50.pkl"))
    args.update(
        device=torch.device("cpu"),
        train_mode="regression",
        cur_seed=seed,
        feature_T="",
        feature_A="",
        feature_V="",
        custom_feature="",
        gpu_ids=[],
    )
    torch.manual_seed(seed)
    np.random.seed(seed)
    loaders = MMDataLoader(args, 0)
    return args, loaders, AMIO(args)


def peer_step(model, optimiser, batch, clip: float):
    """One update as MMSA's trainers do it."""
    import torch

    optimiser.zero_grad()
    label = batch["labels"]["M"].view(-1, 1)
    loss = torch.nn.functional.l1_loss(model(batch["text"], batch["audio"], batch["vision"])["M"].view(-1, 1), label)
    loss.backward()
    if clip > 0:
        torch.nn.utils.clip_grad_value_(model.parameters(), clip)
    optimiser.step()


def peer_optimiser(args, model):
    import torch

    return torch.optim.Adam(model.parameters(), lr=args.learning_rate, weight_decay=args.get("weight_decay", 0.0))


def peer_speed(model_name: str, folder: Path) -> dict:
    """Training samples per second of MMSA, its loader included, the first batch left out."""
    args, loaders, model = peer_parts(model_name, folder, 1111)
    optimiser, seen, began, batches = peer_optimiser(args, model), 0, None, 0
    first = next(iter(loaders["train"]))
    mflop = operations(lambda: peer_step(model, optimiser, first, -1.0), len(first["labels"]["M"]))
    while batches < SPEED_BATCHES or time.perf_counter() - began < SPEED_SECONDS:
        for batch in loaders["train"]:
            peer_step(model, optimiser, batch, args.get("grad_clip", -1.0))
            if began is None:
                began = time.perf_counter()
                continue
            seen, batches = seen + len(batch["labels"]["M"]), batches + 1
            if batches >= SPEED_BATCHES and time.perf_counter() - began > SPEED_SECONDS:
                break
    seconds = time.perf_counter() - began
    return {"samples_per_s": seen / seconds, "parameters": count(model), "mflop": mflop, "batch_size": args.batch_size}


def peer_scores(model_name: str, folder: Path, seed: int, epochs: int) -> dict:
    """Test MAE and Corr of MMSA's model at the epoch with the smallest validation MAE."""
    import torch

    args, loaders, model = peer_parts(model_name, folder, seed)
    optimiser, best, scores = peer_optimiser(args, model), np.inf, {}
    for _ in range(epochs):
        model.train()
        for batch in loaders["train"]:
            peer_step(model, optimiser, batch, args.get("grad_clip", -1.0))
        model.eval()
        found = {}
        for split in ("valid", "test"):
            with torch.no_grad():
                pairs = [
                    (model(b["text"], b["audio"], b["vision"])["M"].view(-1), b["labels"]["M"].view(-1))
                    for b in loaders[split]
                ]
            found[split] = measures(*(torch.cat(part).numpy() for part in zip(*pairs, strict=True)))
        if found["valid"]["mae"] < best:
            best, scores = found["valid"]["mae"], found["test"]
    return scores


# ------------------------------------------------------------------------------------------------- ours


def our_parts(name: str, folder: Path, aligned: bool, threads: int, epochs: int):
    """Corpus, configuration and training settings of a system, or of FINE."""
    from finelib.baselines import SYSTEMS
    from finelib.config import FineConfig, TrainConfig
    from finelib.data import sources
    from finelib.runs import presets

    corpus = sources.load("mosi", str(folder), aligned=aligned)
    train = TrainConfig(epochs=epochs, patience=epochs, threads=threads)
    if name in FINE:
        return corpus, FineConfig() if name == "FINE" else presets.PAPER, train
    return corpus, SYSTEMS[name].Config(), replace(train, **SYSTEMS[name].TRAIN)


def our_speed(name: str, folder: Path, aligned: bool, threads: int, epochs: int) -> dict:
    """Training samples per second of ``training.fit``, every batch counted."""
    from finelib import models, training

    corpus, config, train = our_parts(name, folder, aligned, threads, epochs)
    model = models.build(config, corpus)
    first = corpus.batch(range(train.batch_size), "train", config.modalities)
    mflop = operations(lambda: model.losses(model(first), first)["total"].backward(), len(first))
    model = models.build(config, corpus)
    history = training.fit(model, corpus, train, seed=0)
    return {
        "samples_per_s": history.samples_per_second,
        "parameters": count(model),
        "mflop": mflop,
        "batch_size": train.batch_size,
    }


def our_scores(name: str, folder: Path, aligned: bool, threads: int, seed: int, epochs: int) -> dict:
    """Test MAE and Corr at the epoch with the smallest validation MAE."""
    import torch

    from finelib import models, training

    corpus, config, train = our_parts(name, folder, aligned, threads, epochs)
    torch.manual_seed(seed)
    model = models.build(config, corpus)
    training.fit(model, corpus, train, seed)
    return measures(training.predict(model, corpus.splits["test"]), corpus.splits["test"].label)


def operations(step, batch_size: int) -> float:
    """Millions of multiplications and additions per utterance in the matrix products of a training step."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / batch_size / 1e6


def count(model) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def measures(prediction: np.ndarray, label: np.ndarray) -> dict[str, float]:
    return {"mae": float(np.abs(prediction - label).mean()), "corr": float(np.corrcoef(prediction, label)[0, 1])}


# ------------------------------------------------------------------------------------------------ the run


def work(job: dict) -> dict:
    """What a worker process does."""
    import torch

    torch.set_num_threads(job["threads"])
    folder, side = Path(job["folder"]), job["side"]
    if side == "peer":
        name = job["model"]
        found = peer_scores(name, folder, job["seed"], job["epochs"]) if "seed" in job else peer_speed(name, folder)
    elif "seed" in job:
        found = our_scores(side, folder, job["aligned"], job["threads"], job["seed"], job["epochs"])
    else:
        found = our_speed(side, folder, job["aligned"], job["threads"], job["epochs"])
    return found | {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def in_process(job: dict) -> dict:
    """Run ``work`` in a fresh process; the allocator is set as ``run_all.sh`` sets it, for MMSA only if asked for."""
    environment = {key: value for key, value in os.environ.items() if key not in ALLOCATOR} | {
        "OMP_NUM_THREADS": str(job["threads"]),
        "FINE_CACHE": str(Path(job["folder"]) / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    if job["side"] != "peer" or job.get("allocator"):
        environment |= ALLOCATOR
    done = subprocess.run(
        [sys.executable, __file__, "--worker", json.dumps(job)],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def speed(job: dict, repeats: int) -> dict:
    """MMSA, ours and FINE in turn, medians; FINE as in the paper, and the peer with our allocator, once."""
    ours = NAMES[job["model"]]
    runs: dict[str, list[dict]] = {"peer": [], ours: [], "FINE": []}
    for _ in range(repeats):
        for side, found in runs.items():
            found.append(in_process(job | {"side": side}))
            print(
                f"{'MMSA' if side == 'peer' else side}: {found[-1]['samples_per_s']:.1f} samples/s, "
                f"{found[-1]['peak_mib']:.0f} MiB",
                flush=True,
            )
    runs["FINE (paper)"] = [in_process(job | {"side": "FINE (paper)", "epochs": 1})]
    runs["peer with our allocator"] = [in_process(job | {"side": "peer", "allocator": True})]
    medians = {
        side: {key: statistics.median(run[key] for run in found) for key in found[0]} for side, found in runs.items()
    }
    keys = dict(zip(medians, ("peer", "ours", "fine", "fine_paper", "peer_with_our_allocator"), strict=True))
    result: dict = {"repeats": repeats, "batch_size": int(medians["peer"]["batch_size"])}
    for side, key in keys.items():
        found = medians[side]
        result |= {
            f"{key}_samples_per_s": round(found["samples_per_s"], 2),
            f"{key}_peak_mib": round(found["peak_mib"]),
            f"{key}_parameters": int(found["parameters"]),
            f"{key}_mflop_per_sample": round(found["mflop"], 1),
        }
    peer = medians["peer"]["samples_per_s"]
    return result | {
        "ratio_ours": round(medians[ours]["samples_per_s"] / peer, 2),
        "ratio_fine": round(medians["FINE"]["samples_per_s"] / peer, 2),
    }


def accuracy(job: dict, seeds: int) -> dict:
    """Test scores of both sides for each seed, and whether ours lies within the peer's interval or is better."""
    from scipy import stats

    scores: dict[str, list[dict]] = {"peer": [], NAMES[job["model"]]: []}
    for seed in range(1111, 1111 + seeds):
        for side, found in scores.items():
            found.append(in_process(job | {"side": side, "seed": seed}))
    result: dict = {"epochs": job["epochs"], "seeds": seeds}
    for metric, better in (("mae", -1), ("corr", 1)):
        peer, ours = ([run[metric] for run in found] for found in scores.values())
        half = float(stats.t.ppf(0.975, seeds - 1)) * statistics.stdev(peer) / seeds**0.5
        gap = better * (statistics.mean(ours) - statistics.mean(peer))
        result[metric] = {
            "peer": [round(x, 4) for x in peer],
            "ours": [round(x, 4) for x in ours],
            "peer_mean": round(statistics.mean(peer), 4),
            "ours_mean": round(statistics.mean(ours), 4),
            "peer_half_width": round(half, 4),
            "ours_within_or_better": gap >= -half,
        }
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=NAMES, default="mult")
    parser.add_argument("--lengths", choices=("full", "mosi"), default="full")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--accuracy", action="store_true", help="test scores instead of speed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8, help="with --accuracy")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="put the result among those of other models")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(json.loads(options.worker))))
        return 0
    if importlib.util.find_spec("MMSA") is None:
        print("compare_mmsa.py: MMSA is not installed; run pip install '.[bench]'", file=sys.stderr)
        return 2
    slow, aligned = options.model in SLOW, options.model == "mfn"
    rows = ACCURACY_ROWS if options.accuracy else SLOW_ROWS if slow else SIZES
    with tempfile.TemporaryDirectory() as folder:
        lengths = write_file(Path(folder), rows, options.lengths, aligned)
        job = {
            "model": options.model,
            "folder": folder,
            "aligned": aligned,
            "threads": options.threads,
            "epochs": options.epochs if options.accuracy else 1 if slow else 3,
        }
        found = accuracy(job, options.seeds) if options.accuracy else speed(job, 1 if slow else 3)
    result = {
        "model": options.model,
        "data": "planted",
        "rows": rows,
        "lengths": lengths,
        "threads": options.threads,
        **found,
        "versions": {name: version(name) for name in ("torch", "mmsa")},
        "cpu": platform.processor() or platform.machine(),
    }
    print(json.dumps(result))
    if options.out:
        name = options.model + ("" if options.lengths == "full" else f"_{options.lengths}")
        keep(options.out, f"{options.model}_accuracy" if options.accuracy else name, result)
    return 0


def keep(path: Path, name: str, result: dict) -> None:
    """Put the result into the file under its name, one line for each of its figures."""
    content = json.loads(path.read_text()) if path.exists() else {}
    content[name] = result
    blocks = []
    for key, figures in sorted(content.items()):
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in figures.items())
        blocks.append(f" {json.dumps(key)}: {{\n{lines}\n }}")
    path.write_text("{\n" + ",\n".join(blocks) + "\n}\n")


if __name__ == "__main__":
    sys.exit(main())
