import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.base.errors import SettingsError
from runtime.base.secrets.files import Entry, is_readable_by_others, read_entries, rewrite


def test_a_file_is_read_without_interpolation(tmp_path):
    (tmp_path / ".env").write_text("# c\nA=1 # one\nexport B=\"x\ny\"\n\nC='${A}'\nD=$A\nE=\n")
    assert read_entries(tmp_path / ".env") == {
        "A": Entry("A", "1", ".env:2"),
        "B": Entry("B", "x\ny", ".env:3"),
        "C": Entry("C", "${A}", ".env:6"),
        "D": Entry("D", "$A", ".env:7"),
        "E": Entry("E", "", ".env:8"),
    }
    assert read_entries(tmp_path / "nothing") == {}
    assert "x\ny" not in repr(read_entries(tmp_path / ".env"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"A=1\nhunter2\n", ".env:2: NAME=value is expected"),
        (b"A=1\n\nB='hunter2\n", ".env:3: NAME=value is expected"),
        (b"A=1\nB=2\nA=hunter2\n", ".env:3: A stands at .env:1 already; keep one"),
        (b"A=\xff\n", ".env is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_the_line_and_without_values(content, message, tmp_path):
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        read_entries(tmp_path / ".env")
    assert "hunter2" not in str(caught.value)


def test_a_folder_in_its_place_is_an_error(tmp_path):
    (tmp_path / ".env").mkdir()
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        read_entries(tmp_path / ".env")


def test_rewriting_keeps_comments_order_and_mode(tmp_path):
    path = tmp_path / ".secrets"
    path.write_text("# ours\nexport A='old'  # why\n\nB=2\nC=\"a\\nb\"\nD=\n# end")
    path.chmod(0o640)
    new = {"A": "new", "C": "one", "D": "two"}
    rewrite(path, lambda entry: new.get(entry.name, entry.value), [("E", "5")])
    assert path.read_text() == "# ours\nexport A='new'  # why\n\nB=2\nC=one\nD=two\n# end\nE=5\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [one.name for one in tmp_path.iterdir()] == [".secrets"]


def test_a_new_file_is_its_owners_alone_and_a_link_stays_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "secrets", tmp_path / ".secrets"
    link.symlink_to(real)
    rewrite(link, lambda entry: entry.value, [("A", "1")])
    assert link.is_symlink()
    assert real.read_text() == "A=1\n"
    assert not is_readable_by_others(link)
    real.chmod(0o644)
    assert is_readable_by_others(link)
    assert not is_readable_by_others(tmp_path / "nowhere")


def test_a_folder_that_cannot_be_written_is_told():
    with pytest.raises(SettingsError, match="cannot be written: "):  # not by root either
        rewrite(Path("/proc/.secrets"), lambda entry: entry.value, [("A", "1")])


def test_what_fails_midway_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / ".secrets"
    path.write_text("A=1\n")

    def fail(_):
        raise KeyError

    with pytest.raises(KeyError):
        rewrite(path, fail)
    assert path.read_text() == "A=1\n"
    assert [one.name for one in tmp_path.iterdir()] == [".secrets"]


def test_many_who_write_at_once_lose_nothing(tmp_path):
    path = tmp_path / ".secrets"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: rewrite(path, lambda entry: entry.value, [(f"A{n % 16}", "1")]), range(32)))
    assert sorted(read_entries(path)) == sorted(f"A{n}" for n in range(16))
    assert [one.name for one in tmp_path.iterdir()] == [".secrets"]
