"""What the README and docs/ show runs as it stands there."""

import re

import pytest


@pytest.fixture(scope="module")
def readme(root) -> str:
    return (root / "README.md").read_text()


def test_python_examples_run_and_agree(readme):
    example, equivalent = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict = {}
    exec(example + equivalent, names)
    ours = names["loss"](names["z0"], names["z1"], names["pseudo_class"][:256])
    # Both are float32 sums over 512 terms.
    assert float(ours.detach()) == pytest.approx(float(names["value"].detach()), rel=1e-5)


def test_the_page_of_the_loss_runs_and_agrees(root):
    names: dict = {}
    exec("".join(re.findall(r"```python\n(.*?)```", (root / "docs/loss.md").read_text(), re.DOTALL)), names)
    # Both are float32 sums over 512 terms.
    assert float(names["value"]) == pytest.approx(float(names["plain"]), rel=1e-5)


def test_the_page_of_the_linkage_runs(root, capsys):
    names: dict = {}
    exec("".join(re.findall(r"```python\n(.*?)```", (root / "docs/linkage.md").read_text(), re.DOTALL)), names)
    assert names["new_labels"].shape == (10,) and "silhouette" in capsys.readouterr().out


def test_every_command_it_names_exists(readme):
    from clustercl.cli.main import COMMANDS

    named = set(re.findall(r"^clustercl (\w+)", readme, re.MULTILINE))
    assert named and named <= set(COMMANDS)


def test_links_lead_somewhere(readme, root):
    targets = [root / target for target in re.findall(r"\]\(([^)#:]+)\)", readme)]
    for page in sorted((root / "docs").glob("*.md")):
        targets += [root / "docs" / target for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert targets
    for target in targets:
        assert target.exists(), target


def test_the_page_of_training_runs(root, tmp_path, monkeypatch):
    """Its five lines load an encoder; its commands have the options they are shown with."""
    import shlex

    from clustercl.cli.main import cli
    from clustercl.files import save_torch
    from clustercl.models.checkpoint import FORMAT
    from clustercl.models.encoder import Encoder
    from clustercl.models.export import export
    from clustercl.training.config import resolve

    page = (root / "docs/training.md").read_text()
    config = resolve("heart", "tiny")
    encoder = Encoder(3, 1, config.model.features)
    weights = {f"encoder.{name}": weight for name, weight in encoder.state_dict().items()}
    task = {"spatial_dims": 3, "in_channels": 1}
    header = {"format": FORMAT, "stage": "pretrain", "step": 1, "config": config.to_dict(), "task": task}
    save_torch(tmp_path / "best.pt", header | {"model": weights})
    export(tmp_path / "best.pt", "encoder", tmp_path / "encoder.pt")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec("".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), names)
    assert (names["net"].conv_0.conv_0.conv.weight == encoder.conv_0.conv_0.conv.weight).all()
    page += (root / "README.md").read_text() + (root / "docs/compare.md").read_text()
    commands = re.findall(r"clustercl ((?:train|export|compare) [^`#\n|]*)", page)
    assert len(commands) > 20
    for text in commands:
        name, *arguments = shlex.split(text.replace('"', "").replace(" ...", " --task heart --out runs/heart"))
        command = cli.get_command(None, name)
        command.make_context(name, arguments)  # parses, and does not run
