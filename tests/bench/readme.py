"""README's blocks of figures: each between two markers, made of a JSON by a program in this folder."""
import pathlib


def short(value):
    """Three digits, and no exponent."""
    return "-" if value is None else "%.0f" % value if abs(value) >= 100 else "%.3g" % value


def put(readme, begin, end, block):
    """Writes the block, which has its markers, in place of the one that is there."""
    before, rest = pathlib.Path(readme).read_text().split(begin)
    pathlib.Path(readme).write_text(before + block + rest.split(end)[1])


def check(readme, block, json, program):
    """Says so, and how to mend it, when the block is not there."""
    if block not in pathlib.Path(readme).read_text():
        print("%s does not hold the figures of %s; tests/bench/%s %s --readme %s" % (readme, json, program, json, readme))
