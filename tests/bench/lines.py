"""Charts of lines over two logarithmic axes as SVG text, without anything but Python."""
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 620, 380, 70, 190, 58, 48


def ticks(low, high):
    """1, 2 and 5 times the powers of ten between two positive numbers."""
    values = [digit * 10.0 ** power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
              for digit in (1, 2, 5)]
    return [value for value in values if low <= value <= high]


def number(value):
    return "%gk" % (value / 1000) if value >= 1000 else "%g" % value


class Axis:
    """Where values lie between two ends, in pixels."""

    def __init__(self, values, begin, end):
        self.low, self.high = min(values) / 1.15, max(values) * 1.15
        self.begin, self.scale = begin, (end - begin) / math.log(self.high / self.low)

    def at(self, value):
        return self.begin + self.scale * math.log(value / self.low)


def svg(title, note, x_name, y_name, series):
    """series: (label, colour, dash, points); points: (x, y), both above 0; dash: of the line, "" for a whole one. A label
    of None leaves the line out of the legend."""
    points = [point for _, _, _, line in series for point in line]
    x = Axis([point[0] for point in points], LEFT, LEFT + WIDTH)
    y = Axis([point[1] for point in points], TOP + HEIGHT, TOP)
    parts = []
    for value in ticks(x.low, x.high):
        parts.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" class="grid"/>' % (x.at(value), TOP, x.at(value), TOP + HEIGHT))
        parts.append('<text x="%.1f" y="%d" text-anchor="middle">%s</text>' % (x.at(value), TOP + HEIGHT + 16, number(value)))
    for value in ticks(y.low, y.high):
        parts.append('<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" class="grid"/>' % (LEFT, y.at(value), LEFT + WIDTH, y.at(value)))
        parts.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>' % (LEFT - 6, y.at(value) + 4, number(value)))
    row = TOP + 8
    for label, colour, dash, line in series:
        path = " ".join("%.1f,%.1f" % (x.at(a), y.at(b)) for a, b in line)
        style = ' stroke-dasharray="%s"' % dash if dash else ""
        parts.append('<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>' % (path, colour, style))
        parts += ['<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s"/>' % (x.at(a), y.at(b), colour) for a, b in line]
        if label is not None:
            parts.append('<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s" stroke-width="2"%s/>' % (
                LEFT + WIDTH + 14, row, LEFT + WIDTH + 38, row, colour, style))
            parts.append('<text x="%d" y="%d">%s</text>' % (LEFT + WIDTH + 44, row + 4, label))
            row += 18
    return "\n".join([
        '<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">' % (
            LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM),
        '<style>text{fill:#333}.grid{stroke:#ddd}</style>', '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="22" font-size="15" font-weight="bold">%s</text>' % title, '<text x="10" y="40">%s</text>' % note,
        '<text x="%d" y="%d" text-anchor="middle">%s</text>' % (LEFT + WIDTH // 2, TOP + HEIGHT + 38, x_name),
        '<text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text>' % (TOP + HEIGHT // 2, y_name),
    ] + parts + ['</svg>']) + "\n"


def stack(charts):
    """Several such charts, one below the other, as one."""
    height = TOP + HEIGHT + BOTTOM
    return "\n".join(['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d">' % (LEFT + WIDTH + RIGHT, height * len(charts))] + [
        '<g transform="translate(0 %d)">%s</g>' % (i * height, chart) for i, chart in enumerate(charts)] + ['</svg>']) + "\n"
