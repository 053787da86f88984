"""Typing as a person does on a US keyboard: real keys, with Shift held where one holds it.

The machine is sent which keys went down, so a made-up "A" without Shift would arrive as "a".
"""

from playwright.sync_api import Page

_NAMED = """Backquote Minus Equal BracketLeft BracketRight Backslash Semicolon Quote
    Comma Period Slash""".split()  # noqa: SIM905
_DIGITS = [f"Digit{digit}" for digit in "1234567890"]
_PLAIN = dict(zip("`-=[]\\;',./ ", [*_NAMED, "Space"], strict=True))
_SHIFTED = dict(zip('~_+{}|:"<>?!@#$%^&*()', [*_NAMED, *_DIGITS], strict=True))


def keys(text: str) -> list[str]:
    """The keys to press for `text`, as Playwright names them; a new line is Enter."""
    return [_key(character) for character in text]


def type_text(page: Page, text: str, *, delay_milliseconds: float = 40.0) -> None:
    """Press the keys for `text`, one after the other, into whatever has the focus."""
    for key in keys(text):
        page.keyboard.press(key, delay=delay_milliseconds)


def _key(character: str) -> str:
    if character == "\n":
        return "Enter"
    if character.isdigit():
        return f"Digit{character}"
    if character.isascii() and character.isalpha():
        key = f"Key{character.upper()}"
        return f"Shift+{key}" if character.isupper() else key
    if character in _PLAIN:
        return _PLAIN[character]
    return f"Shift+{_SHIFTED[character]}"
