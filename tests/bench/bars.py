"""Charts of horizontal bars as SVG text, without anything but Python."""

LEFT, RIGHT, PLOT, BAR, GAP = 190, 70, 520, 15, 4


def svg(title, note, sections, mark=None, left=LEFT, right=RIGHT):
    """sections: (heading, rows); a row: (label, bars); a bar: (value, colour, text behind it). A section is drawn to its
    own scale unless mark, a value with a dashed line through the whole chart, asks for one scale. left and
    right: room for the labels, and for the longest text behind a bar that fills the plot."""
    def widest(rows):
        return max([value for _, bars in rows for value, _, _ in bars] or [1]) * 1.05
    common = widest([row for _, rows in sections for row in rows])
    y, parts = 58, []
    for heading, rows in sections:
        scale = PLOT / (common if mark is not None else widest(rows))
        parts.append('<text x="10" y="%d" class="head">%s</text>' % (y + 14, heading))
        y += 24
        for label, bars in rows:
            parts.append('<text x="%d" y="%d" class="label">%s</text>' % (left - 8, y + 12, label))
            for value, colour, text in bars:
                parts.append('<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>' % (left, y, value * scale, BAR, colour))
                parts.append('<text x="%.1f" y="%d" class="value">%s</text>' % (left + value * scale + 5, y + 12, text))
                y += BAR + (GAP if len(bars) == 1 else 0)
            y += 0 if len(bars) == 1 else 2 * GAP
        y += 12
    frame = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">' % (
        left + PLOT + right, y + 10),
        '<style>.head{font-weight:bold;font-size:13px}.label{text-anchor:end;fill:#333}.value{fill:#333}</style>',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="10" y="22" font-size="15" font-weight="bold">%s</text>' % title,
        '<text x="10" y="40" fill="#555">%s</text>' % note] + parts
    if mark is not None:
        x = left + mark * PLOT / common
        frame += ['<line x1="%.1f" y1="50" x2="%.1f" y2="%d" stroke="black" stroke-dasharray="4 3"/>' % (x, x, y),
                  '<text x="%.1f" y="%d" text-anchor="middle">%.1f</text>' % (x, y + 8, mark)]
    return "\n".join(frame + ['</svg>']) + "\n"
