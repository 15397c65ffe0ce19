"""Comparisons: which runs there are, that shared stages run once and change nothing, resuming, parts, errors."""

import csv
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from clustercl.data.source import Source
from clustercl.errors import DataError, RunError, UsageError
from clustercl.files import read_json
from clustercl.methods import METHODS
from clustercl.methods.base import Method
from clustercl.report import comparison as reports
from clustercl.report.comparison import write_comparison
from clustercl.training import lock, pipeline
from clustercl.training.compare import compare
from clustercl.training.config import resolve
from clustercl.training.devices import DeviceRequest
from clustercl.training.grid import Cell, Grid, parse_shard, parse_vary, part_of
from clustercl.training.overrides import flatten
from clustercl.training.pipeline import train
from clustercl.training.store import fingerprint

CPU = DeviceRequest("cpu", workers=0)


@pytest.fixture
def grid(tiny):
    """grid(methods=..., ...): of the small configuration."""
    flat = flatten(tiny().to_dict())
    sets = [f"{key}={value}" for key, value in flat.items() if "." in key and not isinstance(value, str)]

    def build(methods=("scratch", "simclr", "pseudo-class"), label_fractions=(0.4, 1.0), **options):
        return Grid("skin", "tiny", methods, label_fractions, sets=(*sets, *options.pop("sets", ())), **options)

    return build


def test_cells_of_a_grid(grid):
    cells = grid(seeds=(3, 5), folds=2).cells()
    assert len(cells) == len({cell.folder for cell in cells}) == 3 * 2 * 2 * 2
    assert cells[0] == Cell("scratch", 0.4, "1/2", 3)
    assert cells[0].folder == "scratch/labels0.4-fold1of2-seed3"
    for seeds in ((5, 3), (5,)):  # whichever others there are: who validates and tests stays the same
        config = grid(seeds=seeds).config(Cell("simclr", 0.4, "", 5))
        assert (config.seed, config.split_seed, config.label_fraction, config.method) == (5, 0, 0.4, "simclr")
    assert grid(sets=("split_seed=7",)).config(Cell("simclr", 0.4, "", 5)).split_seed == 7


def test_a_setting_is_varied_for_the_methods_that_use_it(grid):
    vary = parse_vary(["cluster.n_clusters=2,3", "pretrain.temperature=0.5"])
    cells = grid(label_fractions=(1.0,), vary=vary).cells()
    assert [cell.name for cell in cells] == [
        "scratch",
        "simclr[pretrain.temperature=0.5]",
        "pseudo-class[cluster.n_clusters=2]",
        "pseudo-class[cluster.n_clusters=3]",
        "pseudo-class[pretrain.temperature=0.5]",
    ]
    config = grid(vary=vary).config(cells[3])
    assert config.cluster.n_clusters == 3
    methods = ("simclr", "byol", "mae", "pseudo-class-tree", "g-simclr")
    for key, value, users in (
        ("pretrain.tree_cuts", "[1,2,4,8],[0.5,1,2,4]", {"pseudo-class-tree"}),
        ("pretrain.mask_share", "0.5", {"mae"}),
        ("pretrain.momentum", "0.9", {"byol"}),
        ("pretrain.temperature", "0.5", {"simclr", "pseudo-class-tree", "g-simclr"}),
        ("pretrain.recluster_epochs", "2", {"pseudo-class-tree"}),
        ("pretrain.lr", "0.1", {*methods}),
        ("cluster.n_clusters", "5", {"pseudo-class-tree"}),  # g-simclr has groups of its own
        ("cluster.linkage", "average", {"pseudo-class-tree"}),
        ("cluster.whiten", "0.1", {"pseudo-class-tree", "g-simclr"}),
        ("model.code_dim", "8", {"pseudo-class-tree", "g-simclr"}),
        ("model.projection_dim", "8", {*methods} - {"mae"}),
    ):
        cells = grid(methods, (1.0,), vary=parse_vary([f"{key}={value}"])).cells()
        assert {cell.method for cell in cells if cell.variant} == users, key
    assert parse_vary(["pretrain.tree_cuts=[1,2], [3,4]"]) == (("pretrain.tree_cuts", ("[1,2]", "[3,4]")),)


def test_methods_keep_settings_of_their_own(grid, tmp_path, skin, capsys):
    toml, out = tmp_path / "c.toml", tmp_path / "out"
    toml.write_text("[pretrain]\nlr = 1e-3\n[methods.mae.pretrain]\nlr = 4e-3\n")
    found = Grid("skin", "tiny", ("mae", "simclr"), toml_path=toml)
    assert [found.config(cell).pretrain.lr for cell in found.cells()[::2]] == [4e-3, 1e-3]
    # What is kept of a folder is the same whichever methods come first, and another value for any of them is told.
    assert found.shared() == Grid("skin", "tiny", ("simclr",), toml_path=toml).shared()
    one = grid(("scratch",), (1.0,), toml_path=toml)
    compare(one, out, skin, devices=CPU)
    compare(one, out, skin, devices=CPU)
    assert "finished before, skipped" in capsys.readouterr().err
    toml.write_text("[pretrain]\nlr = 1e-3\n[methods.mae.pretrain]\nlr = 2e-3\n")
    with pytest.raises(UsageError, match=r"config.methods.mae.pretrain.lr was 0.004, is 0.002"):
        compare(one, out, skin, devices=CPU)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"methods": ("simclr", "moco")}, "--methods: there is no method 'moco', wanted some of pseudo-class"),
        ({"methods": ("simclr", "simclr")}, "--methods: wanted one or more different values"),
        ({"label_fractions": ()}, "--label-fractions: wanted one or more"),
        ({"seeds": (1, 1)}, "--seeds: wanted one or more different values, got 1,1"),
        ({"seeds": (-1, 0)}, "--seeds: wanted whole numbers from 0 on, got -1"),
        ({"folds": 0}, "--folds: wanted a number from 1 on, got 0"),
        ({"vary": (("temperature", ("1",)),)}, "there is no setting temperature: did you mean pretrain.temperature"),
        ({"vary": (("seed", ("1", "2")),)}, "--vary seed=1,2: seed has an option of its own, --seeds"),
        ({"vary": (("split_seed", ("1", "2")),)}, "--vary split_seed=1,2: others would test"),
        ({"sets": ("label_fraction=0.5",)}, "--set label_fraction=0.5: has an option of its own, --label-fractions"),
        (
            {"methods": ("simclr",), "vary": (("cluster.n_clusters", ("5",)),)},
            "--vary cluster.n_clusters=5: none of the methods simclr uses this setting",
        ),
    ],
)
def test_a_grid_that_cannot_be(grid, options, message):
    with pytest.raises(UsageError, match=message):
        grid(**options)


def test_errors_of_any_cell_come_before_the_first_run(grid, skin, tmp_path):
    out = tmp_path / "out"
    for wrong, message in (
        (grid(label_fractions=(0.5, 2.0)), "--label-fraction: wanted a share above 0 and up to 1, got 2"),
        (grid(methods=("scratch", "oracle-class")), "name a table of them with --groups"),
        (grid(vary=parse_vary(["cluster.n_clusters=4,none"])), "cluster.n_clusters"),
        (grid(vary=parse_vary(["cluster.n_clusters=4,1"])), "cluster.n_clusters: wanted 2 or more, or auto, for"),
        (grid(sets=("finetune.stps=3",)), "did you mean finetune.steps"),
        (
            grid(vary=parse_vary(["pretrain.view_scale=1,0.01"])),
            "pretrain.view_scale: wanted . or more pixels per axis",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            compare(wrong, out, skin, devices=CPU)
    assert not out.exists()
    for text in ("0/2", "3/2", "2", "a/b"):
        with pytest.raises(UsageError, match="--shard: wanted I/N"):
            parse_shard(text)
    for text in ("a=", "a", "=1", "a=1,,2"):
        with pytest.raises(UsageError, match=f"--vary {text}: wanted KEY=VALUE,VALUE"):
            parse_vary([text])


def test_what_a_later_cell_would_miss_is_told_before_the_first_run(grid, skin, make_skin, tmp_path):
    out, table = tmp_path / "out", tmp_path / "kinds.csv"
    table.write_text("id,group\nsomebody,1\n")
    spoilt = make_skin(tmp_path / "spoilt", labelled=3, first=70)
    mask = sorted(spoilt.rglob("*_segmentation.png"))[0]
    mask.write_bytes(mask.read_bytes()[:40])
    nowhere, plain = tmp_path / "nowhere", make_skin(tmp_path / "plain", labelled=0, first=50) / "unlabelled"
    both = grid(("scratch", "oracle-class"))
    for wrong, given, error, message in (
        (grid(), {"test_data": nowhere}, DataError, "nowhere: no such folder"),
        (grid(), {"test_data": plain}, DataError, "plain/unlabelled: holds no case with a label"),
        (both, {"groups": nowhere}, DataError, "nowhere: wanted a CSV file"),
        (both, {"groups": table}, DataError, r"names none of the \d+ images that are trained on"),
        (grid(), {"groups": table}, DataError, "kinds.csv: names none of the"),  # which the folder would remember
        (grid(), {"test_data": spoilt}, DataError, f"--test-data: .*{mask.name}"),
        (grid(label_fractions=(1.0, 0.01)), {}, UsageError, "--label-fraction 0.01: of . labelled training cases"),
    ):
        with pytest.raises(error, match=message):
            compare(wrong, out, skin, devices=CPU, **given)
    with pytest.raises(UsageError, match="--groups needs --data or --list"):
        compare(both, out, groups=table, devices=CPU)
    with pytest.raises(UsageError, match="--unlabelled needs --data or --list"):
        compare(grid(), out, unlabelled=[plain], devices=CPU)
    assert not out.exists()


def test_a_stage_computed_in_another_precision_is_another(tiny):
    """A folder begun on a CPU, where `auto` is float32, goes on beside a GPU, where it is bfloat16."""

    def named(precision):
        strategy = SimpleNamespace(precision=SimpleNamespace(precision=precision))
        split = SimpleNamespace(train=["a"], unlabelled=[], validation=["b"])
        source = Source.of(None, [], None, None)
        context = SimpleNamespace(config=tiny(), source=source, split=split, fabric=SimpleNamespace(strategy=strategy),
                                  training_ids=["a"], prepared=lambda ids: [])  # fmt: skip
        return fingerprint("pretrain", context)

    assert named("32-true") == named("32-true") != named("bf16-mixed")


def test_groups_of_test_cases_alone_are_told_before_the_first_run(grid, skin, tmp_path):
    out = tmp_path / "out"
    compare(grid(("scratch",), (1.0,)), out, skin, devices=CPU)
    (split,) = (read_json(path) for path in out.glob("runs/*/*/split.json"))
    table = tmp_path / "kinds.csv"
    table.write_text("id,group\n" + "".join(f"{case},1\n" for case in split["test"] + split["validation"]))
    with pytest.raises(DataError, match=r"kinds\.csv: names none of the"):
        compare(grid(("oracle-class",), (1.0,)), out, skin, groups=table, devices=CPU)
    assert not (out / "runs" / "oracle-class").exists()


def test_places_that_cannot_hold_a_comparison(grid, skin, tmp_path):
    (tmp_path / "file").write_text("mine")
    train(grid().config(grid().cells()[0]), tmp_path / "run", skin, devices=CPU, quiet=True)
    held = sorted(path.name for path in (tmp_path / "run").iterdir())
    for out, message in (("file", "file: is a file, wanted a folder"), ("run", "run: is a run of clustercl train")):
        with pytest.raises(RunError, match=message):
            compare(grid(), tmp_path / out, skin, devices=CPU)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == held


def test_several_processes_of_one_command_are_refused(grid, skin, tmp_path, monkeypatch):
    """They would wait for each other for ever: one in a collective, the others for the stage that it trains."""
    for name, value in (("TORCHELASTIC_RUN_ID", "none"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"compare: each .* by one process, got 2 by torchrun: .*--shard 1/N") as told:
        compare(grid(), tmp_path / "out", skin, devices=CPU)
    assert told.value.joint and not (tmp_path / "out").exists()


def test_nothing_is_tested_on_what_it_learnt_from(grid, skin, make_skin, tmp_path):
    copies = make_skin(tmp_path / "copies", labelled=3)  # other files, the same photographs
    for other in (skin, copies):
        with pytest.raises(DataError, match="of its images are among those of --data, --list or --unlabelled, such as"):
            compare(grid(), tmp_path / "out", skin, test_data=other, devices=CPU)
    pool = make_skin(tmp_path / "pool", labelled=3, first=50)
    (tmp_path / "unlabelled").mkdir()
    for image in (pool / "ISIC-2017_Training_Data").iterdir():
        shutil.copy(image, tmp_path / "unlabelled" / f"other_{image.name}")
    with pytest.raises(DataError, match="3 of its images"):
        compare(grid(), tmp_path / "out", skin, [tmp_path / "unlabelled"], test_data=pool, devices=CPU)
    assert not (tmp_path / "out").exists()


def per_case(folder):
    with open(folder / "evaluation" / "per_case.csv", newline="") as file:
        return list(csv.reader(file))


def test_a_whole_comparison_shares_stages_and_changes_nothing_by_it(grid, skin, make_skin, tmp_path, capsys):
    out, chosen, other = tmp_path / "out", grid(), make_skin(tmp_path / "other", first=50)
    written = []
    compare(chosen, out, skin, [skin / "unlabelled"], devices=CPU, test_data=other,
            after=lambda: written.append(write_comparison(out, "simclr")))  # fmt: skip
    assert len(written) == 6 and written[0] is None and "pseudo-class" in written[-1]
    # Once each: the auto-encoder, its clusters, two pre-trainings.
    assert sorted(path.name.split("-")[0] for path in (out / "stages").iterdir()) == [
        "autoencoder", "clusters", "pretrain", "pretrain",
    ]  # fmt: skip
    assert capsys.readouterr().err.count("taken over from a run with the same settings") == 4
    with open(out / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    test = {row["case"] for row in rows}
    assert len(rows) == 6 * len(test) and 1 <= len(test) < 8
    for cell in chosen.cells():
        alone = tmp_path / "alone" / cell.folder
        train(chosen.config(cell), alone, skin, [skin / "unlabelled"], devices=CPU, quiet=True)
        assert per_case(out / "runs" / cell.folder) == per_case(alone), cell
    # And on all labelled images of another folder.
    assert write_comparison(out, "simclr", "evaluation_test_data", "_test_data", data=other)
    with open(out / "results_test_data.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["case"] for row in rows}) == 8 and len(rows) == 6 * 8
    # Of a third folder every network is measured anew, and rows of the second are not shown as the third's.
    third = make_skin(tmp_path / "third", labelled=2, first=80)
    assert write_comparison(out, "simclr", "evaluation_test_data", "_test_data", data=third) is None
    capsys.readouterr()
    compare(chosen, out, skin, [skin / "unlabelled"], devices=CPU, test_data=third)
    assert "finetune: 8 steps" not in capsys.readouterr().err
    assert write_comparison(out, "simclr", "evaluation_test_data", "_test_data", data=third)
    with open(out / "results_test_data.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 6 * 2


def test_methods_differ_by_their_idea_alone(grid, skin, tmp_path, monkeypatch):
    """The same encoder at the start, the same views of the same units at every step, as many steps."""
    seen, real = {}, Method.forward

    def noted(method, views, labels, seeds):
        if method.training:
            weights = [value.detach().clone() for value in method.encoder.parameters()]
            seen.setdefault(type(method), []).append((weights, views.clone(), seeds.clone()))
        return real(method, views, labels, seeds)

    monkeypatch.setattr(Method, "forward", noted)
    methods = tuple(name for name, kind in METHODS.items() if kind.pretrains)
    table = tmp_path / "kinds.csv"
    table.write_text("id,group\n" + "".join(f"ISIC_{number:07d},{number % 2}\n" for number in range(8)))
    chosen = grid(methods, (1.0,))
    compare(chosen, tmp_path / "out", skin, [skin / "unlabelled"], groups=table, devices=CPU)
    first = seen[METHODS["simclr"]]
    assert len(first) == chosen.config(chosen.cells()[0]).pretrain.steps and len(methods) >= 9
    assert not torch.equal(first[0][1], first[1][1])
    for name in methods:
        other = seen[METHODS[name]]
        assert len(other) == len(first), name
        assert all(torch.equal(a, b) for a, b in zip(other[0][0], first[0][0], strict=True)), name
        if not METHODS[name].one_of_a_class:  # whose idea is another order
            for (_, views, seeds), (_, wanted, of_units) in zip(other, first, strict=True):
                assert torch.equal(views, wanted) and torch.equal(seeds, of_units), name


def test_a_network_that_was_trained_on_by_hand_is_measured_again(grid, skin, tmp_path, capsys):
    out, chosen = tmp_path / "out", grid(("scratch",), (1.0,))
    compare(chosen, out, skin, devices=CPU)
    (run,) = (path.parent for path in out.glob("runs/*/*/cell.json"))
    pipeline.run_stage("finetune", run, devices=CPU, quiet=True)
    assert not (run / "cell.json").exists()
    compare(chosen, out, skin, devices=CPU)
    assert (run / "cell.json").exists() and "finetune: finished before, skipped" in capsys.readouterr().err


def test_it_goes_on_and_grows(grid, skin, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    compare(grid(("scratch",), (1.0,)), out, skin, devices=CPU)
    asked, real = [], pipeline._run
    monkeypatch.setattr(pipeline, "_run", lambda stage, context: (asked.append(stage), real(stage, context)))
    compare(grid(("scratch", "autoencoder"), (1.0,)), out, skin, devices=CPU)
    assert asked == ["autoencoder", "finetune", "evaluation"]  # scratch is not trained again
    assert "scratch, label fraction 1, seed 0\nfinished before, skipped" in capsys.readouterr().err
    # Others in the same table would be compared as if only the method differed.
    with pytest.raises(UsageError, match=r"out: holds a comparison with other settings .config.finetune.lr was"):
        compare(grid(("simclr",), (1.0,), sets=("finetune.lr=0.5",)), out, skin, devices=CPU)
    with pytest.raises(UsageError, match=r"config.folds was 1, is 5"):
        compare(grid(("scratch",), (1.0,), folds=5), out, skin, devices=CPU)
    with pytest.raises(UsageError, match=r"source.unlabelled was \[\], is \["):
        compare(grid(("scratch",), (1.0,)), out, skin, [skin / "unlabelled"], devices=CPU)
    # Other seeds, and a method that needs more to be known, do join it.
    table = tmp_path / "kinds.csv"
    table.write_text("id,group\n" + "".join(f"ISIC_{number:07d},{number % 2}\n" for number in range(8)))
    compare(grid(("scratch", "oracle-class"), (1.0,), seeds=(1,)), out, skin, groups=table, devices=CPU)
    compare(grid(("scratch",), (1.0,), seeds=(0, 1)), out, skin, devices=CPU)
    assert capsys.readouterr().err.count("finished before, skipped") == 2
    tests = {tuple(read_json(path)["test"]) for path in out.glob("runs/*/*/split.json")}
    assert len(tests) == 1 and len(list(out.glob("runs/*/*/cell.json"))) == 4
    other = tmp_path / "others.csv"
    other.write_text(table.read_text())
    with pytest.raises(UsageError, match=r"source.groups was '.*kinds.csv', is '.*others.csv'"):
        compare(grid(("oracle-class",), (1.0,)), out, skin, groups=other, devices=CPU)


def test_a_comparison_goes_on_where_its_data_were_moved_to(grid, make_skin, tmp_path, capsys):
    old, new, out = make_skin(tmp_path / "old"), tmp_path / "new", tmp_path / "out"
    compare(grid(("scratch",), (1.0,)), out, old, devices=CPU)
    old.rename(new)
    compare(grid(("scratch",), (1.0,), seeds=(0, 1)), out, new, devices=CPU)
    assert capsys.readouterr().err.count("finished before, skipped") == 1
    assert read_json(out / "comparison.json")["source"]["data"] == str(new)
    assert {read_json(path)["source"]["data"] for path in out.glob("runs/*/*/config.json")} == {str(new)}


def test_shared_stages_of_data_that_were_moved_are_not_trained_again(grid, make_skin, tmp_path, capsys):
    """And those of other photographs of the same names are."""
    old, new, other, out = make_skin(tmp_path / "old"), tmp_path / "new", tmp_path / "other", tmp_path / "out"
    table = "id,group\n" + "".join(f"ISIC_{number:07d},{number % 2}\n" for number in range(8))

    def taken_over(data, share):
        (data / "kinds.csv").write_text(table)
        chosen = grid(("pseudo-class", "oracle-class"), (share,))
        compare(chosen, out, data, [data / "unlabelled"], groups=data / "kinds.csv", devices=CPU)
        return capsys.readouterr().err.count("taken over from a run with the same settings")

    assert taken_over(old, 0.4) == 0
    old.rename(new)
    assert taken_over(new, 0.6) == 4
    table = table.replace("0,0", "0,1")  # the groups are what the pre-training of one of them learns from
    assert taken_over(new, 0.8) == 3
    shutil.rmtree(new)
    assert taken_over(make_skin(other, first=50), 1.0) == 0


def test_a_comparison_is_not_made_up_of_two_data_sets(grid, make_skin, tmp_path):
    """Runs that were finished before are not trained, which would find that their cases are gone."""
    old, new, out = make_skin(tmp_path / "old"), tmp_path / "new", tmp_path / "out"
    other = make_skin(tmp_path / "other", labelled=6)
    compare(grid(("scratch",), (1.0,)), out, old, devices=CPU)
    old.rename(new)
    with pytest.raises(DataError, match=r"names the case ISIC_\d+, which the data do not hold at their new place"):
        compare(grid(("scratch", "mae"), (1.0,)), out, other, devices=CPU)
    assert not (out / "runs/mae").exists()
    compare(grid(("scratch",), (1.0,)), out, new, devices=CPU)  # the wrong place was not remembered
    assert read_json(out / "comparison.json")["source"]["data"] == str(new)


def test_folds_test_every_case_once(grid, skin, tmp_path):
    out = tmp_path / "out"
    compare(grid(("scratch", "simclr"), (1.0,), folds=2), out, skin, devices=CPU)
    assert write_comparison(out, "simclr")
    with open(out / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for method in ("scratch", "simclr"):
        cases = [row["case"] for row in rows if row["method"] == method]
        assert sorted(cases) == sorted(set(cases)) and len(cases) == 8


KILLED = """
import sys
from pathlib import Path
from clustercl.training.compare import compare
from clustercl.training.devices import DeviceRequest
from clustercl.training.grid import Grid

data, out, shard, *sets = sys.argv[1:]
grid = Grid("skin", "tiny", ("simclr", "pseudo-class"), (1.0,), sets=tuple(sets))
compare(grid, Path(out), Path(data), shard=shard, devices=DeviceRequest("cpu", workers=0))
"""


@pytest.mark.slow
def test_two_parts_at_once_and_one_killed_give_the_numbers_of_one(grid, skin, tmp_path):
    chosen = grid(("simclr", "pseudo-class"), (1.0,), sets=("pretrain.steps=40",))
    compare(chosen, tmp_path / "one", skin, devices=CPU)
    out = tmp_path / "two"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def part(shard):
        return subprocess.Popen([sys.executable, "-c", KILLED, str(skin), str(out), shard, *chosen.sets],
                                env=environment, stderr=subprocess.PIPE, text=True)  # fmt: skip

    first, second = part("1/2"), part("2/2")
    pretrained = out / "runs" / chosen.cells()[1].folder / "pretrain"
    until = time.monotonic() + 300  # imports alone take half a minute beside a full load
    while not (pretrained / "metrics.jsonl").is_file() and second.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    second.kill()
    second.wait()
    assert first.wait() == 0, first.stderr.read()
    assert not (pretrained.parent / "cell.json").exists()
    again = part("2/2")
    assert again.wait() == 0, again.stderr.read()
    for cell in chosen.cells():
        assert per_case(out / "runs" / cell.folder) == per_case(tmp_path / "one" / "runs" / cell.folder)


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5, 8, 13])
def test_every_cell_is_in_one_part_and_shared_stages_are_not_separated(grid, parts):
    cells = grid(("scratch", "simclr"), (0.4, 0.7, 1.0), seeds=(0, 1)).cells()
    own = [part_of(cells, f"{number}/{parts}") for number in range(1, parts + 1)]
    assert sorted(str(cell) for part in own for cell in part) == sorted(map(str, cells))
    sizes = [len(part) for part in own]
    if parts <= 4:  # four pairs of method and seed
        assert all(len({(cell.method, cell.seed) for cell in part}) * 3 == len(part) for part in own)
        assert max(sizes) - min(sizes) <= 3
    else:
        assert max(sizes) - min(sizes) <= 1


def test_parts_meet_in_one_folder(grid, skin, tmp_path):
    out, chosen = tmp_path / "out", grid(("simclr", "pseudo-class"), (1.0,))
    for shard in ("1/2", "2/2"):
        compare(chosen, out, skin, shard=shard, devices=CPU)
        assert (write_comparison(out, "pseudo-class") is None) == (shard == "1/2")
    assert len(list(out.glob("runs/*/*/cell.json"))) == 2


def test_a_stage_that_another_process_trains_is_waited_for(grid, skin, tmp_path, monkeypatch, capsys):
    out, chosen = tmp_path / "out", grid(("autoencoder",), (0.4, 1.0))
    compare(grid(("autoencoder",), (0.4,)), out, skin, devices=CPU)
    (stage,) = (out / "stages").iterdir()
    # As if it were at work still: the stage is not there, a living process holds its lock.
    aside = stage.rename(tmp_path / "aside")
    held = out / "stages" / f".{stage.name}.lock"
    from clustercl.training import store

    text = f'{{"host": "{lock.socket.gethostname()}", "pid": {os.getppid()}, "born": "{lock._born(os.getppid())}"}}'
    held.write_text(text)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            aside.rename(stage)

    monkeypatch.setattr(store.time, "sleep", nap)
    compare(chosen, out, skin, devices=CPU)
    told = capsys.readouterr().err
    assert len(naps) == 2 and told.count("waiting for another run that is at the same stage") == 1


def test_who_waits_for_a_stage_may_look_while_its_lock_is_given_back(grid, skin, tmp_path, monkeypatch):
    """The other process has finished the stage; this one is between its look at the stage and its look at the lock."""
    out, chosen = tmp_path / "out", grid(("autoencoder",), (0.4,))
    real = lock.RunLock.release

    def release(self):
        real(self)
        if "stages" in self.path.parts:
            waiting = lock.RunLock(self.path)
            waiting.take()
            kept.append(waiting)

    kept = []
    monkeypatch.setattr(lock.RunLock, "release", release)
    compare(chosen, out, skin, devices=CPU)
    assert [waiting.path.is_file() for waiting in kept] == [True], "who has it must keep it"
    for waiting in kept:
        real(waiting)
    assert [path.name for path in (out / "stages").iterdir() if path.name.startswith(".")] == []


def test_demo_data_are_written_once(grid, tmp_path):
    out = tmp_path / "out"
    compare(grid(("oracle-class",), (0.2, 1.0)), out, devices=CPU)
    assert (out / "demo_data" / "kinds.csv").is_file()
    assert len(list(out.glob("runs/oracle-class/*/cell.json"))) == 2
    assert not list(out.glob("runs/*/*/demo_data"))


def test_another_part_may_be_faster_with_the_demo_data(grid, tmp_path, monkeypatch):
    from clustercl.data import demo

    out, real = tmp_path / "out", demo.write_demo

    def slower(folder, *rest):
        real(folder, *rest)  # the other part's
        return real(folder, *rest)

    monkeypatch.setattr(demo, "write_demo", slower)
    compare(grid(("scratch",), (1.0,)), out, devices=CPU)
    assert (out / "demo_data" / "kinds.csv").is_file() and list(out.glob("runs/scratch/*/cell.json"))


def test_the_table_has_cells_that_end_while_it_is_written(grid, skin, tmp_path, monkeypatch):
    out, chosen = tmp_path / "out", grid(("scratch", "simclr"), (1.0,))
    compare(chosen, out, skin, devices=CPU)
    cell, aside = next(out.glob("runs/simclr/*/cell.json")), tmp_path / "cell.json"
    cell.rename(aside)
    real = reports.markdown

    def while_another_part_ends(*words):
        if aside.is_file():
            aside.rename(cell)
        return real(*words)

    monkeypatch.setattr(reports, "markdown", while_another_part_ends)
    assert "| simclr |" in write_comparison(out, "scratch")
    assert "simclr," in (out / "results.csv").read_text()


def test_the_split_is_the_same_for_all_seeds_and_the_labelled_cases_are_not(skin, tmp_path, tiny):
    runs = []
    for seed in (0, 1, 2):
        from clustercl.data.source import Source
        from clustercl.training.context import new_context
        from clustercl.training.run import RunFolder

        config = tiny(seed=seed, split_seed=0, label_fraction=0.5)
        context = new_context(RunFolder(tmp_path / str(seed)), config, Source.of(skin, [], None, None), CPU, True)
        context.open()
        context.lock.release()
        runs.append(context.split)
    assert len({tuple(split.test) for split in runs}) == len({tuple(split.validation) for split in runs}) == 1
    assert len({tuple(split.labelled) for split in runs}) > 1
    assert resolve("skin").split_seed == -1


def test_bad_data_end_it_with_their_sentence(grid, tmp_path):
    with pytest.raises(DataError):
        compare(grid(("scratch",), (1.0,)), tmp_path / "out", tmp_path / "nothing", devices=CPU)
