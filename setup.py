"""A thin driver of CMake: CMakeLists.txt says what is compiled, this hands it torch's, Python's and nvcc's paths."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
CANNOT = "{} ({}) does not compile an empty program with this machine's C++ compiler"


def need_torch():
    try:
        import torch
    except ImportError:
        sys.exit(
            "clustercl: torch was not found by this build; install torch 2.10 or newer first, then build against it: "
            "pip install torch==2.13.0 pybind11 cmake ninja 'setuptools>=77' && pip install --no-build-isolation ."
        )
    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 10):
        sys.exit(f"clustercl: torch 2.10 or newer is needed for its stable ABI, found {torch.__version__}")
    return torch


def choose_nvcc(torch_root: Path, torch_cuda: str, request: str) -> tuple[str, str, str]:
    """The compiler for CUDA, its release, and why there is none; what there is not is empty.

    It is what CUDACXX names, else the first that fits: of NVIDIA's wheels beside torch, on the PATH, below CUDA_HOME or
    CUDA_PATH, of the system. C++20 wants 12.0. One of a newer major version than torch's CUDA is taken if request is
    "on" and nothing else fits: its runtime can want a newer driver than torch does, and then every launch would fail.
    """
    named = os.environ.get("CUDACXX", "")
    if named:
        compilers = [named]
    else:
        homes = [os.environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
        wheels = [str(path) for path in sorted(torch_root.parent.glob("nvidia/cu*/bin/nvcc"))]
        places = [*wheels, shutil.which("nvcc"), *(f"{home}/bin/nvcc" for home in homes), "/usr/local/cuda/bin/nvcc"]
        compilers = list(dict.fromkeys(path for path in places if path and os.path.isfile(path)))
    refused, newer = [], []
    for compiler in compilers:
        words = shlex.split(compiler) if named else [compiler]
        said = _run([*words, "--version"])
        found = re.search(r"release ((\d+)\.\d+)", said or "")
        if said is None:
            refused.append(f"{compiler} does not run")
        elif not found:
            if named:
                return compiler, "", ""  # another compiler than nvcc: CMake tries it
            refused.append(f"{compiler} does not tell its release")
        elif int(found[2]) < 12:
            refused.append(f"{compiler} is {found[1]}, C++20 needs 12.0 or newer")
        elif torch_cuda and int(found[2]) > int(torch_cuda.split(".")[0]):
            newer.append((compiler, words, found[1]))
        elif _compiles(words):
            return compiler, found[1], ""
        else:
            refused.append(CANNOT.format(compiler, found[1]))
    for compiler, words, release in newer:
        if request != "on":
            refused.append(f"{compiler} is {release}, newer than torch's (CLUSTERCL_CUDA=on takes it all the same)")
        elif _compiles(words):
            return compiler, release, ""
        else:
            refused.append(CANNOT.format(compiler, release))
    return "", "", ", ".join(refused) or "nvcc was not found"


def _run(command: list[str], **environment: str) -> str | None:
    """What the command prints; None where it cannot be started or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout


def _compiles(words: list[str]) -> bool:
    program, *options = words
    # Wheels have lib where nvcc looks for lib64.
    libraries = Path(shutil.which(program) or program).parent.parent / "lib"
    path = os.pathsep.join([str(libraries), *filter(None, [os.environ.get("LIBRARY_PATH")])])
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "empty.cu")
        source.write_text("int main() { return 0; }\n")
        return _run([program, *options, str(source), "-o", f"{folder}/empty"], LIBRARY_PATH=path) is not None


def tool(name: str) -> str:
    """The program of this Python's environment, which need not be activated, before others on the PATH."""
    places = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    return shutil.which(name, path=places) or sys.exit(f"clustercl: {name} was not found; run: pip install {name}")


def configuration(cmake: str, build: Path, definitions: list[str]) -> list[str | Path]:
    """The command that configures. What a configuration that failed has left is thrown away: one that found no compiler
    leaves empty flags, with which the next would compile without -O3."""
    fresh = [] if (build / "build.ninja").exists() else ["--fresh"]
    return [cmake, *fresh, "-S", ROOT, "-B", build, "-G", "Ninja", *definitions]


def why_cmake_failed(build: Path) -> str:
    if not os.environ.get("CXX") and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return (
            "no C++ compiler was found: put one on the PATH (on Debian and Ubuntu: apt install g++) or name it in CXX"
        )
    return f"the compilation failed in {build}; what CMake and the compiler say stands above"


class CMakeBuild(build_ext):
    """Builds the extension with CMake and Ninja and puts it where setuptools expects it."""

    def build_extension(self, ext):
        import pybind11

        torch = need_torch()
        torch_root = Path(torch.__file__).parent
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        request = os.environ.get("CLUSTERCL_CUDA", "auto").lower()
        nvcc, release, missing = "", "", ""
        if request == "on" or (request == "auto" and torch.version.cuda):
            nvcc, release, missing = choose_nvcc(torch_root, torch.version.cuda or "", request)
        if request == "on" and missing:
            sys.exit(f"clustercl: CLUSTERCL_CUDA=on, but {missing}: put nvcc 12.0 or newer on the PATH or set CUDACXX")
        # Another compiler or torch gets another folder: CMake remembers too much of the last one.
        mark = f"-nvcc{release}-{hashlib.sha256(nvcc.encode()).hexdigest()[:8]}" if nvcc else ""
        folder = f"cmake-{sys.implementation.cache_tag}-torch{torch.__version__.replace('+', '-')}{mark}"
        build = ROOT / "build" / folder
        cmake = tool("cmake")
        arguments = {
            "CMAKE_BUILD_TYPE": "Release",
            "CLUSTERCL_EXTENSION": "ON",
            "CLUSTERCL_TESTS": "OFF",
            "CLUSTERCL_VERSION": self.distribution.get_version(),
            "CLUSTERCL_CUDA": request,
            "CLUSTERCL_NO_NVCC": missing,
            "CLUSTERCL_CUDA_ARCHITECTURES": os.environ.get("CLUSTERCL_CUDA_ARCHITECTURES", ""),
            "CLUSTERCL_TORCH_ROOT": torch_root,
            "CLUSTERCL_TORCH_VERSION": torch.__version__,
            "CLUSTERCL_TORCH_CUDA": torch.version.cuda or "",
            "CLUSTERCL_OUTPUT_DIR": target.parent,
            "CLUSTERCL_OUTPUT_NAME": target.name,
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        definitions = [f"-D{key}={value}" for key, value in arguments.items()]
        if nvcc and not os.environ.get("CUDACXX"):
            definitions.append(f"-DCMAKE_CUDA_COMPILER={nvcc}")
        # An isolated build holds its own ninja in a folder that is gone next time: a stale cache must not name it.
        definitions.append(f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}")
        for step in (configuration(cmake, build, definitions), [cmake, "--build", build]):
            if subprocess.run(step).returncode:
                sys.exit(f"clustercl: {why_cmake_failed(build)}")


if __name__ == "__main__":
    # A source archive needs no torch; anything else stops here, before pip downloads gigabytes of dependencies.
    # dist_info is the first that `pip install .` asks for.
    commands = ("dist_info", "bdist_wheel", "editable_wheel", "build_ext", "develop", "install")
    if any(command in sys.argv for command in commands):
        need_torch()
    setup(ext_modules=[Extension("clustercl._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
