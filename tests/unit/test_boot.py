"""@reboot's mark: once per boot id, also after a restart; never silently lost where there is no id."""

from tidegate.supervisor import boot


def test_a_boot_is_claimed_once_and_the_next_one_again(tmp_path):
    assert boot.claim(tmp_path, "boot-1")
    assert not boot.claim(tmp_path, "boot-1")
    assert boot.claim(tmp_path, "boot-2")
    assert not boot.claim(tmp_path, "boot-2")


def test_a_boot_without_an_id_cannot_be_told_from_the_last_and_is_claimed_each_time(tmp_path):
    assert boot.boot_id(tmp_path / "missing") == ""
    assert boot.claim(tmp_path, "")
    assert boot.claim(tmp_path, "")


def test_a_mark_that_was_half_written_is_no_claim(tmp_path):
    (tmp_path / "boot-id.new").write_text("boot-1\n")
    (tmp_path / "boot-id").write_bytes(b"\xff\xfe")
    assert boot.claim(tmp_path, "boot-1")
