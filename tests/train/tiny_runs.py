"""Run directories as the verbs leave them, but for the weights: small files that say what a run was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def sha(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()


class Runs:
    """Writes runs into one folder; each method gives the run's path."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def adapt(self, name: str, *, mode: str = "full", shots: int = 10, seed: int = 0, model: str = "dinov2-vits14",
              seconds: float | None = 100.0) -> Path:  # fmt: skip
        training = {"verb": "adapt", "model": model, "mode": mode, "shots": shots, "num_images": 3 * shots,
                    "seed": seed, "data": "colours", "from_sha256": sha(model)}  # fmt: skip
        return self.write(name, training, {"model": model, "mode": mode}, seconds, architecture="vit_small")

    def published(self, name: str) -> Path:
        """A model directory that no run made."""
        path = self.root.parent / "models" / name
        path.mkdir(parents=True)
        provenance = {"source": f"timm:{name}", "weights_sha256": sha(name)}
        info = {"architecture": "vit_small", "image_size": 32, "head": "none", "provenance": provenance}
        (path / "model.json").write_text(json.dumps(info))
        return path

    def store(self, name: str, teacher: Path | dict[str, Any], *, views: int = 4, transfer: str = "web",
              seconds: float | None = 50.0) -> Path:  # fmt: skip
        """Of a model directory, or of what its plan says of a teacher."""
        path = self.root / name
        path.mkdir(parents=True)
        described = teacher if isinstance(teacher, dict) else {
            "name": teacher.name, "weights_sha256": _info(teacher)["provenance"]["weights_sha256"]}  # fmt: skip
        plan = {"teacher": described, "views": views, "transfer": {"name": transfer}}
        (path / "plan.json").write_text(json.dumps(plan))
        (path / "manifest.json").write_text(json.dumps({"digest": sha(name, views), "plan_digest": sha(plan)}))
        if seconds is not None:
            common = {"verb": "build", "plan_digest": sha(plan), "seconds": seconds / 2, "device": "cpu"}
            lines = [common | {"started": f"{name}, process {process}"} for process in range(2)]
            Path(f"{path}.runs.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
        return path

    def distill(self, name: str, store: Path, *, loss: str = "kl", seed: int = 0, seconds: float | None = 200.0,
                step: int | None = None, others: Sequence[Path] = (), **config: Any) -> Path:  # fmt: skip
        training = {"verb": "distill", "student": "fastvit_t8", "loss": loss, "seed": seed, "targets": "stored",
                    "store": _stored(store)}  # fmt: skip
        training |= {"other_stores": list(map(_stored, others))} if others else {}
        place = name if step is None else f"{name}/checkpoints/step-{step:08d}"
        cache = [str(store), *map(str, others)] if others else str(store)
        return self.write(place, training, None if step else {"cache": cache, **config}, seconds)

    def pretrain(self, name: str, *, method: str = "dino", seconds: float = 900.0) -> Path:
        training = {"verb": "pretrain", "method": method, "transfer": "web", "seed": 0}
        return self.write(name, training, {"method": method}, seconds)

    def clip_affinity(self, name: str, images: Path, texts: Path) -> Path:
        digests = [json.loads((store / "manifest.json").read_text())["digest"] for store in (images, texts)]
        training = {"verb": "pretrain", "method": "clip-affinity", "transfer": "web", "seed": 0,
                    "stores": dict(zip(("store_digest", "text_store_digest"), digests, strict=True)),
                    "teacher": json.loads((texts / "plan.json").read_text())["teacher"]}  # fmt: skip
        config = {"method": "clip-affinity", "cache": str(images), "text_cache": str(texts)}
        return self.write(name, training, config, 900.0)

    def finetune(self, name: str, start: Path | str = "fastvit_t8", *, shots: int = 10, seed: int = 0,
                 value: float | None = None, mode: str = "full", seconds: float = 20.0, data: str = "colours",
                 **config: Any) -> Path:  # fmt: skip
        training: dict[str, Any] = {"verb": "finetune", "model": Path(start).name, "mode": "full", "shots": shots,
                                    "num_images": 3 * shots, "seed": seed, "data": data}  # fmt: skip
        if isinstance(start, Path):
            provenance = _info(start)["provenance"]
            training |= {"from_sha256": provenance["weights_sha256"], "before": provenance["training"]}
        path = self.write(name, training, {"model": str(start), "mode": mode, **config}, seconds)
        return path if value is None else self.measure(path, value, data=data)

    def measure(self, path: Path, value: float, *, data: str = "colours", split: str = "test",
                num_images: int = 1000, images: str | None = None, task: str = "classification",
                subset: str = "", location: str | None = None) -> Path:  # fmt: skip
        metric = {"classification": "accuracy", "segmentation": "mean_iou"}[task]
        result = {"task": task, "split": split, "num_images": num_images, metric: value}
        weights = _info(path)["provenance"]["weights_sha256"]
        evaluation = {"data": data, "split": split, "subset": subset, "weights_sha256": weights, "result": result,
                      "images": images, "location": location}  # fmt: skip
        (path / f"evaluation-{data}-{split}.json").write_text(json.dumps(evaluation))
        return path

    def write(self, name: str, training: dict[str, Any], config: dict[str, Any] | None, seconds: float | None, *,
              architecture: str = "fastvit_t8") -> Path:  # fmt: skip
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        info = {"architecture": architecture, "image_size": 32, "task": "classification",
                "provenance": {"training": training, "weights_sha256": sha(name, training)}}  # fmt: skip
        (path / "model.json").write_text(json.dumps(info))
        if seconds is not None:
            part = {"seconds": seconds, "steps": 10, "images": 640, "device": "cpu", "num_devices": 1}
            (path / "cost.json").write_text(json.dumps({**part, "parts": {"train": part}}))
        if config is not None:
            shared = {"verb": training["verb"], "seed": training["seed"], "out": str(path)}
            (path / "config.json").write_text(json.dumps({**shared, **config}))
            (path / "result.json").write_text("{}")
        return path


def _stored(store: Path) -> dict[str, Any]:
    """What a training says of a store."""
    plan, manifest = (json.loads((store / name).read_text()) for name in ("plan.json", "manifest.json"))
    return {"manifest_digest": manifest["digest"], "transfer": plan["transfer"]["name"], "teacher": plan["teacher"]}


def _info(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "model.json").read_text())
    return found
