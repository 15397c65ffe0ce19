"""Run folders, the order of stages, and devices."""

import pytest
import torch

from clustercl.data.source import Source
from clustercl.errors import DataError, RunError, UsageError
from clustercl.training.config import resolve
from clustercl.training.devices import DeviceRequest, Placement
from clustercl.training.graph import dependents, needed
from clustercl.training.launch import contrastive_batch, precision, start_fabric
from clustercl.training.run import RunFolder, require_equal

ALL = ["autoencoder", "clusters", "pretrain", "finetune", "evaluation"]


@pytest.mark.parametrize(
    "method, start, wanted",
    [
        ("pseudo-class", "random", ALL),
        ("pseudo-class-attract", "autoencoder", ALL),
        ("simclr", "random", ["pretrain", "finetune", "evaluation"]),
        ("simclr", "autoencoder", ["autoencoder", "pretrain", "finetune", "evaluation"]),
        ("autoencoder", "random", ["autoencoder", "finetune", "evaluation"]),
        ("scratch", "autoencoder", ["finetune", "evaluation"]),
    ],
)
def test_a_method_gets_the_stages_it_needs(method, start, wanted):
    assert needed(resolve("skin", "tiny", sets=[f"pretrain.start={start}"], method=method)) == wanted


def test_what_is_built_on_a_stage():
    config = resolve("skin", "tiny")
    assert dependents(config, "clusters") == ["evaluation", "finetune", "pretrain"]
    assert dependents(config, "evaluation") == []
    assert dependents(resolve("skin", "tiny", method="simclr"), "clusters") == []


def test_configuration_and_source_come_back(tmp_path):
    run = RunFolder(tmp_path / "run")
    config, source = resolve("heart", "tiny", seed=5), Source.of(tmp_path, [tmp_path / "more"], None, "A=1")
    run.write_config(config, source)
    assert run.read_config() == (config, source)
    run.require_same(config, source)
    with pytest.raises(UsageError, match=r"seed was 5, is 6.*source\.labels was 'A=1', is None.*choose another --out"):
        run.require_same(resolve("heart", "tiny", seed=6), Source.of(tmp_path, [tmp_path / "more"], None, None))


def test_data_that_were_moved_are_the_same_data(tmp_path):
    run, config = RunFolder(tmp_path / "run"), resolve("heart", "tiny")
    old, more, new = tmp_path / "old", tmp_path / "more", tmp_path / "new"
    more.mkdir()
    new.mkdir()
    source, now = (Source.of(folder, [more, folder / "u"], None, None) for folder in (old, new))
    run.write_config(config, source)
    run.require_same(config, now)
    assert run.moved(now) == f"{old} is now {new}, {old}/u is now {new}/u" and not run.moved(source)
    with pytest.raises(DataError, match=rf"{old}: is gone, where data of run lay: .* with --data"):
        source.require_there("run")
    old.mkdir()
    with pytest.raises(UsageError, match=rf"source.data was '{old}', is '{new}'"):
        run.require_same(config, now)  # two folders, and nobody moved anything
    run.move(now)
    assert run.read_config() == (config, now)
    with pytest.raises(UsageError, match=r"source.unlabelled was .*, is \[\]"):
        run.require_same(config, Source.of(new, [], None, None))


def test_folders_that_are_no_run_are_refused(tmp_path):
    run = RunFolder(tmp_path)
    run.require_new()
    with pytest.raises(RunError, match="is no run of clustercl"):
        run.read_config()
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="neither empty nor a run"):
        run.require_new()
    with pytest.raises(RunError, match="is a file"):
        RunFolder(tmp_path / "thesis.tex").require_new()
    run.config_path.write_text("{")
    with pytest.raises(DataError, match=r"config\.json: is damaged"):
        run.read_config()
    for wrong in ("{", "[]", "{}", '{"train": [], "labelled": [], "validation": [], "test": [], "more": 1}'):
        run.split_path.write_text(wrong)
        with pytest.raises(DataError, match=r"split\.json: is damaged"):
            run.read_split()


def test_discarding_leaves_nothing(tmp_path):
    run = RunFolder(tmp_path)
    assert not run.discard("pretrain")
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain/last.pt").write_text("x")
    run.report.write_text("of the network that was")
    assert run.discard("pretrain")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "options, option",
    [((None, ["more"], None, None), "--unlabelled"), ((None, [], None, "A=1"), "--labels"),
     (("data", [], "list.csv", None), "--data and --list")],
)  # fmt: skip
def test_sources_that_make_no_sense(options, option):
    with pytest.raises(UsageError, match=option):
        Source.of(*options)


@pytest.mark.parametrize(
    "request_, gpus, sentence",
    [
        (DeviceRequest(gpus=4), 0, "--gpus 4: no GPU is visible"),
        (DeviceRequest(gpus=4), 1, "--gpus 4: 1 GPU is visible"),
        (DeviceRequest(gpus=0), 1, "--gpus: wanted at least 1"),
        (DeviceRequest("cpu", gpus=1), 1, "exclude each other"),
        (DeviceRequest("cuda"), 0, "no GPU is visible"),
        (DeviceRequest("tpu"), 0, "wanted auto, cpu or cuda"),
        (DeviceRequest(processes=0), 0, "--processes"),
        (DeviceRequest(processes=2), 1, "pass --device cpu"),
        (DeviceRequest(nodes=0), 0, "--nodes: wanted a number from 1 on, got 0"),
        (DeviceRequest("cpu", nodes=2), 0, "--nodes 2: set MASTER_ADDR, MASTER_PORT and NODE_RANK"),
    ],
)
def test_devices_that_cannot_be_had(monkeypatch, request_, gpus, sentence):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(UsageError, match=sentence):
        request_.resolved()


def test_devices_that_can_be_had(monkeypatch):
    for gpus, expected in ((0, "cpu"), (2, "cuda")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        assert DeviceRequest().resolved() == Placement(expected)
        assert DeviceRequest("cpu").resolved() == Placement("cpu")
    assert DeviceRequest(gpus=2).resolved() == Placement("cuda", 2)
    assert DeviceRequest("cpu", processes=3).resolved() == Placement("cpu", 3)


TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}


@pytest.mark.parametrize(("variables", "launcher"), [(TORCHRUN, "torchrun"), (SRUN, "srun")], ids=["torchrun", "srun"])
def test_processes_that_others_started(monkeypatch, variables, launcher):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert DeviceRequest("cpu").resolved() == Placement("cpu", 2, 2, launcher)
    assert DeviceRequest(gpus=2, nodes=2).resolved() == Placement("cuda", 2, 2, launcher)
    for request, sentence in (
        (DeviceRequest(gpus=4), f"--gpus 4: {launcher} started 2 per machine; leave --gpus out"),
        (DeviceRequest("cpu", processes=1), f"--processes 1: {launcher} started 2 per machine"),
        (DeviceRequest(nodes=1), f"--nodes 1: {launcher} started processes on 2; leave --nodes out"),
    ):
        with pytest.raises(UsageError, match=sentence):
            request.resolved()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="--gpus 2: 1 GPU is visible on this machine"):
        DeviceRequest().resolved()


def test_a_batch_script_of_slurm_starts_its_own_processes(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")  # what sbatch was asked for; no srun has started them
    assert DeviceRequest("cpu", processes=2).resolved() == Placement("cpu", 2)


def test_a_batch_must_be_shared_evenly(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    with pytest.raises(UsageError, match="cannot be shared evenly by 5 processes"):
        start_fabric(DeviceRequest(gpus=5), resolve("skin", "tiny", sets=["autoencoder.batch_size=16"]))


@pytest.mark.parametrize(
    ("units", "batch"), [(500, 128), (128, 128), (127, 120), (57, 56), (9, 8), (7, 4), (3, 2), (2, 2), (1, 1)]
)
def test_few_units_give_the_same_batch_to_any_number_of_processes(units, batch):
    config = resolve("skin", "default")
    assert config.pretrain.batch_size == 128
    for world in (1, 2, 4, 8):
        if batch % world == 0:
            assert contrastive_batch(config, units, world) == batch


@pytest.mark.parametrize(
    ("units", "world", "sentence"),
    [
        (57, 3, "batches of 56, as there are only 57 units, cannot be shared evenly by 3 processes: start as many as "
         "divide 56, or a new run with --set pretrain.batch_size=57"),
        (3, 4, "batches of 2, as there are only 3 units, cannot be shared evenly by 4 processes: start as many as "
         "divide 2"),
    ],
)  # fmt: skip
def test_few_units_that_cannot_be_shared_evenly_are_refused(units, world, sentence):
    with pytest.raises(UsageError) as caught:
        contrastive_batch(resolve("skin", "default"), units, world)
    assert str(caught.value) == f"pretrain.batch_size: {sentence}"


def test_a_setting_that_only_one_side_knows_differs(tmp_path):
    require_equal(tmp_path, "run", {"a": {"b": 1}}, {"a": {"b": 1}})
    for before, now, text in (
        ({"a": 1}, {"a": 1, "c": 2}, "c was None, is 2"),
        ({"a": 1, "c": 2}, {"a": 1}, "c was 2"),
    ):
        with pytest.raises(UsageError, match=text):
            require_equal(tmp_path, "run", before, now)


@pytest.mark.parametrize("computes, wanted", [(True, "bf16"), (False, "32")])
def test_bfloat16_is_chosen_where_the_card_computes_it(monkeypatch, computes, wanted):
    # On others torch only emulates it.
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: computes or including_emulation
    )
    assert precision(resolve("skin", "tiny"), "cuda") == wanted
    assert precision(resolve("skin", "tiny"), "cpu") == "32"
