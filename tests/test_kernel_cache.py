"""Compiled kernels: kept on disk, never stale, whatever happens to the files; and who is told."""

import errno
import importlib
import logging
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

import numba
from numba.core.dispatcher import Dispatcher

from pagnp import notices
from pagnp.backends import numba_cpu
from pagnp.backends.numba_cpu import cachefolder, kernelcache

ROOT = Path(__file__).resolve().parents[1]
POSIX = pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions and limits")

# A module with one small kernel: its answers for the arguments of $CALLS, how many came out of the cache, and where.
KERNEL_MODULE = """
import os, sys
from pagnp.backends.numba_cpu.cachefolder import cache_folder
from pagnp.backends.numba_cpu.compile import jit

@jit
def twice(x):
    return 2 * x

if __name__ == "__main__":
    if os.environ.get("WAIT"):
        cache_folder(), print("ready", flush=True), sys.stdin.readline()
    print(*[twice(x) for x in eval(os.environ.get("CALLS", "(21,)"))], sum(twice.stats.cache_hits.values()))
    print(cache_folder())
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts the module above in a new process, with environment variables."""
    path = tmp_path / "kernel_module.py"
    path.write_text(KERNEL_MODULE)

    def begin(**variables):
        variables = {name: str(value) for name, value in variables.items()}
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **variables}
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen([sys.executable, str(path)], env=environment, text=True, **pipes)

    return begin


@pytest.fixture
def use(start):
    """Return a function that does so and returns (first line, cache folder, stderr)."""

    def run(**variables):
        process = start(**variables)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return *out.splitlines(), err

    return run


def entries(folder):
    return sorted(Path(folder).rglob("*.nbc"))


def test_a_second_process_finds_the_kernels_of_the_first(tmp_path, use):
    first = use(PAGNP_CACHE_DIR=tmp_path / "cache")
    files = {path: path.stat().st_mtime_ns for path in entries(tmp_path)}
    second = use(PAGNP_CACHE_DIR=tmp_path / "cache")
    assert (first[0], second[0]) == ("42 0", "42 1")
    assert len(files) == 1 and {path: path.stat().st_mtime_ns for path in entries(tmp_path)} == files
    assert not first[2] and not second[2]


@pytest.mark.parametrize("round_", range(2))
def test_processes_that_fill_an_empty_cache_at_once(tmp_path, start, use, round_):
    """They compile the same signatures in other orders: with an index of all, one could name another's file."""
    orders = ("(1, 2.5, 3j, True)", "(True, 3j, 2.5, 1)", "(2.5, 1, True, 3j)")
    processes = [start(PAGNP_CACHE_DIR=tmp_path / "cache", WAIT="1", CALLS=order) for order in orders]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # all have imported what they need: now
        process.stdin.write("\n")
        process.stdin.flush()
    answers = ("2 5.0 6j 2", "2 6j 5.0 2", "5.0 2 2 6j")
    for process, answer in zip(processes, answers, strict=True):
        out, err = process.communicate(timeout=120)
        assert out.startswith(answer) and process.returncode == 0 and not err
    assert len(entries(tmp_path)) == 4 and not list(tmp_path.rglob("*.tmp"))
    assert use(PAGNP_CACHE_DIR=tmp_path / "cache", CALLS=orders[0])[0] == f"{answers[0]} 4"


def test_an_unwritable_cache_is_said_once_and_replaced(tmp_path, use):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "tmp").mkdir()
    answer, _, err = use(PAGNP_CACHE_DIR=tmp_path / "file", TMPDIR=tmp_path / "tmp", CALLS="(21, 1.5)")
    assert answer == "42 3.0 0"
    assert err.count("cannot write") == 1 and "set PAGNP_CACHE_DIR" in err
    assert len(entries(tmp_path / "tmp")) == 2


@POSIX
def test_a_temporary_folder_that_others_can_write_is_not_trusted(tmp_path, use):
    (tmp_path / "file").write_text("in the way")
    shared = tmp_path / "tmp" / f"pagnp-{os.getuid()}"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    answer, folder, err = use(PAGNP_CACHE_DIR=tmp_path / "file", TMPDIR=tmp_path / "tmp", CALLS="(21, 1.5)")
    assert answer == "42 3.0 0" and folder == "None" and err.count("compiled anew") == 1
    assert not list(shared.iterdir())


def test_a_user_without_a_home(monkeypatch, tmp_path):
    def homeless(self):
        raise RuntimeError("Could not determine home directory.")

    for name in ("PAGNP_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning, match="cannot write ~"):
        folder = cachefolder.cache_folder.__wrapped__()
    assert folder is None or tmp_path in folder.parents
    assert not (tmp_path / "~").exists()


def fresh_kernel(folder, monkeypatch):
    """Return a dispatcher with its cache in `folder`, nothing told or warned of yet."""
    from pagnp.backends.numba_cpu.compile import jit

    monkeypatch.setattr(kernelcache, "cache_folder", lambda: folder)
    monkeypatch.setattr(kernelcache.KernelCache, "told", False)
    monkeypatch.setattr(kernelcache.KernelCache, "warned", False)
    return jit(_thrice)


def _thrice(x):
    return 3 * x


def answer(kernel, argument):
    """Return what `kernel` gives for `argument` and how many signatures it has taken from the cache."""
    return kernel(argument), sum(kernel.stats.cache_hits.values())


def cut(content):
    return content[:20]


def one_bit(content):
    """Damage machine code: it is neither of the wrong length nor a pickle that does not load."""
    place = len(content) * 2 // 3
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [cut, one_bit, lambda content: b"", lambda content: content + b"more"])
def test_a_damaged_entry_is_compiled_again(tmp_path, monkeypatch, damage):
    assert answer(fresh_kernel(tmp_path, monkeypatch), 2) == (6, 0)
    (entry,) = entries(tmp_path)
    entry.write_bytes(damage(entry.read_bytes()))
    assert answer(fresh_kernel(tmp_path, monkeypatch), 2) == (6, 0)
    assert answer(fresh_kernel(tmp_path, monkeypatch), 2) == (6, 1)


def test_an_entry_of_other_types_is_not_taken(tmp_path, monkeypatch):
    """As if two signatures had one name."""
    assert answer(fresh_kernel(tmp_path, monkeypatch), 2) == (6, 0)
    (integer,) = entries(tmp_path)
    assert answer(fresh_kernel(tmp_path, monkeypatch), 2.5) == (7.5, 0)
    (other,) = set(entries(tmp_path)) - {integer}
    integer.write_bytes(other.read_bytes())
    assert answer(fresh_kernel(tmp_path, monkeypatch), 2) == (6, 0)


class Full:
    """Stands for Path.write_bytes on a disk that gets full: a part is written."""

    def __init__(self):
        self.paths = []

    def __call__(self, path, content):
        self.paths.append(path)
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_costs_the_entry_and_is_said_once(tmp_path, monkeypatch):
    kernel, full = fresh_kernel(tmp_path, monkeypatch), Full()
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: full(path, content))
    with pytest.warns(RuntimeWarning) as caught:
        assert (kernel(2), kernel(2.5)) == (6, 7.5)
    assert len(full.paths) == 2 and not list(tmp_path.iterdir())
    assert ["No space left" in str(warning.message) for warning in caught] == [True]


@POSIX
def test_a_limit_on_the_size_of_files(tmp_path, monkeypatch):
    import resource

    kernel, limits = fresh_kernel(tmp_path, monkeypatch), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.warns(RuntimeWarning, match="cannot keep compiled kernels"):
            assert kernel(2) == 6
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_deleted_meanwhile(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    kernel = fresh_kernel(folder, monkeypatch)
    assert kernel(2) == 6
    (entry,) = entries(folder)
    entry.unlink()
    folder.rmdir()
    assert kernel(2.5) == 7.5 and len(entries(folder)) == 1
    assert fresh_kernel(folder, monkeypatch)(2) == 6 and len(entries(folder)) == 2


def other_cpu(*magic):
    """Return what stands for Numba's `cpu_target` on another machine."""

    class Target:
        target_context = property(lambda self: self)

        def codegen(self):
            return self

        def magic_tuple(self):
            return magic

    return Target()


def test_the_cache_is_keyed_by_all_that_shapes_machine_code(monkeypatch):
    """Its sources are in test_survivors_rules."""
    here = cachefolder.cpu_target.target_context.codegen().magic_tuple()
    keys = [cachefolder._version_key()]
    changes = [(cachefolder, "BLOCK", 64), (cachefolder, "cpu_target", other_cpu(here[0], here[1], here[2] + ",-fma"))]
    changes += [(cachefolder, "cpu_target", other_cpu(here[0], "another", here[2])), (numba.config, "OPT", "0")]
    changes += [(getattr(cachefolder, module), "__version__", "0.0") for module in ("numba", "llvmlite", "numpy")]
    for place, name, value in changes:
        with monkeypatch.context() as changed:
            changed.setattr(place, name, value)
            keys.append(cachefolder._version_key())
    assert len(set(keys)) == len(keys) == 8
    assert cachefolder._version_key() == keys[0]


def test_kernels_are_made_of_nothing_but_the_hashed_sources():
    """A helper or constant from elsewhere would change without the folder's name: only BLOCK is, and it is hashed."""
    outside = set()
    for info in pkgutil.iter_modules(numba_cpu.__path__, f"{numba_cpu.__name__}."):
        names = vars(importlib.import_module(info.name))
        for kernel in [value for value in names.values() if isinstance(value, Dispatcher)]:
            used = {name: kernel.py_func.__globals__.get(name) for name in kernel.py_func.__code__.co_names}
            places = {name: getattr(value, "__module__", None) for name, value in used.items()}
            outside |= {
                name for name, place in places.items() if str(place).startswith("pagnp") and ".backends" not in place
            }
    assert not outside


def test_a_library_is_told_through_logging_alone(tmp_path, monkeypatch, caplog, capfd):
    kernel = fresh_kernel(tmp_path, monkeypatch)
    with caplog.at_level(logging.INFO, logger="pagnp"):
        kernel(2), kernel(2.5)
    assert [record.getMessage().split(",")[0] for record in caplog.records if record.name == "pagnp"] == [
        "compiling kernels for this machine"
    ]
    assert capfd.readouterr() == ("", "")
    heard = []
    with notices.heard_by(heard.append):
        fresh_kernel(tmp_path / "elsewhere", monkeypatch)(2)
        fresh_kernel(tmp_path, monkeypatch)(2)  # there already
    assert len(heard) == 1 and not notices._listeners
