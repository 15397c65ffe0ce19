"""Comparisons: which runs there are, that shared stages run once and change nothing, resuming, parts, errors."""

import csv
import os
import shutil

import pytest

from clustercl.errors import DataError, UsageError
from clustercl.report.comparison import write_comparison
from clustercl.training import pipeline
from clustercl.training.compare import Cell, Grid, compare, parse_shard, parse_vary, part_of
from clustercl.training.config import resolve
from clustercl.training.devices import DeviceRequest
from clustercl.training.overrides import flatten
from clustercl.training.pipeline import train

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
    config = grid(seeds=(5, 3)).config(Cell("simclr", 0.4, "", 5))
    assert (config.seed, config.split_seed, config.label_fraction, config.method) == (5, 3, 0.4, "simclr")


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


@pytest.mark.parametrize(
    "options, message",
    [
        ({"methods": ("simclr", "moco")}, "--methods: there is no method 'moco', wanted some of pseudo-class"),
        ({"methods": ("simclr", "simclr")}, "--methods: wanted one or more different values"),
        ({"label_fractions": ()}, "--label-fractions: wanted one or more"),
        ({"seeds": (1, 1)}, "--seeds: wanted one or more different values, got 1,1"),
        ({"folds": 0}, "--folds: wanted a number from 1 on, got 0"),
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
        (grid(sets=("finetune.stps=3",)), "did you mean finetune.steps"),
    ):
        with pytest.raises(UsageError, match=message):
            compare(wrong, out, skin, devices=CPU)
    assert not out.exists()
    for text in ("0/2", "3/2", "2", "a/b"):
        with pytest.raises(UsageError, match="--shard: wanted I/N"):
            parse_shard(text)
    with pytest.raises(UsageError, match="--vary a=: wanted KEY=VALUE,VALUE"):
        parse_vary(["a="])


def per_case(folder):
    with open(folder / "evaluation" / "per_case.csv", newline="") as file:
        return list(csv.reader(file))


def test_a_whole_comparison_shares_stages_and_changes_nothing_by_it(grid, skin, tmp_path, capsys):
    out, chosen = tmp_path / "out", grid()
    written = []
    compare(chosen, out, skin, [skin / "unlabelled"], devices=CPU, test_data=skin,
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
    assert write_comparison(out, "simclr", "evaluation_test_data", "_test_data")
    with open(out / "results_test_data.csv", newline="") as file:
        assert len({row["case"] for row in csv.DictReader(file)}) == 8


def test_it_goes_on_and_grows(grid, skin, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    compare(grid(("scratch",), (1.0,)), out, skin, devices=CPU)
    asked, real = [], pipeline._run
    monkeypatch.setattr(pipeline, "_run", lambda stage, context: (asked.append(stage), real(stage, context)))
    compare(grid(("scratch", "autoencoder"), (1.0,)), out, skin, devices=CPU)
    assert asked == ["autoencoder", "finetune", "evaluation"]  # scratch is not trained again
    assert "scratch, label fraction 1, seed 0\nfinished before, skipped" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"holds a run with other settings .finetune.lr was"):
        compare(grid(("scratch",), (1.0,), sets=("finetune.lr=0.5",)), out, skin, devices=CPU)


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
    lock = out / "stages" / f".{stage.name}"
    lock.mkdir()
    from clustercl.training import lock as locks
    from clustercl.training import store

    text = f'{{"host": "{locks.socket.gethostname()}", "pid": {os.getppid()}, "born": "{locks._born(os.getppid())}"}}'
    (lock / ".lock").write_text(text)
    naps = []

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            aside.rename(stage)

    monkeypatch.setattr(store.time, "sleep", nap)
    compare(chosen, out, skin, devices=CPU)
    told = capsys.readouterr().err
    assert len(naps) == 2 and told.count("waiting for another run that is at the same stage") == 1
    shutil.rmtree(lock)


def test_demo_data_are_written_once(grid, tmp_path):
    out = tmp_path / "out"
    compare(grid(("oracle-class",), (0.2, 1.0)), out, devices=CPU)
    assert (out / "demo_data" / "kinds.csv").is_file()
    assert len(list(out.glob("runs/oracle-class/*/cell.json"))) == 2
    assert not list(out.glob("runs/*/*/demo_data"))


def test_the_split_is_the_same_for_all_seeds_and_the_labelled_cases_are_not(skin, tmp_path, tiny):
    runs = []
    for seed in (0, 1, 2):
        from clustercl.training.context import new_context
        from clustercl.training.run import RunFolder, Source

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
