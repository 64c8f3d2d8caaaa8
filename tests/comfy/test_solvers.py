"""The study of solvers: calls are counted, errors shrink, the nearest is found; and its chart is drawn."""

import chart
import pytest
import torch
from benchmarks import solvers
from PIL import Image


@pytest.fixture(scope="module")
def sampling(comfy, nodes, patcher, features):
    asked = solvers.Questions([], 100, features.text, features.negative, features.visual, features.sync)
    with torch.inference_mode():
        yield solvers.Sampling(comfy, patcher, asked, features.noise, nodes.model)


@pytest.mark.parametrize("solver, calls", [("euler", 6), ("heun", 11), ("dpmpp_2m", 6), ("res_multistep", 6)])
def test_model_calls_are_counted(sampling, solver, calls):
    latents, counted = sampling(solver, 6, 1.0)
    assert counted == calls and latents.isfinite().all()


def test_more_calls_come_nearer(sampling, monkeypatch):
    monkeypatch.setattr(solvers, "REFERENCE", ("heun", 40, 1.0))
    monkeypatch.setattr(solvers, "SOLVERS", ("euler", "dpmpp_2m"))
    monkeypatch.setattr(solvers, "SHIFTS", (1.0,))
    monkeypatch.setattr(solvers, "CALLS", (4, 20))
    told = []
    points = list(solvers.measure(sampling, lambda latents: latents, told.append))
    errors = {(point.solver, point.calls): point.error for point in points}
    assert errors["euler", 20] < errors["euler", 4] and errors["dpmpp_2m", 20] < errors["dpmpp_2m", 4]
    assert solvers.nearest(points, 4).calls == 4 and solvers.nearest(points, 99).error == min(errors.values())
    assert len(told) == 5
    row = solvers.table(points, 1.0)[2]
    assert row.startswith("| euler | ") and row.count("dB") == 2


def test_the_chart_has_a_line_for_each_solver(tmp_path):
    lines = {"one": [(5, 0.5), (50, 0.01)], "two": [(5, 0.9), (50, 0.2)]}
    chart.draw(tmp_path / "chart.png", lines, "title", "across", "upwards")
    colours = {colour for _, colour in Image.open(tmp_path / "chart.png").getcolors(1 << 24)}
    assert set(chart.COLOURS[:2]) <= colours and chart.COLOURS[2] not in colours
