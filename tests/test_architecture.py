"""The arrows of the design hold: who may import or include whom is read from the sources."""

import ast
import re
import subprocess
import sys

import pytest

import clustercl

# A package may import those on its own row and on rows below it.
ROWS = [
    {"cli", "benchmarks"},
    {"training", "evaluation", "report", "data"},
    {"methods", "models", "losses", "loss_arguments", "cluster", "cut", "estimator", "reference"},
    {"ops"},
    {"_C"},
]
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}
EVERYWHERE = {"errors", "files", "launcher", "owner", "progress", "__init__", "__main__"}
# Within the second row: training uses evaluation and data, evaluation and report use data; nothing points back.
FORBIDDEN = {
    "data": {"training", "evaluation", "report"},
    "evaluation": {"training", "report"},
    "report": {"training"},
    "training": {"report"},
}


def imported_modules(path):
    """(line, module below clustercl) of every import in a file, also of those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrow, write the full name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "clustercl" and len(parts) > 1:
                yield node.lineno, clustercl._HOME.get(parts[1], parts[1])


def python_sources(root):
    for path in sorted(root.glob("clustercl/**/*.py")):
        yield path, path.relative_to(root / "clustercl").parts[0].removesuffix(".py")
    for package in ("cli", "benchmarks"):
        for path in sorted(root.glob(f"{package}/*.py")):
            yield path, package


def test_imports_point_one_way(root):
    checked = 0
    for path, package in python_sources(root):
        if package in EVERYWHERE:
            continue
        for line, target in imported_modules(path):
            if target in EVERYWHERE or target not in LEVEL:
                continue
            checked += 1
            where = f"{path.relative_to(root)}:{line} imports clustercl.{target}"
            assert LEVEL[target] >= LEVEL[package], f"{where}, which stands above {package}"
            assert target not in FORBIDDEN.get(package, set()), f"{where}, which points back"
    assert checked > 20


def test_every_package_has_a_place(root):
    for path, package in python_sources(root):
        assert package in LEVEL or package in EVERYWHERE, f"{path}: no row of the design holds {package}"


def test_kernels_know_neither_torch_nor_python(root):
    sources = [path for path in (root / "csrc/kernels").iterdir() if path.suffix in {".h", ".cpp", ".cu", ".cuh"}]
    assert sources
    for path in sources:
        for include in re.findall(r'#\s*include\s*[<"]([^>"]+)', path.read_text()):
            assert not re.match(r"(torch|ATen|c10|pybind11|Python\.h)", include), f"{path.name} includes {include}"
            assert ".." not in include, f"{path.name} includes {include}: kernels include kernels only"


def test_bindings_stay_on_the_stable_abi(root):
    for path in (root / "csrc/bindings").iterdir():
        for include in re.findall(r'#\s*include\s*[<"]([^>"]+)', path.read_text()):
            assert not re.match(r"(torch/(extension|torch|library)\.h|ATen|c10)", include), f"{path}: {include}"


def test_launches_are_checked_and_memory_and_streams_are_torchs(root):
    """Kernels are launched by `launch` and `launch_together`, whose error none may discard; nobody allocates, waits for
    the whole device or has a stream of his own; an op's glue stays on the device of its tensors."""
    launching = re.compile(r"<<<|cudaLaunch\w*")
    elsewhere = re.compile(r"cuda(Malloc|Free|HostAlloc|DeviceSynchronize|StreamCreate|StreamLegacy|StreamPerThread)")
    sources = [path for folder in ("kernels", "bindings") for path in sorted((root / "csrc" / folder).iterdir())]
    for path in sources:
        text = re.sub(r"//.*", "", path.read_text())
        assert not elsewhere.search(text), f"{path.name}: {elsewhere.search(text)[0]}"
        if path.name != "common.cuh":
            assert not launching.search(text), f"{path.name} launches by itself"
    common = (root / "csrc/kernels/common.cuh").read_text()
    assert len(launching.findall(common)) == 2  # launch, and launch_together for blocks that wait for each other
    for name in ("contrastive", "pairwise"):
        text = (root / f"csrc/bindings/{name}_cuda.cpp").read_text()
        assert text.count("DeviceGuard guard(") == text.count("= current_stream(") > 0
    linkage = (root / "clustercl/ops/linkage.py").read_text()  # its glue gets the addresses
    guards = re.findall(r"with torch\.cuda\.device\((x\.)?device\):", linkage)
    assert len(guards) == len(re.findall(r"_C\.linkage_cuda", linkage)) == 2
    assert "torch.cuda.current_stream().cuda_stream" in linkage


def test_only_ops_load_the_extension(root):
    for path, package in python_sources(root):
        if package != "ops":
            assert not re.search(r"import _C\b|clustercl\._C\b", path.read_text()), f"{path} reaches past ops"


def test_import_is_lazy_and_needs_torch_and_numpy_alone():
    heavy = ["scipy", "sklearn", "monai", "matplotlib", "nibabel", "PIL", "tqdm", "click", "lightning_fabric"]
    code = (
        "import sys\n"
        f"for name in {heavy!r}: sys.modules[name] = None\n"
        "import clustercl\n"
        "assert 'torch' not in sys.modules, 'import clustercl must not import torch'\n"
        "import torch\n"
        "from clustercl import pseudo_class_nt_xent, linkage, cut_tree\n"
        "x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))\n"
        "assert pseudo_class_nt_xent(x, torch.tensor([0, 0, 1, 1])).isfinite()\n"
        "assert cut_tree(linkage(x), n_clusters=3).max() == 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_instruction_sets_do_not_leak_into_each_other(root):
    """A weak symbol of an AVX-512 object that the portable one defines too could be the copy that the linker keeps."""
    build = root / "build/ctest/CMakeFiles"
    objects = sorted(build.glob("kernels_*.dir/**/*.o"))
    if not objects:
        pytest.skip("build/ctest is not there: make ctest builds it")
    for path in objects:
        isa = re.search(r"kernels_(\w+)\.dir", str(path)).group(1)
        symbols = subprocess.run(["nm", "-C", "--defined-only", path], capture_output=True, text=True, check=True)
        defined = [line.split(maxsplit=2)[1:] for line in symbols.stdout.splitlines()]
        assert defined
        for kind, name in defined:
            if (kind.isupper() and kind not in "RD") or kind in "wvu":
                own = f"clustercl::{isa}::" in name or f"DW.ref.{isa}" in name
                assert own, f"{path.name} ({isa}) defines {name} outside its namespace ({kind})"
