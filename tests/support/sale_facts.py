"""What was sold when, written down a second time and in another way than the catalogue's data.

From the history alone: on sale on 14 December 2017; 256 GB and the Vega 64X added on 19 March 2019;
the 8-core gone and the 10-core the base on 4 August 2020; all options gone on 5 March 2021; the
machine gone on 19 March 2021.
"""

from datetime import date

from spacegray.catalog.data import Choice

Values = dict[Choice, set[int | str]]

ON_SALE, MORE, TEN_CORES, LAST_ONES, GONE = (
    date(2017, 12, 14),
    date(2019, 3, 19),
    date(2020, 8, 4),
    date(2021, 3, 5),
    date(2021, 3, 19),
)
KEY_DAYS = (ON_SALE, MORE, TEN_CORES, LAST_ONES, GONE)

EVER: Values = {
    "cores": {8, 10, 14, 18},
    "memory_gb": {32, 64, 128, 256},
    "graphics": {"vega-56", "vega-64", "vega-64x"},
    "ssd_tb": {1, 2, 4},
    "pointing": {"mouse", "trackpad", "both"},
    "mount": {"stand", "vesa"},
}


PRICES: list[tuple[Choice, int | str, date, date, int | None, str | None]] = [
    ("cores", 8, ON_SALE, TEN_CORES, None, None),
    ("cores", 10, ON_SALE, TEN_CORES, 800, "unconfirmed"),
    ("cores", 10, TEN_CORES, GONE, None, None),
    ("cores", 14, ON_SALE, TEN_CORES, 1600, "unconfirmed"),
    ("cores", 14, TEN_CORES, LAST_ONES, 800, "unconfirmed"),
    ("cores", 18, ON_SALE, TEN_CORES, 2400, "unconfirmed"),
    ("cores", 18, TEN_CORES, LAST_ONES, 1600, "unconfirmed"),
    ("memory_gb", 32, ON_SALE, GONE, None, None),
    ("memory_gb", 64, ON_SALE, MORE, 800, "confirmed"),
    ("memory_gb", 64, MORE, LAST_ONES, 400, "derived"),
    ("memory_gb", 128, ON_SALE, MORE, 2400, "confirmed"),
    ("memory_gb", 128, MORE, LAST_ONES, 2000, "derived"),
    ("memory_gb", 256, MORE, LAST_ONES, 5200, "unconfirmed"),
    ("graphics", "vega-56", ON_SALE, GONE, None, None),
    ("graphics", "vega-64", ON_SALE, MORE, 600, "unconfirmed"),
    ("graphics", "vega-64", MORE, LAST_ONES, 600, "unconfirmed"),
    ("graphics", "vega-64x", MORE, LAST_ONES, 700, "unconfirmed"),
    ("ssd_tb", 1, ON_SALE, GONE, None, None),
    ("ssd_tb", 2, ON_SALE, MORE, 800, "unconfirmed"),
    ("ssd_tb", 2, MORE, LAST_ONES, 600, "unconfirmed"),
    ("ssd_tb", 4, ON_SALE, MORE, 2800, "unconfirmed"),
    ("ssd_tb", 4, MORE, LAST_ONES, 2600, "unconfirmed"),
    ("pointing", "mouse", ON_SALE, GONE, None, None),
    ("pointing", "trackpad", ON_SALE, LAST_ONES, 50, "unconfirmed"),
    ("pointing", "both", ON_SALE, LAST_ONES, 149, "unconfirmed"),
    ("mount", "stand", ON_SALE, GONE, None, None),
    ("mount", "vesa", ON_SALE, GONE, 79, "unconfirmed"),
]
"""Choice, value, the first day, the day after the last, US dollars (None: included), the mark."""


def price_on(choice: Choice, value: int | str, day: date) -> tuple[int | None, str | None]:
    """What it cost on a day on which it was sold, and the mark of that."""
    (price,) = [
        fact[4:] for fact in PRICES if fact[:2] == (choice, value) and fact[2] <= day < fact[3]
    ]
    return price


def sold_on(day: date) -> Values:
    """The values of each choice that could be ordered on `day`."""
    if not ON_SALE <= day < GONE:
        return {choice: set() for choice in EVER}
    if day >= LAST_ONES:
        return {
            **{choice: {value} for choice, value in base_on(day).items()},
            "mount": EVER["mount"],
        }
    found = {choice: set(values) for choice, values in EVER.items()}
    if day < MORE:
        found["memory_gb"] -= {256}
        found["graphics"] -= {"vega-64x"}
    if day >= TEN_CORES:
        found["cores"] -= {8}
    return found


def base_on(day: date) -> dict[Choice, int | str]:
    """The base model of `day`."""
    return {
        "cores": 10 if day >= TEN_CORES else 8,
        "memory_gb": 32,
        "graphics": "vega-56",
        "ssd_tb": 1,
        "pointing": "mouse",
        "mount": "stand",
    }
