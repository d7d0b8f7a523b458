"""Where things are when nobody says."""

from pathlib import Path

import pytest

from tidegate.settings.places import config_path, runtime_dir, state_dir

HOME = {"HOME": "/home/ann"}


@pytest.mark.parametrize(
    ("explicit", "environ", "uid", "expected"),
    [
        ("x.toml", {"TIDEGATE_CONFIG": "/y.toml"}, 0, "x.toml"),
        (None, {"TIDEGATE_CONFIG": "/y.toml"}, 0, "/y.toml"),
        (None, {}, 0, "/etc/tidegate/tidegate.toml"),
        (None, HOME, 1000, "/home/ann/.config/tidegate/tidegate.toml"),
        (None, {"XDG_CONFIG_HOME": "/c", **HOME}, 1000, "/c/tidegate/tidegate.toml"),
        (None, {"XDG_CONFIG_HOME": "c", **HOME}, 1000, "/home/ann/.config/tidegate/tidegate.toml"),
        (
            None,
            {"XDG_CONFIG_HOME": "", "TIDEGATE_CONFIG": "", **HOME},
            1000,
            "/home/ann/.config/tidegate/tidegate.toml",
        ),
        (None, {}, 1000, "/.config/tidegate/tidegate.toml"),
    ],
)
def test_configuration(explicit: str | None, environ: dict[str, str], uid: int, expected: str) -> None:
    assert config_path(explicit, environ, uid) == Path(expected)


@pytest.mark.parametrize(
    ("environ", "uid", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/t:/var/lib/u"}, 1000, "/var/lib/t"),
        ({}, 0, "/var/lib/tidegate"),
        ({"XDG_STATE_HOME": "/s", **HOME}, 1000, "/s/tidegate"),
        (HOME, 1000, "/home/ann/.local/state/tidegate"),
    ],
)
def test_state(environ: dict[str, str], uid: int, expected: str) -> None:
    assert state_dir(environ, uid) == Path(expected)


@pytest.mark.parametrize(
    ("environ", "uid", "expected"),
    [
        ({"RUNTIME_DIRECTORY": "/run/t:/run/u"}, 1000, "/run/t"),
        ({}, 0, "/run/tidegate"),
        ({"XDG_RUNTIME_DIR": "/run/user/1000", **HOME}, 1000, "/run/user/1000/tidegate"),
        (HOME, 1000, "/home/ann/.local/state/tidegate/run"),
    ],
)
def test_runtime(environ: dict[str, str], uid: int, expected: str) -> None:
    assert runtime_dir(environ, uid) == Path(expected)


def test_without_a_runtime_folder_of_the_session_it_is_beneath_the_state_that_was_chosen() -> None:
    assert runtime_dir(HOME, 1000, Path("/elsewhere")) == Path("/elsewhere/run")
