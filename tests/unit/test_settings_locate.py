"""The position scanner: where every key stands, in every way that TOML can write it."""

import pytest
import tomli

from tidegate.settings.locate import Keys, lines, too_deep


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb = 2\n", {("a",): 1, ("b",): 2}),
        ("[t]\na = 1\n", {("t",): 1, ("t", "a"): 2}),
        ("[t . u]\na.b . c = 1\n", {("t", "u"): 1, ("t", "u", "a"): 2, ("t", "u", "a", "b", "c"): 2}),
        ('"a.b" = 1\n\'c d\'."e" = 2\n', {("a.b",): 1, ("c d",): 2, ("c d", "e"): 2}),
        ('"\\u0061\\n" = 1\n', {("a\n",): 1}),
        ('[jobs."x.y"]\nk = 1\n', {("jobs", "x.y"): 1, ("jobs", "x.y", "k"): 2}),
        ("t = { a = 1, b.c = { d = 2 } }\n", {("t", "a"): 1, ("t", "b", "c", "d"): 1}),
        ("a = [\n  1,\n  [2,\n   3],\n]\nb = 4\n", {("a", 0): 2, ("a", 1, 0): 3, ("a", 1, 1): 4, ("b",): 6}),
        ("a = [ # ] [\n 1, # x = [\n {b = 2}, ]\nc = 1\n", {("a", 0): 2, ("a", 1): 3, ("a", 1, "b"): 3, ("c",): 4}),
        ('a = """\n[t]\nx = 1 \\"""\n"" """\nb = 1\n', {("a",): 1, ("b",): 5}),
        ("a = '''\n[t]\nx = \"\"\" ' ''\n'''\nb = 1\n", {("a",): 1, ("b",): 5}),
        ('a = """"two quotes""""\nb = 1\n', {("a",): 1, ("b",): 2}),
        ('a = """x"""""\nb = 1\n', {("a",): 1, ("b",): 2}),
        ('a = ""\nb = \'\'\nc = "]}\\""\nd = "#"\n', {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4}),
        ("[[a]]\nk = 1\n[[a]]\nk = 2\n[a.b]\nc = 3\n", {("a", 0, "k"): 2, ("a", 1, "k"): 4, ("a", 1, "b", "c"): 6}),
        ("[[a]]\n[[a.b]]\nk=1\n[[a.b]]\nk=2\n", {("a", 0, "b", 0, "k"): 3, ("a", 0, "b", 1, "k"): 5}),
        ("[t.u]\na = 1\n[t]\nb = 2\n", {("t",): 3, ("t", "u"): 1, ("t", "b"): 4}),
        ("a = 2026-12-24 18:00:00\nb = -inf\nc = 1_0.5e+3\n", {("a",): 1, ("b",): 2, ("c",): 3}),
        ("\r\na = 1\r\n# c\r\nb = 2\r\n", {("a",): 2, ("b",): 4}),
        ("# only\n", {}),
        ("", {}),
    ],
)
def test_every_key_has_its_line(text: str, expected: dict[Keys, int]) -> None:
    tomli.loads(text)
    found = lines(text)
    assert {keys: found.get(keys) for keys in expected} == expected


def keys_of(value: object, keys: Keys = ()) -> set[Keys]:
    """Every key and item of a parsed file."""
    items: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = {keys} if keys else set()
    for key, item in items:
        found |= keys_of(item, (*keys, key))
    return found


def test_no_key_is_missed_and_none_invented() -> None:
    text = """
a.b = 1
"q.x".'y' = [1, [2,
 3], {z = "]", w.v=2}]  # c [
s = \"\"\"
[not]
\"\"\"
[jobs.x]
command = [
  "a", # one
  "b"]
env = { "A" = '''x''', B = "}" }
[[arr]]
k=1
[[arr]]
k=2
[arr.sub]
d = 2026-12-24 18:00:00
"""
    assert set(lines(text)) == keys_of(tomli.loads(text))


@pytest.mark.parametrize(
    "text", ["a = ", "[a", "a = [1", 'a = "', 'a = """x', "= 1", "a b", "[[x]", '"\\q" = 1', "a..b = 1"]
)
def test_what_is_not_toml_ends_the_scan_in_silence(text: str) -> None:
    assert lines(f"x = 1\n{text}")[("x",)] == 1


def test_depth_is_told_with_its_line() -> None:
    assert too_deep("a = [[1]]\n", 3) == 0
    assert too_deep("x = 1\na = [\n[[1]]]\n", 3) == 3
    assert too_deep("x = 1\na.b.c.d = 1\n", 3) == 2
    assert too_deep("[a.b]\nc = { d = 1 }\n", 3) == 2
    assert too_deep('a = "[[[[[[["\n', 3) == 0
