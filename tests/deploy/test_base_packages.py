"""What a base image installs and leaves out: real wheels, made here, in a virtual environment of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy import base_packages
from tests.deploy.host import REPOSITORY

LIBRARY = next(Path(sysconfig.get_config_var("DESTSHARED")).glob("*.so")).read_bytes()  # one that a process can load
LOAD = "import ctypes, pathlib\nctypes.CDLL(str(pathlib.Path(__file__).parents[1] / 'nvidia/lib/libneeded.so'))\n"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("python") / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder


@dataclass
class Image:
    """An environment as in an image, with an index of wheels."""

    python: Path
    packages: Path
    wheels: Path
    folder: Path

    def wheel(self, name: str, files: dict[str, str | bytes], *, version: str = "1.0", index: str = "wheels") -> None:
        path = self.wheels.parent / index / f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        path.parent.mkdir(exist_ok=True)
        information = f"{name.replace('-', '_')}-{version}.dist-info"
        files = {
            **files,
            f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{information}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{each},,\n" for each in [*files, f"{information}/RECORD"])
        with zipfile.ZipFile(path, "w") as archive:
            for each, content in {**files, f"{information}/RECORD": record}.items():
                archive.writestr(each, content)

    def install(
        self, requirements: str, imports: str = "", *, status: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        (self.folder / "requirements.txt").write_text(requirements)
        (self.folder / "imports.txt").write_text(imports)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PIP_")},
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }
        command = [self.python, REPOSITORY / "deploy/base_packages.py", "requirements.txt", "imports.txt"]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    def files(self, package: str) -> set[str]:
        return {
            str(path.relative_to(self.packages)) for path in self.packages.glob(f"{package}/**/*") if path.is_file()
        }


@pytest.fixture
def image(bare: Path, tmp_path: Path) -> Image:
    folder = tmp_path / "environment"
    shutil.copytree(bare, folder, symlinks=True)
    (tmp_path / "wheels").mkdir()
    packages = next((folder / "lib").glob("python*")) / "site-packages"
    return Image(folder / "bin/python", packages, tmp_path / "wheels", tmp_path)


def test_tests_headers_and_stubs_are_removed_licences_and_metadata_stay(image: Image) -> None:
    image.wheel(
        "some-package",
        {
            "some/__init__.py": "",
            "some/testing/__init__.py": "",
            "some/tests/__init__.py": "",
            "some/tests/data/large.bin": "x",
            "some/part/test/test_part.py": "",
            "some/tests/LICENSE.txt": "",
            "some/include/some.h": "",
            "some/lib/libsome.a": "",
            "some/__init__.pyi": "",
            "some/py.typed": "",
            "some_package-1.0.dist-info/licenses/tests/LICENSE": "",
        },
    )
    done = image.install("some_package==1.0  # a comment\n")
    assert image.files("some") == {
        "some/__init__.py",
        "some/testing/__init__.py",
        "some/tests/LICENSE.txt",
        "some/py.typed",
    }
    assert not (image.packages / "some/part").exists(), "empty folders are removed"
    assert "some_package-1.0.dist-info/licenses/tests/LICENSE" in image.files("some_package*")
    assert "removed 6 files" in done.stdout
    version = [image.python, "-c", "from importlib.metadata import version; print(version('some-package'))"]
    assert subprocess.run(version, capture_output=True, text=True, check=True).stdout == "1.0\n"


def test_a_package_for_another_python_is_passed_over(image: Image) -> None:
    image.wheel("some", {"some/__init__.py": "", "some/tests/__init__.py": ""})
    image.install('some==1.0\nmissing==1.0; python_full_version < "3.0"\n', "some\n")
    assert "some/tests/__init__.py" not in image.files("some")


def test_what_the_image_had_before_is_left_alone(image: Image) -> None:
    image.wheel("old", {"old/__init__.py": "", "old/tests/__init__.py": ""})
    image.wheel("new", {"new/__init__.py": ""})
    subprocess.run([image.python, "-m", "pip", "install", "-q", "--no-index", *image.wheels.glob("old*")], check=True)
    image.install("new==1.0\n")
    assert "old/tests/__init__.py" in image.files("old")


def test_bytecode_is_kept_for_what_functions_import_and_nothing_else(image: Image) -> None:
    image.wheel(
        "some",
        {"some/__init__.py": "", "some/used.py": "from . import needed", "some/needed.py": "", "some/other.py": ""},
    )
    image.install("some==1.0\n", "# what functions import\nsome.used\nof_another_device.part\n")
    compiled = {Path(path).name.partition(".")[0] for path in image.files("some") if path.endswith(".pyc")}
    assert compiled == {"__init__", "used", "needed"}


def test_a_package_that_cannot_be_imported_ends_the_build(image: Image) -> None:
    image.wheel("some", {"some/__init__.py": "raise OSError('libmissing.so')"})
    assert "libmissing.so" in image.install("some==1.0\n", "some\n", status=1).stderr


def torch(image: Image, cuda: str | None, **where: str) -> None:
    files = {"torch/__init__.py": LOAD if cuda else "", "torch/version.py": f"cuda = {cuda!r}\n"}
    image.wheel(
        "torch", {**files, "torch/lib/libtorch_cuda_linalg.so": LIBRARY, "torch/lib/libtorch_cpu.so": ""}, **where
    )


def cuda(image: Image) -> None:
    image.wheel(
        "nvidia-some",
        {
            "nvidia/lib/libneeded.so": LIBRARY,
            "nvidia/lib/libunused.so": b"x" * 2_000_000,
            "nvidia/include/some.h": "",
            "nvidia_some-1.0.dist-info/licenses/License.txt": "",
        },
    )
    image.wheel("triton", {"triton/__init__.py": "", "triton/include/cuda.h": "", "triton/tests/test.py": ""})


TORCH = "torch==1.0\nnvidia-some==1.0\n"


def test_torch_with_cuda_on_a_cpu_keeps_only_the_libraries_that_it_loads(image: Image) -> None:
    torch(image, "13.2")
    cuda(image)
    done = image.install(TORCH, "torch\n")
    assert image.files("nvidia") == {"nvidia/lib/libneeded.so"}
    assert "torch/lib/libtorch_cpu.so" in image.files("torch")
    assert "torch/lib/libtorch_cuda_linalg.so" not in image.files("torch")
    assert "nvidia_some-1.0.dist-info/licenses/License.txt" in image.files("nvidia_some*")
    assert "a build with CUDA" in done.stdout


def test_torch_for_the_cpu_is_installed_without_the_libraries_of_cuda(image: Image) -> None:
    torch(image, None)
    cuda(image)
    image.wheel("other", {"other/__init__.py": ""})
    done = image.install(TORCH + "triton==1.0\nother==1.0\n", "torch\n")
    assert not image.files("nvidia*") | image.files("triton*")
    assert image.files("other") == {"other/__init__.py"}
    assert "torch is a CPU build" in done.stdout


@pytest.mark.parametrize(("device", "version"), [("cpu", "1.0+cpu"), ("gpu", "1.0")])
def test_the_index_of_cpu_builds_serves_torch_alone_and_only_on_a_cpu(image: Image, device: str, version: str) -> None:
    torch(image, "13.2")
    cuda(image)
    image.wheel("other", {"other/__init__.py": ""})
    torch(image, None, version="1.0+cpu", index="cpu_index")
    image.wheel("other", {"other/__init__.py": "", "other/wrong.py": ""}, version="1.0+cpu", index="cpu_index")
    links = [
        f'<a href="{path.as_uri().replace("+", "%2B")}">{path.name}</a>'
        for path in (image.folder / "cpu_index").iterdir()
    ]
    for name in ("torch", "other"):
        page = image.folder / "index" / name / "index.html"
        page.parent.mkdir(parents=True)
        page.write_text("\n".join(link for link in links if f">{name}-" in link))
    empty = image.folder / "empty"
    empty.mkdir()
    index = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": empty.as_uri(), "TORCH_INDEX_URL": (image.folder / "index").as_uri()}
    image.install(TORCH + "other==1.0\n", "torch\n", DEVICE=device, **index)
    found = subprocess.run(
        [image.python, "-m", "pip", "list"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert found[found.index("torch") + 1] == version
    assert found[found.index("other") + 1] == "1.0"
    assert ("nvidia-some" in found) == (device == "gpu")


def test_a_gpu_keeps_all_libraries_of_cuda_and_their_headers(image: Image) -> None:
    torch(image, "13.2")
    cuda(image)
    image.install(TORCH + "triton==1.0\n", "torch\n", DEVICE="gpu")
    assert image.files("nvidia") == {"nvidia/lib/libneeded.so", "nvidia/lib/libunused.so", "nvidia/include/some.h"}
    assert "torch/lib/libtorch_cuda_linalg.so" in image.files("torch")
    assert "triton/include/cuda.h" in image.files("triton")
    assert "triton/tests/test.py" not in image.files("triton")


def test_an_unknown_device_is_an_error(image: Image) -> None:
    assert "DEVICE: expected cpu or gpu, got tpu" in image.install("", status=1, DEVICE="tpu").stderr


def test_a_failing_installation_ends_the_build(image: Image) -> None:
    assert "missing==1.0" in image.install("missing==1.0\n", status=1).stderr


FRAMEWORKS = sorted(path.parent for path in (REPOSITORY / "serverless").glob("*/base/requirements.txt"))


@pytest.mark.parametrize("base", FRAMEWORKS, ids=lambda path: path.parent.name)
def test_what_functions_import_can_be_imported(base: Path) -> None:
    modules = base_packages.read_lines(base / "imports.txt")
    assert modules
    base_packages.import_and_list_libraries(modules)


@pytest.mark.parametrize("base", FRAMEWORKS, ids=lambda path: path.parent.name)
def test_what_functions_import_is_in_the_image(base: Path) -> None:
    provided = requirement_names(base / "requirements.txt") | requirement_names(REPOSITORY / "common/requirements.txt")
    tops = base_packages.metadata.packages_distributions()
    for module in base_packages.read_lines(base / "imports.txt"):
        names = {base_packages.name_of(name) for name in tops[module.partition(".")[0]]}
        assert names & provided, f"{module} comes with {names}"


def requirement_names(path: Path) -> set[str]:
    return {base_packages.name_of(line) for line in base_packages.read_lines(path)}
