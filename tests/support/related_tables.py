"""Tables whose columns are related in known ways, or not at all."""

import numpy as np
import pandas as pd

SMALL_COLUMNS = ("a", "b", "total", "zip", "city")


def related_table(num: int, *, seed: int) -> pd.DataFrame:
    """Every kind of relation."""
    generator = np.random.default_rng(seed)
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(generator.integers(0, 500, num), unit="D")
    zips, grades = generator.integers(0, 40, num), generator.integers(0, 5, num)
    tax, net = generator.gamma(2, 100, num).round(2), generator.gamma(2, 50, num).round(2)
    shares = generator.dirichlet([1, 1, 1], num)
    pairs = np.array([(i, j) for i in range(6) for j in range(6) if (i + j) % 3 == 0])
    work = pairs[generator.integers(0, len(pairs), num)]
    low = generator.integers(0, 60, num)
    return pd.DataFrame(
        {
            "start": start,
            "end": start + pd.to_timedelta(generator.integers(1, 8, num), unit="D"),
            "zip": [f"zip {i}" for i in zips],
            "city": [f"city {i // 5}" for i in zips],
            "state": [f"state {i // 20}" for i in zips],
            "grade": np.array(list("ABCDE"))[grades],
            "level": grades + 10,
            "gross": (tax + net).round(2),
            "tax": tax,
            "net": net,
            "copy": net,
            "p": shares[:, 0],
            "q": shares[:, 1],
            "r": 1 - shares[:, 0] - shares[:, 1],
            "dep": [f"dep {i}" for i in work[:, 0]],
            "job": [f"job {i}" for i in work[:, 1]],
            "low": low,
            "high": low + generator.integers(0, 9, num),
        }
    )


def small_related_table(num: int, *, seed: int) -> pd.DataFrame:
    """A sum and a map, over few states."""
    generator = np.random.default_rng(seed)
    a = generator.integers(0, 4, num)
    b = np.clip(a + generator.integers(-1, 2, num), 0, 3)
    zips = np.where(generator.random(num) < 0.7, a, generator.integers(0, 6, num))
    rows = zip(a.tolist(), b.tolist(), zips.tolist(), strict=True)
    return pd.DataFrame([_small_row(*row) for row in rows], columns=list(SMALL_COLUMNS))


def small_related_states() -> pd.DataFrame:
    """All rows that `small_related_table` can have."""
    rows = [_small_row(a, b, level) for a in range(4) for b in range(4) for level in range(6)]
    return pd.DataFrame(rows, columns=list(SMALL_COLUMNS))


def _small_row(a: int, b: int, level: int) -> tuple[int, int, int, str, str]:
    return a, b, a + b, f"z{level}", f"c{level // 2}"


def kept(table: pd.DataFrame, training: pd.DataFrame) -> dict[str, float]:
    """Share of rows that keep each relation of `related_table`."""
    pairs = set(zip(training["dep"], training["job"], strict=True))
    maps = {
        (key, value): dict(zip(training[key], training[value], strict=True))
        for key, value in (("zip", "city"), ("zip", "state"), ("grade", "level"))
    }
    rows = {
        "start < end": table["start"] < table["end"],
        "gross = tax + net": (table["tax"] + table["net"]).round(2) == table["gross"],
        "net = copy": table["net"] == table["copy"],
        "p + q + r = 1": (table["p"] + table["q"] + table["r"] - 1).abs() < 1e-9,
        "dep & job": pd.Series([pair in pairs for pair in zip(table["dep"], table["job"], strict=True)]),
        "low <= high": table["low"] <= table["high"],
        **{f"{key} -> {value}": table[key].map(found) == table[value] for (key, value), found in maps.items()},
    }
    return {name: float(np.mean(each)) for name, each in rows.items()}


def random_table(seed: int) -> pd.DataFrame:
    """Independent columns of every kind, 200 to 5,000 rows."""
    generator = np.random.default_rng(seed)
    num = int(generator.choice([200, 500, 1000, 2000, 5000]))
    table: dict[str, np.ndarray] = {}
    for place in range(3):
        table[f"real {place}"] = generator.normal(size=num)
        table[f"skewed {place}"] = generator.exponential(size=num).round(1)
        table[f"count {place}"] = generator.poisson(generator.choice([0.1, 1, 5]), num)
        table[f"whole {place}"] = generator.integers(0, generator.choice([2, 5, 50]), num)
        levels = int(generator.choice([2, 5, 40, 300]))
        table[f"text {place}"] = np.array([f"level {i}" for i in generator.zipf(1.6, num).clip(max=levels)])
        table[f"flag {place}"] = generator.random(num) < generator.choice([0.01, 0.5])
    table["day"] = np.datetime64("2024-01-01") + generator.integers(0, 400, num)
    table["other day"] = np.datetime64("2024-02-01") + generator.integers(0, 400, num)
    return pd.DataFrame(table)
