"""The zone of this machine, where nobody names one. Reads what the system says; keeps nothing."""

import warnings


def system_timezone() -> str:
    """The IANA name of the system's zone, "" where there is none."""
    import tzlocal  # where the zone is written, nobody needs it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return tzlocal.get_localzone_name() or ""
        except (LookupError, ValueError, OSError):
            return ""
