"""Students trained from one teacher pass kept at several fidelities: at which mean KL does a loss begin?

    python tools/codec_students.py --teacher runs/teacher-0 --teacher runs/teacher-1 --out runs/codec-students

A store is built once a seed with --codec fp16; its targets are then encoded again, unit by unit, under each --max-kl,
so that nothing else differs between the students of a seed. Each student is a `train` command whose JSON is kept in
record.json; a recorded one is not run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from intervals import over_seeds

from reinforce.store import (
    MANIFEST,
    CodecRequest,
    LocalObjects,
    Promise,
    Store,
    UnfinishedStore,
    calibrate,
    codec_record,
    commit_unit,
    create_store,
    encode_within,
    finalize,
    write_probes,
)

CALIBRATION_ROWS = 2048


def encode_again(source: Path, target: Path, max_kl: float) -> None:
    """Write the targets of a finished store, none of whose rows was skipped, under another promise."""
    store, old = Store.open(source), UnfinishedStore(LocalObjects(source))
    schema = store.schema
    whole = range(store.num_units)
    logits_VRC = np.stack([np.concatenate([store.read_targets(u, v) for u in whole]) for v in range(store.num_views)])
    some = np.unique(np.linspace(0, store.num_samples - 1, CALIBRATION_ROWS).astype(int))
    request = CodecRequest(max_error=max_kl, measure=schema.measure, num_samples=store.num_samples,
                           num_views=store.num_views, unit_rows=store.unit_rows)  # fmt: skip
    codec = calibrate(logits_VRC[:, some], request).codec
    promise = Promise(max_error=max_kl)
    plan = store.plan | {"codec": codec_record(codec, request.zstd_level), "promise": promise.to_json(schema.measure)}
    objects, probes = LocalObjects(target), store.probes()
    shutil.rmtree(target, ignore_errors=True)
    schema = create_store(objects, plan, codec, old.samples())
    if probes is not None:
        write_probes(objects, probes[1], probes[0])
    for unit in whole:
        rows = slice(unit * store.unit_rows, (unit + 1) * store.unit_rows)
        ok = np.arange(store.unit_rows) < schema.unit_size(unit)
        encoded = encode_within(schema, codec, unit, logits_VRC[:, rows], ok, promise)
        commit_unit(objects, schema, unit, encoded.contents, encoded.fidelity, [])
    finalize(objects, plan)


def command(record: dict[str, Any], path: Path, name: str, *argv: object) -> dict[str, Any]:
    """The JSON of a command that is run once."""
    if name not in record:
        words = [str(word) for word in argv]
        print(f"== {name}\n$ {' '.join(words)}", flush=True)
        started = time.monotonic()
        done = subprocess.run([*words, "--json"], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            sys.exit(f"'{name}' failed with status {done.returncode}")
        record[name] = {"seconds": time.monotonic() - started, "result": json.loads(done.stdout)}
        path.write_text(json.dumps(record, indent=1) + "\n")
    return dict(record[name]["result"])


def run_seed(args: argparse.Namespace, seed: int, folder: Path) -> dict[str, Any]:
    """Certificates and accuracies of one seed, by fidelity."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "record.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    exact = folder / "fp16.zarr"
    command(record, path, "build", "reinforce", "build", "--teacher", args.teacher[seed], "--transfer", args.transfer,
            "--limit", args.limit, "--views", args.views, "--policy", "crops", "--crop-scale", "0.5,1", "--seed", seed,
            "--codec", "fp16", "--resume", "--out", exact)  # fmt: skip
    outcome = {}
    for fidelity in ("fp16", *args.max_kl):
        store = exact if fidelity == "fp16" else folder / f"kl-{fidelity}.zarr"
        if not (store / MANIFEST).exists():
            encode_again(exact, store, float(fidelity))
        out = folder / f"student-{fidelity}"
        trained = command(record, path, f"distill {fidelity}", "train", "distill", "--cache", store, "--student",
                          args.student, "--image-size", args.image_size, "--batch-size", 32, "--lr", "1e-3",
                          "--epochs", args.epochs, "--seed", seed, "--resume", "--out", out)  # fmt: skip
        tested = command(record, path, f"evaluate {fidelity}", "train", "evaluate", "--model", out, "--data", args.data,
                         "--split", "test")  # fmt: skip
        certificate = dict(Store.open(store).manifest.certificate)
        outcome[fidelity] = {"certificate": certificate, "accuracy": tested["accuracy"], "distill": trained}
    return outcome


def table(outcomes: Sequence[dict[str, Any]]) -> str:
    """A row a fidelity: what the store holds, accuracies, and the paired difference to fp16 with its 95 % interval."""
    lines = [
        "| promise | codec | bytes/view | mean KL | accuracy | difference to fp16, paired |",
        "|---|---|---|---|---|---|",
    ]
    for fidelity, first in outcomes[0].items():
        certificate = first["certificate"]
        mean_kl = statistics.mean(outcome[fidelity]["certificate"]["kl_mean"] for outcome in outcomes)
        size = statistics.mean(outcome[fidelity]["certificate"]["bytes_per_view"] for outcome in outcomes)
        accuracies = [100 * outcome[fidelity]["accuracy"] for outcome in outcomes]
        gains = [100 * (outcome[fidelity]["accuracy"] - outcome["fp16"]["accuracy"]) for outcome in outcomes]
        shown = ", ".join(f"{accuracy:.1f}" for accuracy in accuracies)
        lines.append(f"| {fidelity} | {certificate['codec']} | {size:.1f} | {mean_kl:.1e} | {shown}: mean "
                     f"{statistics.mean(accuracies):.1f} % | {_paired(gains)} |")  # fmt: skip
    return "\n".join(lines)


def _paired(gains: Sequence[float]) -> str:
    if not any(gains):
        return ""
    return f"{statistics.mean(gains):+.1f} ± {over_seeds(gains):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", action="append", required=True, help="an adapted teacher; one for each seed")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--transfer", default="fashion-mnist-train")
    parser.add_argument("--limit", type=int, default=4000)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--student", default="fastvit_t8")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--max-kl", default="1e-3,1e-2,5e-2,0.2,0.5")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.max_kl = args.max_kl.split(",")
    outcomes = [run_seed(args, seed, args.out / f"seed-{seed}") for seed in range(len(args.teacher))]
    (args.out / "outcomes.json").write_text(json.dumps(outcomes, indent=1) + "\n")
    (args.out / "table.md").write_text(table(outcomes) + "\n")
    print(table(outcomes))


if __name__ == "__main__":
    main()
