"""The verb `order`: an iMac Pro as it could be ordered on a day, priced, and saved as a spec."""

import sys
from datetime import date

import click
import msgspec

from spacegray import spec as specs
from spacegray.catalog import order as ordering
from spacegray.catalog import sale
from spacegray.catalog.data import Choice
from spacegray.catalog.figures import Figure, shown
from spacegray.catalog.order import WORDS, Quote, Wish
from spacegray.cli import output, writing
from spacegray.cli.options import format_option, output_option
from spacegray.errors import UsageError

DOING = "ordering an iMac Pro"
POINTING = ("mouse", "trackpad", "both")


def _to_day(_: click.Context, __: click.Parameter, word: str | None) -> date | None:
    """The day that the word says, in the one form that a spec keeps, too."""
    if word is None:
        return None
    try:
        day = date.fromisoformat(word)
    except ValueError:
        day = None
    if day is None or day.isoformat() != word:
        # Other forms of ISO 8601 are no days here either, weeks among them.
        raise click.BadParameter(f"{word!r} is no day; write it as YYYY-MM-DD")
    return day


def _one_of(*values: int | str) -> click.Choice[str]:
    return click.Choice([str(each) for each in values])


@click.command()
@click.option("--date", "day", callback=_to_day, metavar="YYYY-MM-DD", help="The day of the order.")
@click.option("--any-date", is_flag=True, help="Whatever was ever sold, on whatever day.")
@click.option("--cores", type=_one_of(*specs.CORES), help="The processor, by its cores.")
@click.option("--memory-gb", type=_one_of(*specs.MEMORY_GB), help="The memory.")
@click.option("--graphics", type=_one_of(*specs.GRAPHICS), help="The graphics.")
@click.option("--ssd-tb", type=_one_of(*specs.SSD_TB), help="The SSD.")
@click.option("--pointing", type=_one_of(*POINTING), help="Mouse, trackpad or both.")
@click.option("--mount", type=_one_of(*specs.MOUNTS), help="The stand, or the VESA mount.")
@click.option("--edition", type=_one_of(*specs.EDITIONS), help="The operating system of the spec.")
@output_option("Save it as a spec; - for the spec alone.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing, replace the file.")
@format_option
def order(
    day: date | None,
    any_date: bool,
    edition: specs.Edition | None,
    file: str | None,
    yes: bool,
    format_: str,
    **words: str | None,
) -> None:
    """Configure an iMac Pro with the options and the prices of a day.

    On a terminal it asks for each option if none is given; what is left away is that of the base
    model of the day.
    """
    if file == writing.STDOUT and format_ == "json":
        raise click.UsageError("--output - prints the spec alone: leave --format away")
    when = _day(day, any_date=any_date)
    # Before anything is asked: answers are not to be lost for a name.
    writing.may_write(file, _writing(file), replace=yes)
    asks = sys.stdin.isatty()
    if all(each is None for each in words.values()) and not yes and asks:
        words = _ask(when, any_date=any_date)
    quote = ordering.quote(_wish(words), when, any_date=any_date)
    spec = ordering.spec_of(quote)
    if edition is not None:
        spec = specs.replace(spec, {"edition": edition})
    if file == writing.STDOUT:
        print(specs.dump(spec), end="")
        return
    if file is not None:
        writing.write(specs.dump(spec), file, _writing(file), replace=yes)
    if format_ == "json":
        output.as_json(msgspec.to_builtins(quote))
        return
    _tell(quote)
    print()
    if file is None:
        print("`--output spec.toml` saves it; `up NAME --spec spec.toml` makes and starts it")
    else:
        print(f"{file} is written; `up NAME --spec {file}` makes and starts it")


def _day(day: date | None, *, any_date: bool) -> date:
    """The day of the order; raises UsageError where there is none."""
    if day is not None:
        return day
    if any_date:
        return date.today()
    raise UsageError(
        DOING,
        f"no day was given, and it was sold from {sale.first_day()} to {sale.last_day()}",
        "give --date with a day between them, or --any-date",
    )


def _wish(words: dict[str, str | None]) -> Wish:
    """What the words of the command line wish for."""
    given = {name: value for name, value in words.items() if value is not None}
    return msgspec.convert(given, Wish, strict=False)


def _ask(day: date, *, any_date: bool) -> dict[str, str | None]:
    """Ask for each choice, on standard error: standard output may be a file."""
    offers = sale.offers(day, any_date=any_date)
    if not any(offer.available for offer in offers):
        return {}
    return {choice: _ask_one(choice, offers) for choice in sale.CHOICES}


def _ask_one(choice: Choice, offers: list[sale.Offer]) -> str:
    """The value of one choice that was typed; an empty line is the base model's."""
    mine = [offer for offer in offers if offer.option == choice]
    on_sale = [offer for offer in mine if offer.available]
    standard = str(next(offer.value for offer in on_sale if offer.base))
    click.echo(f"\n{WORDS[choice].capitalize()}", err=True)
    for offer in mine:
        text = _cost(offer.price_usd) if offer.available else f"not now: {offer.why_not}"
        click.echo(f"  {offer.value!s:<9} {offer.label:<48} {text}", err=True)
    if len(on_sale) == 1:
        return standard
    answer: str = click.prompt(
        WORDS[choice].capitalize(),
        type=_one_of(*(offer.value for offer in on_sale)),
        default=standard,
        show_choices=False,
        err=True,
    )
    return answer


def _tell(quote: Quote) -> None:
    """The quote, its total, what of that is unconfirmed, and what a buyer is to know."""
    rows = [(line.what, line.choice, _cost(line.price_usd)) for line in quote.lines]
    rows[0] = (*rows[0][:2], rows[0][2].removeprefix("+"))
    output.table((f"ordered on {quote.day}", "", "price"), [*rows, ("total", "", _sum(quote))])
    print()
    if quote.unconfirmed_usd:
        share = f"{100 * quote.unconfirmed_share:.0f} %"
        print(f"${quote.unconfirmed_usd:,} of it ({share}) rests on unconfirmed prices")
    else:
        print("no price of it is unconfirmed")
    for note in quote.notes:
        print(f"- {note}")


def _sum(quote: Quote) -> str:
    total = f"${quote.total_usd:,}"
    return f"{total} (partly unconfirmed)" if quote.unconfirmed_usd else total


def _cost(price: Figure | None) -> str:
    return "included" if price is None else f"+{shown(price)}"


def _writing(file: str | None) -> str:
    return f"writing the spec {file}"
