"""A run's history as TensorBoard's own reader finds it."""

import pytest
from test_training import RECIPE, StopsAt, halves, history, learn

from depthwise.training import resume
from depthwise.training.event_files import EventFiles

# why a skip is loud: `pytest -ra` names it in the summary
reader = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator",
    reason="NOT TESTED: TensorBoard's files, for its package is not installed: pip install "
    "tensorboard",
)


def curves(directory):
    """Return (step, value) of each curve, and the seconds between its points."""
    found = reader.EventAccumulator(str(directory / "tensorboard")).Reload()
    points = {name: found.Scalars(name) for name in found.Tags()["scalars"]}
    values = {name: [(each.step, each.value) for each in row] for name, row in points.items()}
    times = [each.wall_time for each in points["loss"]]
    return values, [time - times[0] for time in times]


def assert_same_as_history(directory):
    rows = history(directory)
    values, times = curves(directory)
    drawn = {name: [(row["step"], pytest.approx(row[name])) for row in rows] for name in values}
    assert values == drawn
    assert values.keys() == rows[0].keys() - {"epoch", "step", "seconds"}
    seconds = [row["seconds"] for row in rows]
    assert times == pytest.approx([each - seconds[0] for each in seconds], abs=1e-5)


def test_a_run_has_what_its_history_has(tmp_path):
    learn(tmp_path / "run")
    assert [row["step"] for row in history(tmp_path / "run")] == [8, 16, 24]
    assert_same_as_history(tmp_path / "run")


def test_going_on_repeats_no_point_and_loses_none(tmp_path, monkeypatch):
    """The state is of step 12; of those that a killed session wrote afterwards nothing is left."""
    run = tmp_path / "run"
    learn(run, onlooker=StopsAt(12))
    with pytest.raises(InterruptedError):
        resume(run, halves(), onlooker=StopsAt(20, fails=True))
    assert len(history(run)) == 2
    assert len(curves(run)[0]["loss"]) == 2
    with monkeypatch.context() as patch:  # killed between the history and the event file
        patch.setattr(EventFiles, "add", fail)
        with pytest.raises(InterruptedError):
            resume(run, halves())
    resume(run, halves())
    assert [row["step"] for row in history(run)] == [8, 16, 24]
    assert_same_as_history(run)


def fail(_files, _record):
    raise InterruptedError


def test_without_the_package_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("depthwise.training.event_files.find_spec", lambda _name: None)
    learn(tmp_path / "run", recipe=RECIPE.model_copy(update={"epochs": 1}))
    assert len(history(tmp_path / "run")) == 1
    assert not (tmp_path / "run" / "tensorboard").exists()
