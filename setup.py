"""A thin driver of CMake: what is compiled stands in CMakeLists.txt, this hands it torch's and Python's paths."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def need_torch():
    try:
        import torch
    except ImportError:
        sys.exit(
            "clustercl: torch was not found by this build; install torch 2.10 or newer first, then build against it: "
            "pip install torch==2.13.0 pybind11 cmake ninja setuptools && pip install --no-build-isolation ."
        )
    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 10):
        sys.exit(f"clustercl: torch 2.10 or newer is needed for its stable ABI, found {torch.__version__}")
    return torch


class CMakeBuild(build_ext):
    """Builds the extension with CMake and Ninja and puts it where setuptools expects it."""

    def build_extension(self, ext):
        import pybind11

        torch = need_torch()
        torch_root = Path(torch.__file__).parent
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}-torch{torch.__version__.replace('+', '-')}"
        cmake = shutil.which("cmake") or sys.exit("clustercl: cmake was not found; run: pip install cmake ninja")
        arguments = {
            "CMAKE_BUILD_TYPE": "Release",
            "CLUSTERCL_EXTENSION": "ON",
            "CLUSTERCL_TESTS": "OFF",
            "CLUSTERCL_VERSION": self.distribution.get_version(),
            "CLUSTERCL_CUDA": os.environ.get("CLUSTERCL_CUDA", "auto"),
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
        # An isolated build holds its own ninja in a folder that is gone next time: a stale cache must not name it.
        ninja = shutil.which("ninja") or sys.exit("clustercl: ninja was not found; run: pip install ninja")
        definitions.append(f"-DCMAKE_MAKE_PROGRAM={ninja}")
        for step in ([cmake, "-S", ROOT, "-B", build, "-G", "Ninja", *definitions], [cmake, "--build", build]):
            if subprocess.run(step).returncode:
                sys.exit(f"clustercl: the compilation failed in {build}; what CMake and the compiler say stands above")


# A source archive needs no torch; anything else stops here, before pip downloads gigabytes of dependencies.
# dist_info is the first that `pip install .` asks for.
if any(
    command in sys.argv for command in ("dist_info", "bdist_wheel", "editable_wheel", "build_ext", "develop", "install")
):
    need_torch()

setup(ext_modules=[Extension("clustercl._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
