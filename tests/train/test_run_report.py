"""`report.html` of a run: true to its files, inert whatever they hold, written however the run ends."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import complaints, needs_browser
from stopping import stop_at_load
from tiny_runs import Runs

from reinforce.errors import StoreAccessError
from reinforce.pages import ChartLine, legend, line_chart
from train.checkpoint import write_checkpoint
from train.cost import CostBook
from train.evaluate import EvaluateConfig, evaluate
from train.finetune import FinetuneConfig, finetune
from train.labelled import TrainingViews
from train.loop import TrainingStoppedError
from train.run_report import curves, report_run, run_report
from train.rundir import MetricsLog

HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def headings(self) -> list[str]:
        return re.findall(r"(?m)^(Curves|Measured|Trials|Compute|Origin|Settings)$", self.text)

    @property
    def charts(self) -> list[str]:
        return [attrs["aria-label"] for tag, attrs in self.elements if tag == "svg"]


def finetuned(colours: Path, out: str, **options: Any) -> Page:
    config = {"model": "test_efficientnet", "data": str(colours), "image_size": 32, "mode": "full", "lr": (1e-3, 2e-3),
              "steps": 4, "log_every": 1, "eval_every": 2, "workers": 0, "batch_size": 8, "quiet": True}  # fmt: skip
    finetune(FinetuneConfig(out=out, **config | options))  # type: ignore[arg-type]
    return Page(Path(out, "report.html").read_bytes())


@pytest.fixture
def distilled(tmp_path: Path) -> Path:
    runs = Runs(tmp_path / "runs")
    path = runs.distill("student", runs.store("web.zarr", runs.adapt("teacher")))
    lines = [{"step": step, "loss": 1 / step, "lr": 1e-3, "kl": 0.5 / step, "agreement": 1 - 0.5 / step}
             for step in (1, 2, 4)]  # fmt: skip
    (path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    model = json.loads((path / "model.json").read_text())
    (path / "model.json").write_text(json.dumps({**model, "head": "none"}))
    return path


def test_every_training_leaves_its_report(colours: Path, tmp_path: Path) -> None:
    page = finetuned(colours, "run")
    assert page.headings == ["Curves", "Trials", "Compute", "Origin", "Settings"]
    assert page.charts[:3] == ["Training loss", "Validation accuracy", "Validation loss"]
    result = json.loads(Path("run/result.json").read_text())
    for trial in result["trials"]:
        assert f"full-lr{trial['lr']:g}" in page.text
    weights = json.loads(Path("run/model.json").read_text())["provenance"]["weights_sha256"]
    assert weights in page.text
    assert "Not finished" not in page.text


def test_an_evaluation_joins_the_report(colours: Path) -> None:
    finetuned(colours, "run", lr=(1e-3,))
    result = evaluate(EvaluateConfig(model="run", data=str(colours), workers=0, quiet=True))
    page = Page(Path("run/report.html").read_bytes())
    assert "Measured" in page.headings
    assert f"{100 * result.accuracy:.1f} %" in page.text  # type: ignore[union-attr]


class TestWhatAnEvaluationShows:
    @pytest.fixture
    def run(self, colours: Path) -> Path:
        finetuned(colours, "run", lr=(1e-3,))
        evaluate(EvaluateConfig(model="run", data=str(colours), workers=0, quiet=True))
        return Path("run")

    def test_mistakes_with_pictures_classes_and_confusions(self, run: Path, colours: Path) -> None:
        page = Page((run / "report.html").read_bytes())
        for heading in ("Worst mistakes", "Classes", "Confusions"):
            assert f"{heading}: {colours.name}, test" in page.text
        shown = json.loads(next(run.glob("shown-*.json")).read_text())
        pictures = [attrs["src"] for tag, attrs in page.elements if tag == "img"]
        assert pictures == [one["uri"] for one in shown["mistakes"]] != []
        assert all(uri.startswith("data:image/") for uri in pictures)

    def test_a_teacher_beside_it(self, run: Path, colours: Path) -> None:
        evaluate(EvaluateConfig(model="run", data=str(colours), teacher="run", workers=0, quiet=True))
        page = Page((run / "report.html").read_bytes())
        assert "The same answer on 100.0 % of all images" in page.text

    def test_each_evaluation_has_sections_of_its_own(self, run: Path, colours: Path) -> None:
        evaluate(EvaluateConfig(model="run", data=str(colours), split="val", workers=0, quiet=True))
        ids = [attrs["id"] for _, attrs in Page((run / "report.html").read_bytes()).elements if "id" in attrs]
        assert len(ids) == len(set(ids))
        assert {"shown1-mistakes", "shown2-mistakes"} <= set(ids)

    @pytest.mark.parametrize("content", ["{", '"x"', '{"format": 0}'])
    def test_what_another_version_kept_is_left_out(self, content: str, run: Path) -> None:
        next(run.glob("shown-*.json")).write_text(content)
        page = Page(run_report(run))
        assert "Measured" in page.headings
        assert "Worst mistakes" not in page.text

    def test_a_new_run_begins_without_it(self, run: Path, colours: Path) -> None:
        finetuned(colours, "run", lr=(1e-3,), overwrite=True)
        assert not list(run.glob("shown-*.json"))

    @needs_browser
    @pytest.mark.slow
    def test_a_browser_has_nothing_to_complain_about(self, run: Path, tmp_path: Path) -> None:
        assert complaints(run / "report.html", tmp_path / "profile") == []


def test_a_run_that_fails_says_where_it_stands(colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(self: CostBook, part: str, cost: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CostBook, "book", full_disk)
    with pytest.raises(StoreAccessError, match=r"No space left on device; free some, then type .* --resume"):
        finetuned(colours, "run", lr=(1e-3,))
    page = Page(Path("run/report.html").read_bytes())
    assert "Not finished: it stands at step 4. The same command with --resume goes on." in page.text
    assert page.charts[0] == "Training loss"


def test_a_run_that_is_stopped_has_a_report_until_it_is_resumed(colours: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        stop_at_load(patch, TrainingViews, 3)
        with pytest.raises(TrainingStoppedError):
            finetuned(colours, "run", lr=(1e-3,))
    page = Page(Path("run/report.html").read_bytes())
    assert "Not finished: it stands at step 3." in page.text
    assert "No weights are kept yet." in page.text
    assert "Not finished" not in finetuned(colours, "run", lr=(1e-3,), resume=True).text


def test_a_stopped_run_stands_where_resume_goes_on(colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far the last line of metrics is from there."""
    for is_second, step in enumerate((7, 16)):
        with monkeypatch.context() as patch:
            stop_at_load(patch, TrainingViews, 9 if is_second else 7)
            with pytest.raises(TrainingStoppedError, match=f"stopped at step {step} of 40"):
                finetuned(colours, "run", lr=(1e-3,), steps=40, log_every=20, eval_every=20, resume=bool(is_second))
        assert f"Not finished: it stands at step {step}." in Page(Path("run/report.html").read_bytes()).text


@pytest.mark.parametrize(
    ("finished", "under_way", "step"),
    [((), (30,), 30), ((100,), (), 0), ((100, 100), (30,), 30)],
    ids=["the first trial", "between trials", "the last trial"],
)
def test_of_several_trials_the_one_under_way_counts(finished: tuple[int, ...], under_way: tuple[int, ...], step: int,
                                                    distilled: Path) -> None:  # fmt: skip
    (distilled / "result.json").unlink(missing_ok=True)
    for number, reached in enumerate((*finished, *under_way)):
        folder = distilled / "checkpoints" / f"full-lr{number}"
        write_checkpoint(folder / "last.pt", {"step": reached})
        if number < len(finished):
            (folder / "result.json").write_text("{}")
    assert f"Not finished: it stands at step {step}." in Page(run_report(distilled)).text


def test_a_run_stands_at_the_checkpoint_not_where_its_last_line_is(colours: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    real_write = MetricsLog.write

    def full_disk(self: MetricsLog, line: dict[str, Any]) -> None:
        if line["step"] == 4:
            raise OSError(28, "No space left on device")
        real_write(self, line)

    monkeypatch.setattr(MetricsLog, "write", full_disk)
    with pytest.raises(StoreAccessError):
        finetuned(colours, "run", lr=(1e-3,))
    assert "Not finished: it stands at step 2." in Page(Path("run/report.html").read_bytes()).text


@pytest.mark.parametrize("content", [None, b"no checkpoint"])
def test_without_a_checkpoint_that_can_be_read_a_run_stands_at_its_beginning(content: bytes | None,
                                                                            distilled: Path) -> None:  # fmt: skip
    (distilled / "result.json").unlink(missing_ok=True)
    if content is not None:
        (distilled / "checkpoints").mkdir()
        (distilled / "checkpoints" / "last.pt").write_bytes(content)
    assert "Not finished: it stands at step 0." in Page(run_report(distilled)).text


def test_a_report_that_cannot_be_written_is_one_line(colours: Path, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    (tmp_path / "run" / "report.html").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text('{"verb": "distill", "out": "run"}')
    report_run(tmp_path / "run")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"train: no report of {tmp_path / 'run'} (UsageError: ")


def test_what_a_distillation_came_from_is_told(distilled: Path) -> None:
    page = Page(run_report(distilled))
    plan = json.loads((distilled.parent / "web.zarr" / "plan.json").read_text())
    digest = json.loads((distilled.parent / "web.zarr" / "manifest.json").read_text())["digest"]
    for word in (digest, plan["teacher"]["weights_sha256"], "distilled from what teacher said of web"):
        assert word in page.text
    assert page.charts == ["Training loss", "KL to the teacher, on held-out views",
                           "Agreement with the teacher's top class, on held-out views", "Learning rate"]  # fmt: skip
    assert "87.5 %" in page.text
    assert "3.3 min in all" in page.text


def test_nothing_on_the_page_runs_or_is_loaded(distilled: Path) -> None:
    lines = [{"trial": HOSTILE, "step": 1, HOSTILE: 0.5, "loss": float("nan")}, {"trial": "b", "step": 2, HOSTILE: 0.1}]
    (distilled / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (distilled / "config.json").write_text(json.dumps({"verb": HOSTILE, "student": HOSTILE, HOSTILE: {"x": HOSTILE}}))
    page = Page(run_report(distilled))
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "object", "img"}
    assert all(attrs["href"].startswith("#") for _, attrs in page.elements if "href" in attrs)
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    assert page.text.count(HOSTILE) >= 5


@pytest.mark.parametrize("missing", ["metrics.jsonl", "cost.json", "model.json", "config.json", "result.json"])
def test_a_run_without_one_of_its_files_has_a_page(missing: str, distilled: Path) -> None:
    (distilled / missing).unlink()
    page = Page(run_report(distilled))
    assert page.headings == ["Curves", "Compute", "Origin", "Settings"]
    assert ("Not finished" in page.text) == (missing == "result.json")


@needs_browser
@pytest.mark.slow
def test_a_browser_has_nothing_to_complain_about(distilled: Path, tmp_path: Path) -> None:
    report_run(distilled)
    assert complaints(distilled / "report.html", tmp_path / "profile") == []


class TestLineChart:
    def places(self, svg: str) -> list[list[tuple[float, float]]]:
        paths = re.findall(r'<path d="M([\d. L-]+)" fill="none"', svg)
        return [[(float(x), float(y)) for x, y in (p.split() for p in path.split("L"))] for path in paths]

    def test_points_are_where_the_axes_say(self) -> None:
        svg = line_chart([ChartLine(label="a", x=[0, 50, 100], y=[0.0, 1.0, 0.5])], title="t", x_label="step")
        ((first, second, third),) = self.places(svg)
        assert (first[0] + third[0]) / 2 == pytest.approx(second[0])
        assert (first[1] + second[1]) / 2 == pytest.approx(third[1])
        assert second[1] < third[1] < first[1]
        ticks = {text: float(x) for x, text in re.findall(r'<text x="([\d.]+)"[^>]*middle"[^>]*>([\d]+)<', svg)}
        assert ticks["50"] == pytest.approx(second[0])

    def test_lines_keep_their_colours(self) -> None:
        lines = [ChartLine(label="empty", x=[], y=[]), ChartLine(label="b", x=[1, 2], y=[3, float("inf")]),
                 ChartLine(label="c", x=[1, 2], y=[1, 2])]  # fmt: skip
        svg = line_chart(lines, title="t", x_label="step")
        assert [colour for colour, _ in legend(lines)] == ["var(--series-1)", "var(--series-2)", "var(--series-3)"]
        assert "--series-1)" not in svg
        assert svg.count("--series-3)") == 2
        assert len(self.places(svg)) == 1

    @pytest.mark.parametrize("value", [0.0, 1.0, -2.0, 1e-9, 1e12])
    def test_a_flat_line_has_axes(self, value: float) -> None:
        svg = line_chart([ChartLine(label="a", x=[1, 2], y=[value, value])], title="t", x_label="step")
        (points,) = self.places(svg)
        assert points[0][1] == points[1][1]
        assert svg.count("<text") >= 4

    @pytest.mark.parametrize(
        ("y", "in_percent", "ticks"),
        [
            ((0.018, 0.0195), True, "1.80 % 1.85 % 1.90 % 1.95 %"),
            ((0.76, 0.776), True, "76.0 % 76.5 % 77.0 % 77.5 %"),
            ((0.0, 1.0), True, "0 % 25 % 50 % 75 % 100 %"),
            ((0.6718, 0.6792), False, "0.672 0.674 0.676 0.678"),
            ((0.6720, 0.6820), False, "0.6725 0.6750 0.6775 0.6800"),
            ((-2.0, 6.0), False, "-2 0 2 4 6"),
            ((0.0, 1e-4), False, "0 2.50 × 10⁻⁵ 5.00 × 10⁻⁵ 7.50 × 10⁻⁵ 1.00 × 10⁻⁴"),
        ],
    )
    def test_ticks_are_written_to_their_last_digit(
        self, y: tuple[float, float], in_percent: bool, ticks: str
    ) -> None:
        svg = line_chart([ChartLine(label="a", x=[1, 2], y=y)], title="t", x_label="step", in_percent=in_percent)
        assert " ".join(re.findall(r'text-anchor="end"[^>]*>([^<]+)<', svg)) == ticks

    def test_without_points_there_is_nothing(self) -> None:
        assert line_chart([ChartLine(label="a", x=[1], y=[float("nan")])], title="t", x_label="step") == ""

    def test_a_long_run_is_thinned_and_ends_where_it_ends(self) -> None:
        svg = line_chart([ChartLine(label="a", x=range(5000), y=range(5000))], title="t", x_label="step")
        (points,) = self.places(svg)
        assert 200 < len(points) <= 400
        assert points[-1] == (448.0, 10.0)


def test_the_headline_is_of_the_model_that_is_kept(distilled: Path) -> None:
    (distilled / "result.json").write_text('{"agreement": 0.625, "loss": "kl"}')
    assert "62.5 %" in Page(run_report(distilled)).text.split("Curves")[0]
    (distilled / "result.json").unlink()
    assert "87.5 %" in Page(run_report(distilled)).text.split("Curves")[0]


def test_figures_have_a_line_for_each_trial() -> None:
    lines = [{"trial": trial, "step": step, "val_accuracy": 0.5} for trial in "ab" for step in (1, 2)]
    (curve,) = curves([*lines, {"trial": "a", "step": 2, "note": "text"}])
    assert (curve.title, curve.last, [label for _, label in curve.key]) == ("Validation accuracy", "50.0 %", ["a", "b"])
