"""Threat 21: what is shown of a job holds no secret of it."""

import time

import msgspec
import pytest

from tidegate.model.job import Job, Ping
from tidegate.model.plan import Hook
from tidegate.model.redact import mask, mask_argv, mask_env, mask_url, redacted, redacted_hook, tells_of_secret


@pytest.mark.parametrize(
    "name",
    [
        *(
            "PASSWORD",
            "PGPASSWORD",
            "DB_PASS",
            "MYSQL_PWD",
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "apiKey",
            "API_KEY",
        ),
        *("apikey", "SENTRY_DSN", "HTTP_AUTH", "PRIVATE", "CREDENTIALS", "x-api-key", "--password", "SESSION_COOKIE"),
        *("authorization", "BORG_PASSPHRASE", "sig"),
    ],
)
def test_a_name_that_tells_of_a_secret_is_known(name: str) -> None:
    assert tells_of_secret(name)


@pytest.mark.parametrize(
    "name", ["HOME", "KEYBOARD", "PWD", "PGPASSFILE", "SSH_AUTH_SOCK", "AUTHOR", "MONKEY", "--token-file", "", "LANG"]
)
def test_a_name_that_does_not_is_let_through(name: str) -> None:
    assert not tells_of_secret(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pg://app:hunter2@db/x", "pg://app:***@db/x"),
        ("https://ghp_abc@github.com/x.git", "https://***@github.com/x.git"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("curl 'https://x/?a=1&token=abc&b=2'", "curl 'https://x/?a=1&token=***&b=2'"),
        ("PGPASSWORD=hunter2 pg_dump app", "PGPASSWORD=*** pg_dump app"),
        ("PASSWORD='two words' run", "PASSWORD=*** run"),
        ('PASSWORD="two \\" words"x run', "PASSWORD=*** run"),
        ("PASSWORD=two\\ words run", "PASSWORD=*** run"),
        ("PASSWORD='never closed", "PASSWORD=***"),
        ("run --password=hunter2 --x=1", "run --password=*** --x=1"),
        ("run --password hunter2 -v", "run --password *** -v"),
        ("run --password-file /etc/x", "run --password-file /etc/x"),
        ("run --token --verbose", "run --token --verbose"),
        ("curl -u bob:hunter2 https://x/", "curl -u bob:*** https://x/"),
        ("curl --user=bob:hunter2 https://x/", "curl --user=bob:*** https://x/"),
        ("curl -H 'Authorization: Bearer abcdef123' https://x/", "curl -H 'Authorization: ***' https://x/"),
        ("got Bearer abcdef123 back", "got Bearer *** back"),
        ('{"password": "hun ter", "a": 1}', '{"password": "***", "a": 1}'),
        ("X-Api-Key: abc", "X-Api-Key: ***"),
        ("make report", "make report"),
        ("cd /srv && ./x --date=2026-01-01 http://h:80/p", "cd /srv && ./x --date=2026-01-01 http://h:80/p"),
        ("date -u; echo 12:30", "date -u; echo 12:30"),
    ],
)
def test_free_text_keeps_all_but_the_secret(text: str, shown: str) -> None:
    assert mask(text) == shown


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["x", "--password", "hunter2", "y"], ["x", "--password", "***", "y"]),
        (["x", "--password=two words; & more", "y"], ["x", "--password=***", "y"]),
        (["x", "--token", "-v"], ["x", "--token", "-v"]),
        (["curl", "-u", "bob:hunter2", "https://x"], ["curl", "-u", "bob:***", "https://x"]),
        (["env", "SECRET=a b", "run"], ["env", "SECRET=***", "run"]),
        (["psql", "postgres://a:b@h/d"], ["psql", "postgres://a:***@h/d"]),
        (["sh", "-c", "PASS=x run"], ["sh", "-c", "PASS=***"]),
        (["cp", "/etc/passwd", "/tmp/x"], ["cp", "/etc/passwd", "/tmp/x"]),
    ],
)
def test_arguments_keep_all_but_the_secret(argv: list[str], shown: list[str]) -> None:
    assert mask_argv(argv) == shown


def test_variables_hide_by_name_and_by_what_they_hold() -> None:
    env = {"DB_PASSWORD": "x", "URL": "amqp://u:p@h", "EMPTY_TOKEN": "", "LANG": "C"}
    assert mask_env(env) == {"DB_PASSWORD": "***", "URL": "amqp://u:***@h", "EMPTY_TOKEN": "", "LANG": "C"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("https://hc.example.org/uuid-1", "https://hc.example.org/***"),
        ("http://u:p@h:80/", "http://h:80/"),
        ("https://h?x=1", "https://h/***"),
        ("junk", "***"),
    ],
)
def test_an_address_to_be_told_keeps_its_host(url: str, shown: str) -> None:
    assert mask_url(url) == shown


def test_a_definition_is_shown_without_any_of_its_secrets() -> None:
    job = Job(
        name="x",
        command=("run", "--api-key=s3cret", "https://a:s3cret@h/"),
        shell="TOKEN=s3cret run",
        description="see https://u:s3cret@h",
        env={"K_TOKEN": "s3cret"},
        ping=Ping(start="https://h/s3cret", success="https://h/s3cret", failure="https://h/s3cret"),
    )
    shown = redacted(job)
    assert b"s3cret" not in msgspec.json.encode(shown)
    assert set(shown) == set(Job.__struct_fields__)
    assert job.env == {"K_TOKEN": "s3cret"}
    hook = Hook(name="h", webhook="https://h/s3cret", headers={"A": "s3cret"}, command=("x", "--token", "s3cret"))
    assert b"s3cret" not in msgspec.json.encode(redacted_hook(hook))


@pytest.mark.parametrize(
    "piece",
    ["a", "=", "a=", "://", "x://a", "-u a:", "'", '"', "pass=", "password:", "--p ", "\\", "@", ":@", "bearer "],
)
def test_long_text_is_masked_in_linear_time(piece: str) -> None:
    text = (piece * (200_000 // len(piece)))[:200_000]
    began = time.process_time()
    mask(text)
    assert time.process_time() - began < 1.0
