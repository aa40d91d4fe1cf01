"""Writing files: whole or not at all, nothing left behind, and errors that name the folder."""

import os

import pytest

from pagnp import files
from pagnp.errors import UsageError


def test_write_atomic(tmp_path):
    path = tmp_path / "out.bin"
    files.write_atomic(path, b"one")
    files.write_atomic(str(path), b"two")
    assert path.read_bytes() == b"two"
    with pytest.raises(UsageError, match=r"out\.bin: exists already; add --overwrite"):
        files.write_atomic(path, b"three", overwrite=False)
    files.write_atomic(tmp_path / "new.bin", b"four", overwrite=False)
    umask = os.umask(0)
    os.umask(umask)
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"out.bin": b"two", "new.bin": b"four"}


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left on device"), UsageError), (KeyboardInterrupt(), KeyboardInterrupt)],
)
@pytest.mark.parametrize("overwrite", [True, False])
def test_write_atomic_leaves_nothing_behind(error, raised, overwrite, tmp_path, monkeypatch):
    path = tmp_path / "out.bin"

    def fail(*_):
        raise error

    monkeypatch.setattr(files, "_publish", fail)
    with pytest.raises(raised) as caught:
        files.write_atomic(path, b"one", overwrite)
    if raised is UsageError:
        assert f"{path}: cannot write to folder {tmp_path} (No space left on device)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_write_atomic_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refuse)
    files.write_atomic(tmp_path / "out.bin", b"one", overwrite=False)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"one"]


def test_write_atomic_refuses_folders(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        files.write_atomic(tmp_path, b"one")
    with pytest.raises(UsageError, match=r"cannot write to folder .*missing \(No such file or directory\)"):
        files.write_atomic(tmp_path / "missing" / "out.bin", b"one")


def test_make_folder(tmp_path):
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file.deeper: cannot write to folder .*file \(Not a directory\)"):
        files.make_folder(tmp_path / "file" / "deeper")


def test_write_atomic_refuses_a_name_that_is_too_long(tmp_path):
    with pytest.raises(UsageError, match="cannot write to folder .*name too long"):
        files.write_atomic(tmp_path / ("a" * 300), b"one")
