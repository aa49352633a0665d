"""Slimmed networks in a directory: named to every verb, trained further, learned from, damaged."""

import json
import shutil

import numpy as np
import pytest
import torch
from terminal import run as command
from test_training import NETWORK, RECIPE, StopsAt, assert_same_weights, halves, learn, weights
from tiny_network import make

import depthwise as dw
from depthwise.graph import capture, interpret, open_graph, save_graph
from depthwise.sources.slimmed_folder import (
    GRAPH,
    SlimmedRecord,
    open_slimmed,
    read_slimmed,
    write_slimmed,
)
from depthwise.sources.spec import SLIMMED_RECORD, parse_spec
from depthwise.training import Run, resume, train
from depthwise.training.judging import evaluate
from depthwise.training.teacher import open_trained
from depthwise.weights import Preprocessing

CLASSES = ("upper", "lower")
LOOK = Preprocessing(
    resize=16, crop=16, interpolation="bilinear", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
)
ONE = RECIPE.model_copy(update={"epochs": 1})
RECORD = SlimmedRecord(network=NETWORK, classes=CLASSES, preprocessing=LOOK)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    write_slimmed(tmp_path / "slim", capture(make(2), (1, 3, 16, 16)), RECORD)
    return tmp_path / "slim"


def test_what_is_written_is_read(folder):
    found = read_slimmed(folder)
    assert found.model_copy(update={"hash": ""}) == RECORD
    assert json.loads((folder / SLIMMED_RECORD).read_text())["format"] == 1


def test_it_is_opened_by_its_name(folder):
    assert parse_spec(f"slimmed:{folder}").front_end == "slimmed"
    source = dw.open(f"slimmed:{folder}")
    graph = open_graph(folder / GRAPH)
    assert source.shapes == ((1, 3, 16, 16),)
    assert (source.name, source.known.class_names) == ("make_slimmed", CLASSES)
    x = np.random.default_rng(0).standard_normal((3, 3, 16, 16), np.float32)
    expected = [interpret(graph, each[None])[graph.outputs[0].value][0] for each in x]
    found = source.at([x.shape]).run([x])[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert [type(node.op) for node in source.graph] == [type(node.op) for node in graph]
    with pytest.raises(ValueError, match="built already: it takes no --set width"):
        dw.open(f"slimmed:{folder}", settings={"width": 1})


def test_classes_without_names_have_the_usual_ones(folder):
    graph = open_graph(folder / GRAPH)
    write_slimmed(folder, graph, RECORD.model_copy(update={"classes": ()}))
    assert open_slimmed(folder).known.class_names == ("class 0", "class 1")
    write_slimmed(folder, graph, RECORD.model_copy(update={"preprocessing": None}))
    assert open_slimmed(folder).known is None


def test_verbs_take_it(folder, tmp_path, capsys):
    name = f"slimmed:{folder}"
    code, said, _ = command("cost", name, "--json", capsys=capsys)
    assert (code, json.loads(said)["macs"]) == (0, dw.cost(open_graph(folder / GRAPH)).macs)
    command("export", name, "--out", tmp_path / "net.onnx", capsys=capsys)
    assert (tmp_path / "net.onnx").is_file()
    library = dw.compile(name)
    assert library.manifest.network.labels == CLASSES
    library.save(tmp_path / "library")
    judged = evaluate(folder, halves(), against=tmp_path / "library")
    assert judged.agreement.different == ()
    assert evaluate(name, halves()).result.images == 32


def test_it_is_trained_further(folder, tmp_path):
    first = weights(folder, "network")
    run = train(f"slimmed:{folder}", halves(), ONE, directory=tmp_path / "run")
    assert run.record.weights == run.record.network == f"slimmed:{folder}"
    assert run.record.preprocessing.mean == LOOK.mean
    assert weights(run.directory, "best").keys() >= first.keys()
    shutil.rmtree(folder)
    source = dw.open(f"run:{run.directory}")
    assert source.output_shapes == [(1, 2)]
    again = train(f"run:{run.directory}", halves(), ONE, directory=tmp_path / "again")
    assert again.result.validation.accuracy > 0.9
    (run.directory / "begun.safetensors").unlink()
    with pytest.raises(ValueError, match=r"begun\.safetensors is damaged: it is not there"):
        dw.open(f"run:{run.directory}")


def test_training_begins_with_its_weights(folder, tmp_path):
    none = ONE.model_copy(update={"learning_rate": 1e-12, "weight_decay": 0.0, "average": 0.0})
    run = train(f"slimmed:{folder}", halves(), none, directory=tmp_path / "run")
    first, last = weights(folder, "network"), weights(run.directory)
    for name in ("0.weight", "3.weight", "8.weight", "8.bias"):
        torch.testing.assert_close(first[name], last[name])


def test_training_of_it_goes_on_where_it_was_killed(folder, tmp_path):
    def run(directory, onlooker=None):
        return train(f"slimmed:{folder}", halves(), ONE, directory=directory, onlooker=onlooker)

    run(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        run(tmp_path / "killed", StopsAt(4, fails=True))
    resume(tmp_path / "killed", halves())
    assert_same_weights(tmp_path / "whole", tmp_path / "killed")


def test_it_gets_other_classes(folder, tmp_path):
    graph = capture(make(5), (1, 3, 16, 16))
    names = tuple("abcde")
    write_slimmed(folder, graph, RECORD.model_copy(update={"classes": names}))
    run = train(f"slimmed:{folder}", halves(), ONE, directory=tmp_path / "run")
    assert run.network()(torch.zeros(3, 3, 16, 16)).shape == (3, 2)


def test_others_learn_from_it(folder, tmp_path):
    known = open_trained(f"slimmed:{folder}")
    assert (known.classes, known.preprocessing) == (CLASSES, LOOK)
    assert known.net(torch.zeros(3, 3, 16, 16)).shape == (3, 2)
    taught = ONE.model_copy(update={"teacher": f"slimmed:{folder}", "teacher_share": 0.5})
    assert learn(tmp_path / "run", recipe=taught).record.teacher_accuracy is not None


@pytest.mark.parametrize("suffix", [".safetensors", ".onnx"])
def test_a_file_is_trained_further(suffix, tmp_path):
    path = tmp_path / f"net{suffix}"
    graph = capture(make(2), (1, 3, 16, 16))
    save_graph(graph, path) if suffix == ".safetensors" else dw.export_onnx(graph, path)
    run = train(str(path), halves(), RECIPE, directory=tmp_path / "run")
    assert run.result.validation.accuracy > 0.9
    path.unlink()
    assert Run.open(tmp_path / "run").network()(torch.zeros(2, 3, 16, 16)).shape == (2, 2)


DAMAGES = {
    "is no slimmed network: it has no slimmed.json": lambda at: (at / SLIMMED_RECORD).unlink(),
    "network.safetensors is damaged: it is not there": lambda at: (at / GRAPH).unlink(),
    "it is not the network that slimmed.json was written with": lambda at: save_graph(
        capture(make(3), (1, 3, 16, 16)), at / GRAPH
    ),
    "slimmed.json is damaged: the file": lambda at: (at / SLIMMED_RECORD).write_text("{"),
    "format: Input should be 1": lambda at: (at / SLIMMED_RECORD).write_text('{"format": 2}'),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_what_is_damaged_is_refused(message, folder):
    DAMAGES[message](folder)
    for use in (dw.open, lambda name: train(name, halves(), directory="never")):
        with pytest.raises(ValueError, match=message):
            use(f"slimmed:{folder}")
