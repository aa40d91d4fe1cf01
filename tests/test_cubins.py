"""CUDA sources compiled by NVRTC, without a GPU: what is kept on disk, what happens to the files, what errors say."""

import subprocess
import sys
from pathlib import Path

import pytest
from fake_cupy import refusal, require_nvrtc

from pagnp import notices
from pagnp.backends import diskcache
from pagnp.backends.cupy_raw import cubins, nvrtc

ROOT = Path(__file__).resolve().parent.parent

require_nvrtc()


def test_a_kernel_is_compiled_once(cubin_folder):
    heard = []
    with notices.heard_by(heard.append):
        for _ in range(2):
            with cubins.cubin_file("pointwise", "sm_90") as path:
                assert path.parent == cubin_folder and path.read_bytes()[:4] == b"\x7fELF"
    assert [file.name for file in cubin_folder.iterdir()] == [path.name]
    assert len(heard) == 1 and heard[0].startswith("compiling kernels for this GPU") and str(cubin_folder) in heard[0]


def test_another_source_header_option_or_compiler_is_another_file(cubin_folder, monkeypatch):
    keys = [cubins._key(nvrtc.read_sources("pointwise"), "sm_90")]
    assert list(nvrtc.read_sources("pointwise"))[:2] == ["pointwise.cu", "contract.cuh"]
    sources = nvrtc.read_sources("pointwise")
    keys += [cubins._key({**sources, name: text + b" "}, "sm_90") for name, text in sources.items()]
    keys += [cubins._key(sources, "sm_80")]
    monkeypatch.setattr(nvrtc, "OPTIONS", (*nvrtc.OPTIONS, "-lineinfo"))
    keys += [cubins._key(sources, "sm_90")]
    monkeypatch.setattr(nvrtc, "version", lambda: (13, 1))
    keys += [cubins._key(sources, "sm_90")]
    assert len(set(keys)) == len(keys) == 4 + len(sources)


@pytest.mark.parametrize("damage", [lambda b: b[:100], lambda b: b"", lambda b: b[:900] + b"?" + b[901:]])
def test_a_damaged_file_is_compiled_again(cubin_folder, damage):
    with cubins.cubin_file("pointwise", "sm_90") as path:
        right = path.read_bytes()
    path.write_bytes(damage(right))
    with cubins.cubin_file("pointwise", "sm_90") as again:
        assert again == path and path.read_bytes() == right
    assert len(list(cubin_folder.iterdir())) == 1


def test_without_a_folder_kernels_are_compiled_in_memory(cubin_folder, monkeypatch):
    monkeypatch.setattr(cubins, "_folder", lambda: None)
    with cubins.cubin_file("pointwise", "sm_90") as path:
        assert path.read_bytes()[:4] == b"\x7fELF"
    assert not path.exists() and not cubin_folder.exists()


def test_a_full_disk_costs_only_the_file(cubin_folder, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cubins, "write_whole", full)
    with cubins.cubin_file("pointwise", "sm_90") as path:
        assert path.read_bytes()[:4] == b"\x7fELF" and path.parent != cubin_folder
    assert not path.exists() and not list(cubin_folder.iterdir())


def test_the_folder_is_beside_that_of_the_cpu(cubin_folder):
    from pagnp.backends.numba_cpu import cachefolder

    assert cubins._folder() == cubin_folder
    assert cachefolder.cache_folder.__wrapped__().parent == cubin_folder.parent == diskcache._user_folder()


def test_errors_of_the_compiler_are_one_line():
    sources = {"bad.cu": b"#include <nowhere.h>\nextern void f();\n"}
    with refusal(r"^backend 'cupy': bad.cu for sm_90: .*nowhere.h") as caught:
        nvrtc.compile_sources(sources, "sm_90")
    assert "\n" not in str(caught.value)
    with refusal("bad.cu for sm_1: .*arch"):
        nvrtc.compile_sources({"bad.cu": b"int x;"}, "sm_1")


def test_missing_sources(monkeypatch, tmp_path):
    with refusal("cannot read .*absent.cu; install pagnp again"):
        nvrtc.read_sources("absent")
    (tmp_path / "contract.cuh").write_bytes(b"")
    (tmp_path / "one.cu").write_bytes(b'#include "contract.cuh"\n  #  include "two.cuh"\n')
    monkeypatch.setattr(nvrtc, "source_folder", lambda: tmp_path)
    with refusal("cannot read .*two.cuh"):
        nvrtc.read_sources("one")


def test_an_installed_package_has_its_own_sources(monkeypatch, tmp_path):
    (tmp_path / "pagnp/_cuda").mkdir(parents=True)
    monkeypatch.setattr(nvrtc.pagnp, "__file__", str(tmp_path / "pagnp/__init__.py"))
    with refusal("no CUDA sources in .*_cuda; install pagnp again"):
        nvrtc.source_folder()
    (tmp_path / "cuda").mkdir()
    (tmp_path / "cuda/contract.cuh").write_text("")
    assert nvrtc.source_folder() == tmp_path / "cuda"
    (tmp_path / "pagnp/_cuda/contract.cuh").write_text("")
    assert nvrtc.source_folder() == tmp_path / "pagnp/_cuda"


def test_the_folder_cuda_does_not_hide_nvidias_package():
    """It would if it had an __init__.py: Python looks into the current folder first."""
    code = "import sys; sys.path.insert(0, ''); import cuda.bindings.nvrtc as n; print(n.nvrtcResult(0).name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "NVRTC_SUCCESS", done.stderr
