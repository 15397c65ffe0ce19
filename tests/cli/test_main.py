"""What every command shares: help, exit codes, one sentence instead of a traceback."""

import json
import os
import re
import subprocess
import sys
import threading
from importlib import metadata

import pytest
import torch
from click.testing import CliRunner

from clustercl.cli.main import COMMANDS, cli, main, run
from clustercl.training.devices import DeviceRequest, Placement
from clustercl.training.pipeline import COMMANDS as STAGES
from clustercl.training.pipeline import OWN_KEYS

# As the pinned Click says it; that of older ones, which are allowed too, differs from one to the next.
PINNED = tuple(map(int, metadata.version("click").split(".")[:2])) >= (8, 5)
NEAREST_OPTION = " '--prset'. (Did you mean one of: '--preset'," if PINNED else ""
NEAREST_COMMAND = " Did you mean 'check'?" if PINNED else ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    text = result.output
    assert re.search(rf"Examples?:\n  +clustercl {name}", text)
    if "COMMAND [ARGS]" in text:  # a group
        group = cli.get_command(None, name)
        for sub in group.commands:
            text = CliRunner().invoke(cli, [name, sub, "--help"]).output
            assert f"clustercl {name} {sub}" in text


@pytest.mark.parametrize(("stage", "name"), STAGES.items())
def test_help_of_a_stage_says_what_it_does(stage, name):
    """It named a setting that the command refuses, and clustering, which begins anew, was said to go on."""
    text = " ".join(CliRunner().invoke(cli, [name, "--help"]).output.split())
    examples = re.findall(r"--set (\w+)\.", text)
    assert len(examples) == 2 and {*examples} <= {*OWN_KEYS[stage]}
    assert ("One that was interrupted goes on" in text) == (stage != "clusters")


def exit_code(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    return stop.value.code, capsys.readouterr()


def test_unknown_command_names_the_nearest(capsys):
    code, printed = exit_code(["trian"], capsys)
    assert code == 2
    assert "did you mean 'train'?" in printed.err
    assert printed.out == ""


def test_unknown_option_is_usage(capsys):
    code, printed = exit_code(["info", "--nonsense"], capsys)
    assert code == 2
    assert "--nonsense" in printed.err


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["train"], "Missing option '--task'. Choose from: skin, heart; clustercl train --help tells more"),
        (["train", "--task", "skin"], "Missing option '--out'; clustercl train --help tells more"),
        (["info", "more"], "Got unexpected extra argument (more); clustercl info --help tells more"),
        (["train", "--prset", "tiny"], f"No such option{NEAREST_OPTION}"),
        (["data", "chek"], f"No such command 'chek'.{NEAREST_COMMAND}"),
        (["bench", "loss", "--sizes", "a"], "--sizes: wanted numbers from 2 on with commas between them, got 'a'"),
        (["trian"], "there is no command 'trian'; did you mean 'train'?"),
    ],
)
def test_wrong_usage_is_one_sentence_like_every_other_error(argv, sentence, capsys):
    code, printed = exit_code(argv, capsys)
    assert code == 2 and printed.out == ""
    assert printed.err.startswith("clustercl: ") and printed.err.count("\n") == 1
    assert sentence in printed.err


def test_a_group_without_a_command_shows_its_help(capsys):
    for argv in ([], ["data"], ["bench"]):
        code, printed = exit_code(argv, capsys)
        assert code == 2 and printed.err.startswith("Usage: clustercl ") and "\nCommands:\n" in printed.err


@pytest.mark.parametrize("stream, number", [("stderr", 2), ("stdout", 1)])
def test_a_closed_stream_is_silent_and_changes_nothing(stream, number, tmp_path):
    """As 2>&- gives it: sys.stderr is None, and the next file that is opened gets its number."""
    train = [sys.executable, "-m", "clustercl", "train", "--task", "skin", "--preset", "tiny", "--device", "cpu"]
    few = ["--method", "scratch", "--set", "finetune.steps=1"]
    shell = ["bash", "-c", f'"$@" {number}>&-', "bash"]
    done = subprocess.run([*shell, *train, *few, "--out", tmp_path / "run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    assert getattr(done, stream) == "" and (tmp_path / "run/evaluation/metrics.json").is_file()
    info = [sys.executable, "-m", "clustercl", "info", "--json"]
    done = subprocess.run([*shell, *info], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and (done.stdout == "") == (number == 1)


def test_errors_are_one_sentence_without_traceback(monkeypatch, capsys):
    from clustercl.cli import info
    from clustercl.errors import DataError, UsageError

    for error, code, text in [
        (DataError("a.png is broken"), 1, "clustercl: a.png is broken\n"),
        (UsageError("--gpus 4, but 0 are visible"), 2, "clustercl: --gpus 4, but 0 are visible\n"),
        (ZeroDivisionError("by\nzero"), 1, "clustercl: ZeroDivisionError: by zero (--debug shows where)\n"),
        (KeyboardInterrupt(), 130, "clustercl: stopped\n"),
    ]:

        def fail(error=error):
            raise error

        monkeypatch.setattr(info, "collect", fail)
        got, printed = exit_code(["info"], capsys)
        assert got == code
        assert text in printed.err
        assert "Traceback" not in printed.err


TORCHRUN, SRUN = {"TORCHELASTIC_RUN_ID": "none"}, {"SLURM_STEP_NUM_TASKS": "2"}


@pytest.mark.parametrize(
    "several", [TORCHRUN | {"RANK": "{}"}, SRUN | {"SLURM_PROCID": "{}"}], ids=["torchrun", "srun"]
)
def test_of_several_processes_the_first_tells_what_is_wrong_with_the_command_line(
    several, monkeypatch, capsys, tmp_path
):
    """The others end alike, silent; of what they alone may have found they tell, and who they are."""
    (tmp_path / "own.toml").write_text("size = = 3")
    train = ["train", "--task", "skin", "--device", "cpu", "--out", str(tmp_path / "run")]
    uneven = ["--preset", "tiny", "--set", "finetune.batch_size=3"]
    for wrong, sentence, shared in (
        (["--set", "pretrain.temprature=2"], "there is no setting pretrain.temprature", True),
        (["--nonsense"], "--nonsense", True),
        (uneven, "finetune.batch_size: 3 cannot be shared evenly by 2 processes", True),
        (["--config", str(tmp_path / "own.toml")], "own.toml is not TOML", False),
        (["--device", "cuda"], "--device cuda: no GPU is visible on this machine", False),
    ):
        for rank in (0, 1):
            for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", **several}.items():
                monkeypatch.setenv(name, value.format(rank))
            monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
            code, printed = exit_code([*train, *wrong], capsys)
            assert code == 2
            if rank == 0:
                assert sentence in printed.err and not printed.err.startswith("clustercl: process ")
            else:
                assert printed.err == "" if shared else printed.err.startswith("clustercl: process 1: ")
                assert shared or sentence in printed.err
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.delenv("SLURM_STEP_NUM_TASKS", raising=False)
    monkeypatch.setenv("RANK", "1")  # left over in somebody's shell
    code, printed = exit_code([*train, "--nonsense"], capsys)
    assert code == 2 and "--nonsense" in printed.err


SEVERAL = {"train", "autoencode", "cluster", "pretrain", "finetune"}  # train together
PRINT = {"config", "info"}  # of each machine, for instance
ALONE = [
    ["evaluate", "run"], ["predict", "in.png", "--checkpoint", "best.pt", "--out", "out"], ["report", "run"],
    ["compare", "--task", "skin"], ["export", "best.pt", "--to", "onnx", "--out", "net.onnx"],
    ["data", "demo", "out", "--task", "skin"],
    ["data", "check", "--task", "skin", "--data", "in"], ["data", "clean"], ["bench", "loss"], ["bench", "linkage"],
    ["bench", "data", "--task", "skin"], ["bench", "train", "--task", "skin"],
]  # fmt: skip


@pytest.mark.parametrize("several", [TORCHRUN, SRUN | {"SLURM_STEP_NUM_NODES": "2"}], ids=["torchrun", "srun"])
@pytest.mark.parametrize("argv", ALONE, ids=lambda argv: " ".join(argv[:2]))
def test_several_processes_do_not_do_the_work_of_one(argv, several, monkeypatch, capsys, tmp_path):
    """Each would do it all, and write the same files, however many GPUs there are, or the processes on each machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    for name, value in {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3", **several}.items():
        monkeypatch.setenv(name, "3" if name == "SLURM_STEP_NUM_TASKS" else value)
    code, printed = exit_code(argv, capsys)
    assert code == 2 and "one process" in printed.err and printed.out == ""
    assert re.search(r", got 3 by (torchrun|srun): start ", printed.err), printed.err
    assert not [*tmp_path.iterdir()]


def test_each_command_is_for_one_process_or_for_several():
    alone = {argv[0] for argv in ALONE}
    assert alone | SEVERAL | PRINT == {*COMMANDS}
    for name in ("data", "bench"):
        assert {argv[1] for argv in ALONE if argv[0] == name} == {*cli.get_command(None, name).commands}


@pytest.mark.parametrize(
    "one", [TORCHRUN | {"WORLD_SIZE": "1"}, {"SLURM_STEP_NUM_TASKS": "1"}], ids=["torchrun", "srun"]
)
def test_one_process_that_they_started_is_one(one, monkeypatch, capsys, tmp_path):
    for name, value in {"LOCAL_WORLD_SIZE": "1", "SLURM_NTASKS": "4", **one}.items():
        monkeypatch.setenv(name, value)
    code, printed = exit_code(["data", "demo", str(tmp_path / "demo"), "--task", "skin", "--cases", "2"], capsys)
    assert code == 0 and printed.out.startswith("wrote skin demo data")
    code, printed = exit_code(["evaluate", str(tmp_path / "nowhere"), "--device", "cpu"], capsys)
    assert code == 1 and "one process" not in printed.err


@pytest.mark.parametrize(("task", "terminal"), [("shell", True), ("shell", False), ("itself", True)])
def test_a_command_in_a_shell_that_srun_gave_is_one(task, terminal, monkeypatch, capsys, tmp_path):
    """`srun --ntasks 4 --pty bash` tells what it starts there of four processes, of which there is one."""
    process = {"shell": os.getppid(), "itself": os.getpid()}[task]
    for name, value in {**SRUN, "SLURM_STEP_NUM_NODES": "1", "SLURM_TASK_PID": str(process)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.isatty", lambda number: terminal)
    code, printed = exit_code(["data", "demo", str(tmp_path / "demo"), "--task", "skin", "--cases", "2"], capsys)
    if task == "shell" and terminal:
        assert code == 0 and printed.out.startswith("wrote skin demo data")
        assert DeviceRequest("cpu", processes=4).resolved() == Placement("cpu", 4)
    else:
        assert code == 2 and "got 2 by srun" in printed.err


def test_debug_lets_the_exception_through(monkeypatch):
    from clustercl.cli import info

    def fail():
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(info, "collect", fail)
    with pytest.raises(ZeroDivisionError):
        main(["info", "--debug"])


def test_version(clustercl):
    done = clustercl("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("clustercl 0.")


def test_info_json_is_json_alone(clustercl):
    done = clustercl("info", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["versions"]["torch"] == torch.__version__
    assert all(kernel["cpu"].startswith("compiled") for kernel in found["kernels"].values())
    # A torch with CUDA and nvcc beside it get the kernels, whether there is a GPU or not; others are told why not.
    built, reason = found["build"]["cuda"], found["build"]["cuda_reason"]
    wanted = "compiled" if built else f"blocked torch operations, slow: built without CUDA: {reason}"
    assert found["kernels"]["contrastive_loss"]["cuda"] == wanted


def test_info_tells_of_a_forced_instruction_set(clustercl, monkeypatch):
    monkeypatch.setenv("CLUSTERCL_CPU", "portable")
    assert "portable (forced by CLUSTERCL_CPU=portable)" in clustercl("info").stdout
    monkeypatch.setenv("CLUSTERCL_CPU", "sse9")
    done = clustercl("info")
    assert done.returncode == 1
    assert "CLUSTERCL_CPU must be portable, avx2 or avx512, got 'sse9'" in done.stderr


def test_help_lists_every_method(clustercl):
    from clustercl.methods import METHODS

    # Click may break a line after a hyphen.
    text = "".join(clustercl("train", "--help").stdout.split())
    assert [name for name in METHODS if name not in text] == []


def test_ctrl_c_in_a_run_says_how_it_goes_on(monkeypatch, capsys, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("clustercl.training.pipeline.train", stop)
    got, printed = exit_code(["train", "--task", "skin", "--out", str(tmp_path / "run")], capsys)
    assert got == 130 and "stopped; the same command goes on where this one stopped" in printed.err


def test_ctrl_c_while_torch_is_imported_is_not_forgotten(tmp_path):
    """As torch forgets what is raised while it imports numpy: the command would go on with half of numpy."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text(
        "import os, signal, sys, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(5)\n"
        "except KeyboardInterrupt:\n    print('forgotten', file=sys.stderr)\n"
    )
    program = (  # what a shell runs behind itself ignores Ctrl-C
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.path.insert(0, {str(tmp_path)!r}); from clustercl.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program, "info"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "clustercl: stopped\n")


def test_it_runs_in_a_thread(capsys):
    """Where Python lets nobody listen to signals."""
    codes = []

    def called():
        with pytest.raises(SystemExit) as ended:
            main(["--help"])
        codes.append(ended.value.code)

    thread = threading.Thread(target=called)
    thread.start()
    thread.join()
    assert codes == [0] and "Usage: clustercl" in capsys.readouterr().out


def test_config_prints_a_file_that_train_reads(tmp_path, capsys):
    assert run(["config", "--task", "heart", "--preset", "tiny", "--set", "pretrain.temperature=0.2"]) == 0
    text = capsys.readouterr().out
    assert "\ntemperature = 0.2\n" in text and "# Stage 2. linkage: ward" in text
    (tmp_path / "heart.toml").write_text(text)
    assert run(["config", "--task", "heart", "--preset", "tiny", "--config", str(tmp_path / "heart.toml")]) == 0
    assert capsys.readouterr().out == text
    assert run(["config", "--task", "heart", "--config", str(tmp_path / "heart.toml")]) == 0
    assert capsys.readouterr().out == text  # the preset is the file's
    assert run(["config", "--task", "heart", "--preset", "default", "--config", str(tmp_path / "heart.toml")]) == 2
    assert "heart.toml is for preset 'tiny', this run is for 'default'" in capsys.readouterr().err
    assert run(["config", "--task", "heart", "--set", "pretrain.temprature=0.2"]) == 2
    assert "did you mean pretrain.temperature" in capsys.readouterr().err


def test_nothing_is_looked_through_at_the_end(monkeypatch, capsys):
    done = []
    monkeypatch.setattr("clustercl.cli.main.gc.freeze", lambda: done.append(True))
    assert exit_code(["--version"], capsys)[0] == 0 and done
