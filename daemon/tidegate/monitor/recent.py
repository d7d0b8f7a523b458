"""The readings of the last second or so, and what a new one tells with them. Reads nothing itself."""

from collections import deque
from typing import Final

from msgspec.structs import replace

from tidegate.model.sample import Reading, Sample, sample

READINGS_MAX: Final = 256  # kept, however long the time and however short the interval


class Recent:
    """Readings of one machine, each after the one before."""

    def __init__(self) -> None:
        self._readings: deque[Reading] = deque(maxlen=READINGS_MAX)

    @property
    def newest(self) -> Reading | None:
        return self._readings[-1] if self._readings else None

    def begin(self, reading: Reading | None = None) -> None:
        """What was before says nothing of now; and nothing before this reading does."""
        self._readings.clear()
        if reading is not None:
            self._readings.append(reading)

    def add(self, reading: Reading, load_s: float, late_s: float) -> Sample:
        """Everything since the newest reading; the load over the last `load_s` (and `late_s`, if a reading came so much
        late), as single readings of it swing."""
        readings = self._readings
        found = sample(self.newest, reading)
        while len(readings) > 1 and reading.at_s - readings[1].at_s >= load_s - late_s:
            readings.popleft()
        if len(readings) > 1:
            longer = sample(readings[0], reading)
            found = replace(found, load_ratio=longer.load_ratio, load_source=longer.load_source)
        readings.append(reading)
        return found
