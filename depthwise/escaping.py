"""How text of others (names, paths, labels) is spelled in what we write, so that it stays text.

Every kind of text allows certain characters; each other one becomes its number, as in <U+202A>: it
is seen and does nothing. Whoever writes a kind of text calls its function on all that is put in.
"""

import json
import re

LONGEST = 2000  # characters of a name, or of a comment, that are shown
LONGEST_FILE_NAME = 120  # bytes: systems take 255, and targets and marks are added

# No \ ends a line or begins a character's number, no * ends a comment, no ?? is a trigraph.
_NOT_IN_C = re.compile(r"[^A-Za-z0-9 _.,:;=+/()\[\]{}>%-]")
_NOT_IN_C_TEXT = re.compile(r"[^\n -\[\]-~]|\?\?")
_C_TOKENS = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\n)*"', re.DOTALL)
_NOT_IN_FILE_NAME = re.compile(r"[^\w.-]")
_FORMULA = ("=", "+", "-", "@")  # how a cell begins that a spreadsheet computes


def in_c_comment(text: str) -> str:
    """Return a text for a comment of C or C++, of either kind: it neither ends nor goes on."""
    return _NOT_IN_C.sub(lambda found: _number(found[0]), _cut(text))


def check_c(text: str) -> str:
    """Return C that we have written, as it is; asserts that nothing in it can be misread.

    Only ASCII without trigraphs, backslashes in strings alone, and every comment ends where it
    seems to.
    """
    comments = [token for token in _C_TOKENS.findall(text) if not token.startswith('"')]
    code = _C_TOKENS.sub("", text)
    strange = _NOT_IN_C_TEXT.search("".join([code, *comments]))
    assert not strange, f"{strange[0]!r} in C"
    assert not any("/*" in comment[2:] for comment in comments), "a comment in a comment of C"
    assert not any(mark in code for mark in ("/*", "*/")), "a comment of C that does not end"
    return text


def in_line(text: str, longest: int = LONGEST) -> str:
    """Return a name for a line that people read: no line breaks, nothing unseen, not too long."""
    return _visible(_cut(text, longest), "")


def in_text(text: str) -> str:
    """Return lines for people to read: no control characters and none that reorder others."""
    return _visible(text, "\n\t")


def in_json(text: str) -> str:
    """Return JSON whose strings say the same, with what cannot be seen escaped."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def in_cell(value: object) -> object:
    """Return a value for a cell of CSV: a text that a spreadsheet would compute gets a mark."""
    if not isinstance(value, str):
        return value
    text = in_line(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def text_of(error: BaseException) -> str:
    """Return what an error says; nothing where its own code fails to."""
    try:
        return str(error).strip()
    except Exception:
        return ""


def is_text(text: str) -> bool:
    """Tell whether a text can be written in UTF-8: a file's name need not be one that can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 note, 2 notes."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def kind_of(value: object) -> str:
    """Return what kind of thing a value is: a list, an int, the class Net."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOaeio' else 'a'} {name}"


def string_literal(text: str) -> str:
    """Return a string as Python and C write it, in double quotes."""
    return json.dumps(text)


def in_file_name(text: str, joint: str = "-") -> str:
    """Return a text as the name of a file that is neither hidden nor in another folder."""
    name = _NOT_IN_FILE_NAME.sub(joint, text).lstrip(".-")
    return name.encode()[:LONGEST_FILE_NAME].decode(errors="ignore") or "network"


def _cut(text: str, longest: int = LONGEST) -> str:
    """Return a text without its middle where it is too long."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}...{text[-half:]}"


def _visible(text: str, kept: str) -> str:
    shown = (c if c.isprintable() or c in kept else _number(c) for c in text)
    return text if text.isprintable() else "".join(shown)


def _number(character: str) -> str:
    return f"<U+{ord(character):04X}>"
