"""memheft: what a Python program weighs, and where the weight is.

    with memheft.record() as recording:
        work()
    print(recording.peak)

All sizes are bytes, all times nanoseconds from the recording's start.  What is exported here is imported when
it is first used, and the engine when it first records or reads.
"""

from memheft._version import __version__

TYPE_CHECKING = False  # as in typing, without importing it
if TYPE_CHECKING:
    from memheft.difference import Change, Difference
    from memheft.errors import Error, FormatError, RecordingError
    from memheft.recorder import Recorded, Recorder, record
    from memheft.recording import Recording, current_recording, open  # noqa: A004
    from memheft.regions import Region, region
    from memheft.tables import Frame, Row, View
    from memheft.timeline import Point, Timeline

__all__ = [
    "Change",
    "Difference",
    "Error",
    "FormatError",
    "Frame",
    "Point",
    "Recorded",
    "Recorder",
    "Recording",
    "RecordingError",
    "Region",
    "Row",
    "Timeline",
    "View",
    "__version__",
    "current_recording",
    "open",
    "record",
    "region",
]

_HOMES = {
    "Change": "difference",
    "Difference": "difference",
    "Error": "errors",
    "FormatError": "errors",
    "RecordingError": "errors",
    "Recorded": "recorder",
    "Recorder": "recorder",
    "record": "recorder",
    "Recording": "recording",
    "current_recording": "recording",
    "open": "recording",
    "Region": "regions",
    "region": "regions",
    "Frame": "tables",
    "Row": "tables",
    "View": "tables",
    "Point": "timeline",
    "Timeline": "timeline",
}

if not TYPE_CHECKING:  # to a type checker, what is not above is an error

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'memheft' has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"memheft.{home}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
