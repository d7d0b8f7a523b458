"""One hook's line: messages in order, one at a time, each tried until it is through or given up. Knows no way."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable

from loguru import logger

from tidegate.failpoint import hit
from tidegate.hooks.notice import Notice
from tidegate.hooks.sending import Sent, Way, fence, trouble
from tidegate.model.limits import HOOK_QUEUE_MAX, HOOK_RETRY_AFTER_S_MAX, HOOK_RETRY_S, HOOK_RETRY_S_MAX
from tidegate.model.text import counted, escape

Pause = Callable[[float], Awaitable[None]]


class Lane:
    """Bounded. Has a task only while there is something to tell."""

    def __init__(
        self,
        name: str,
        totals: Counter[tuple[str, ...]],
        at_once: asyncio.Semaphore,
        pause: Pause,
        *,
        timeout_s: float,
        retries: int,
        tell_once: bool = False,
    ) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self.retries = retries
        self._totals = totals
        self._at_once = at_once
        self._pause = pause
        self._tell_once = tell_once  # that it fails is told again only after it worked
        self._failing = False
        self._waiting: deque[tuple[Notice, Way]] = deque()
        self._dropped = 0  # since the line was last empty
        self._task: asyncio.Task[None] | None = None
        self._under_way = 0

    @property
    def left(self) -> int:
        """Messages not yet delivered or given up."""
        return len(self._waiting) + self._under_way

    def put(self, notice: Notice, way: Way) -> None:
        """At the end of the line. Over the limit the oldest is dropped: news are worth more."""
        if len(self._waiting) >= HOOK_QUEUE_MAX:
            self._waiting.popleft()
            self._dropped += 1
            self._totals[self.name, "dropped"] += 1
            if self._dropped == 1:
                logger.bind(event="hook.dropped", job=notice.job, hook=self.name).warning(
                    'hook "{}" cannot keep up: {} wait, the oldest are dropped; is what it tells slow or down?',
                    self.name,
                    counted(HOOK_QUEUE_MAX, "message"),
                )
        self._waiting.append((notice, way))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._deliver_all())

    async def idle(self) -> None:
        """Wait until nothing is left."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def stop(self) -> int:
        """Give up what is left; how many messages that were."""
        left = self.left
        self._waiting.clear()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        self._totals[self.name, "dropped"] += left
        return left

    async def _deliver_all(self) -> None:
        while self._waiting:
            notice, way = self._waiting.popleft()
            self._under_way = 1
            try:
                await self._deliver(notice, way)
            finally:
                self._under_way = 0
        if self._dropped > 1:
            logger.bind(event="hook.dropped", hook=self.name, count=self._dropped).warning(
                'hook "{}" keeps up again; {} were dropped', self.name, counted(self._dropped, "message")
            )
        self._dropped = 0

    async def _deliver(self, notice: Notice, way: Way) -> None:
        tries = 0
        while True:
            tries += 1
            sent = await self._try(notice, way)
            if sent.delivered or not sent.again or tries > self.retries:
                break
            logger.bind(event="hook.retrying", job=notice.job, hook=self.name).debug(
                'hook "{}" will be tried again: {}', self.name, escape(sent.reason)
            )
            await self._pause(_wait_s(tries, sent.after_s))
        self._totals[self.name, "delivered" if sent.delivered else "failed"] += 1
        self._say(notice, sent, tries)

    async def _try(self, notice: Notice, way: Way) -> Sent:
        try:
            async with self._at_once, asyncio.timeout(self.timeout_s):
                hit("hook.before")
                return await way.send(notice)
        except TimeoutError:
            late = f"no answer within {self.timeout_s:g} s; see what holds it up, or raise timeout"
            return Sent(False, late + fence(), True)
        except OSError as error:
            return Sent(False, f"{trouble(error)}; is it running and reachable?{fence()}", True)
        except Exception as error:  # noqa: BLE001  # a hook never takes the daemon down; its text may hold a secret
            return Sent(False, f"an error of tidegate itself, please report it: {type(error).__name__}")

    def _say(self, notice: Notice, sent: Sent, tries: int) -> None:
        was_failing, self._failing = self._failing, not sent.delivered
        log = logger.bind(job=notice.job, hook=self.name, reason=escape(sent.reason))
        if not sent.delivered:
            loud = "DEBUG" if self._tell_once and was_failing else "WARNING"
            text = 'hook "{}" did not tell of {} after {}: {}'
            log.bind(event="hook.failed").log(
                loud, text, self.name, notice.event.value, counted(tries, "try").replace("trys", "tries"),
                escape(sent.reason),
            )  # fmt: skip
        elif sent.reason or was_failing:
            level = "WARNING" if sent.reason else "INFO"
            log.bind(event="hook.delivered").log(
                level,
                'hook "{}" told of {}: {}',
                self.name,
                notice.event.value,
                escape(sent.reason) or "it works again",
            )
        else:
            log.bind(event="hook.delivered").debug('hook "{}" told of {}', self.name, notice.event.value)


def _wait_s(tries: int, asked_for_s: float | None) -> float:
    """Doubling, with a jitter of a quarter either way: many daemons must not come back together."""
    backoff_s = min(HOOK_RETRY_S * 2.0 ** min(tries - 1, 30), HOOK_RETRY_S_MAX) * random.uniform(0.75, 1.25)
    return max(backoff_s, min(asked_for_s or 0.0, HOOK_RETRY_AFTER_S_MAX))
