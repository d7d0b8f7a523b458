"""Tells by mail, over SMTP: what happened, when, why, and the last lines that the run wrote."""

import asyncio
import smtplib
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from tidegate.hooks.notice import Notice
from tidegate.hooks.sending import Sent, Threads, fence, trouble
from tidegate.model.plan import Mail
from tidegate.model.text import escape
from tidegate.settings.secret import read_secret

TLS_PORT: Final = 465  # TLS from the first byte


class Post:
    """One mail account."""

    def __init__(self, mail: Mail, timeout_s: float, threads: Threads, lines: Callable[[Notice], list[str]]) -> None:
        self._mail = mail
        self._timeout_s = timeout_s
        self._threads = threads
        self._lines = lines

    async def send(self, notice: Notice) -> Sent:
        """One try, in a thread. Out of time its connection is shut, so that the thread ends as well."""
        opened: list[smtplib.SMTP] = []
        try:
            return await self._threads.run(lambda: self._send(notice, opened))
        except asyncio.CancelledError:
            for connection in opened:
                with suppress(OSError):
                    if connection.sock is not None:
                        connection.sock.shutdown(socket.SHUT_RDWR)
            raise

    def _send(self, notice: Notice, opened: list[smtplib.SMTP]) -> Sent:
        mail = self._mail
        try:
            # Read for each mail: it may have been changed.
            password = read_secret(mail.password_file) if mail.user and mail.password_file else ""
        except ValueError as error:
            return Sent(False, f"password_file: {error}")
        message = message_of(notice, mail, socket.gethostname(), self._lines(notice))
        try:
            refused = self._talk(message, password, opened)
        except smtplib.SMTPNotSupportedError as error:
            return Sent(False, f"{mail.smtp}: {error}; check starttls and user")
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            return Sent(
                False, f"{mail.smtp} takes none of the addresses: {_refusals(error.recipients)}", min(codes) < 500
            )
        except smtplib.SMTPResponseException as error:
            text = f"{mail.smtp} answered {error.smtp_code} {_text(error.smtp_error)}"
            return Sent(False, text, 400 <= error.smtp_code < 500)
        except ssl.SSLCertVerificationError as error:
            return Sent(False, f"the certificate of {mail.smtp} is not trusted: {error.verify_message}; mend it")
        except TimeoutError:
            return Sent(False, f"{mail.smtp} did not answer in time{fence()}", True)
        except (smtplib.SMTPException, ssl.SSLError) as error:
            return Sent(False, f"{mail.smtp}: {error}", True)
        except OSError as error:
            why = f"{mail.smtp}: {trouble(error)}; is it running and reachable?"
            return Sent(False, why + fence(), True)
        return Sent(True, f"{mail.smtp} takes not all of the addresses: {_refusals(refused)}" if refused else "")

    def _talk(self, message: EmailMessage, password: str, opened: list[smtplib.SMTP]) -> dict[str, tuple[int, bytes]]:
        host, port = server_of(self._mail.smtp)
        context = ssl.create_default_context() if self._mail.starttls or port == TLS_PORT else None
        name, timeout_s = socket.gethostname(), self._timeout_s
        connection = (
            smtplib.SMTP_SSL(local_hostname=name, timeout=timeout_s, context=context)
            if port == TLS_PORT
            else smtplib.SMTP(local_hostname=name, timeout=timeout_s)
        )
        opened.append(connection)
        try:
            connection._host = host  # type: ignore[attr-defined]  # what certificates are checked against; see smtplib
            connection.connect(host, port)
            if self._mail.starttls and port != TLS_PORT:
                connection.starttls(context=context)
            if self._mail.user:
                connection.login(self._mail.user, password)
            refused = connection.send_message(message)
            with suppress(smtplib.SMTPException, OSError):  # it has the mail: how it says goodbye is its own affair
                connection.quit()
            return refused
        finally:
            connection.close()


def message_of(notice: Notice, mail: Mail, host: str, lines: list[str]) -> EmailMessage:
    """The mail. Every value is escaped: no job name or reason adds a header or steers a terminal."""
    name = escape(host)
    message = EmailMessage()
    message["From"] = mail.sender or f"tidegate@{name}"
    message["To"] = ", ".join(mail.to)
    message["Subject"] = f"[{name}] {notice.sentence}"[:200]
    message["Date"] = format_datetime(notice.at)
    message["Message-ID"] = f"<{escape(notice.key)}@{name}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Tidegate-Event"] = notice.event.value
    message["X-Tidegate-Job"] = escape(notice.job)
    message.set_content(text_of(notice, name, lines))
    return message


def text_of(notice: Notice, host: str, lines: list[str]) -> str:
    """What a person reads."""
    run = notice.run
    rows = [("job", notice.job), ("host", host), ("event", notice.event.value), ("at", _time(notice))]
    if run is not None:
        rows += [
            ("run", f"{run.run_id}, attempt {run.attempt}, by {run.cause.value}"),
            ("due", run.scheduled_at.isoformat(timespec="seconds")),
            ("started", run.started_at.isoformat(timespec="seconds") if run.started_at else "never"),
            ("ended", run.ended_at.isoformat(timespec="seconds") if run.ended_at else ""),
            ("took", f"{run.duration_s:.1f} s" if run.duration_s is not None else ""),
            ("outcome", run.outcome.value if run.outcome else ""),
            ("exit code", str(run.exit_code) if run.exit_code is not None else ""),
            ("signal", str(run.signal) if run.signal is not None else ""),
        ]
    parts = [notice.sentence, "", *(f"{key + ':':<11}{escape(value)}" for key, value in rows if value)]
    if lines:
        parts += ["", f"The last {len(lines)} lines of its output:", "", *(f"    {line}" for line in lines)]
    if run is not None:
        parts += ["", f"All of it: tidegate logs {run.run_id}"]
    parts.append(f"Why: tidegate why {escape(notice.job)}")
    return "\n".join(parts) + "\n"


def server_of(written: str) -> tuple[str, int]:
    """host:port, [v6]:port; a host alone is port 25."""
    host, colon, port = written.rpartition(":")
    if not colon or not port.isdecimal():
        return written.strip("[]"), 25
    return host.strip("[]"), int(port)


def _time(notice: Notice) -> str:
    return notice.at.isoformat(timespec="seconds")


def _refusals(refused: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{address}: {code} {_text(text)}" for address, (code, text) in list(refused.items())[:5])


def _text(said: bytes | str) -> str:
    return (said.decode(errors="replace") if isinstance(said, bytes) else said)[:200]
