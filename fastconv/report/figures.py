"""How figures are written, always with their unit: 1.24 ms, 38.2 GB/s, 1,250 x."""

__all__ = ["error", "places", "rate", "shape", "share", "size", "speedup", "time"]

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def places(value: float) -> str:
    """Three figures, no exponent: 0.123, 1.24, 38.2, 1,250."""
    value = float(f"{value:.3g}") if value < 100 else value
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def time(seconds: float) -> str:
    size, unit = next((u for u in _UNITS if seconds >= 0.9995 * u[0]), _UNITS[-1])
    return f"{places(seconds / size)} {unit}"


def rate(value: float, unit: str) -> str:
    return f"{places(value)} {unit}"


def speedup(value: float) -> str:
    return f"{places(value)} ×"


def share(value: float) -> str:
    return f"{100 * value:.{0 if value >= 0.1 or not value else 1}f} %"


def error(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def shape(sizes: tuple[int, ...] | list[int] | None) -> str:
    return " × ".join(map(str, sizes)) if sizes else ""


def size(nbytes: int) -> str:
    return f"{nbytes / 2**20:g} MiB" if nbytes >= 2**20 else f"{nbytes / 2**10:g} KiB"
