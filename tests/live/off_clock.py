"""`fnrun` on a machine whose clock is off: `off_clock.py SECONDS ARGUMENTS...`."""

import datetime
import sys
import time

OFF = float(sys.argv.pop(1))
_time, _time_ns, _datetime = time.time, time.time_ns, datetime.datetime


class _AnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _datetime)


class Off(_datetime, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=OFF) if tz is None else cls._in(tz)

    @classmethod
    def _in(cls, tz):
        utc = _datetime.now(datetime.UTC).replace(tzinfo=tz) + datetime.timedelta(seconds=OFF)
        return tz.fromutc(utc)


time.time = lambda: _time() + OFF
time.time_ns = lambda: _time_ns() + int(OFF * 1e9)
datetime.datetime = Off

if __name__ == "__main__":
    from runtime.cli import main

    main()
