"""Folded stacks as a flame graph: one SVG without scripts; what a frame is called and has is its tooltip."""

from xml.sax.saxutils import escape

WIDTH, ROW, LETTER = 1800, 17, 6.6
LEAST = 0.002  # of all samples: what is smaller is left out
COLOURS = {"kernel": (222, 142, 70), "user": (104, 160, 190), "start": (206, 92, 88), "role": (150, 150, 150), "wait": (190, 190, 160)}


class Frame:
    def __init__(self):
        self.samples, self.inner = 0, {}


def tree(counts):
    root = Frame()
    for stack, number in counts.items():
        here = root
        here.samples += number
        for name in stack:
            here = here.inner.setdefault(name, Frame())
            here.samples += number
    return root


def kind(path):
    if len(path) == 1:
        return "role"
    part = path[1]
    if part.startswith("C library"):
        return "start"
    return {"user code": "user", "interrupts and switches": "wait"}.get(part, "kernel")


def colour(path):
    """Of its kind; neighbours differ by what they are called, always in the same way."""
    shade = 0.88 + sum(map(ord, path[-1])) % 25 / 100
    return "#" + "".join(f"{min(255, int(value * shade)):02x}" for value in COLOURS[kind(path)])


def draw(counts, title, order):
    """The text of the SVG. `order`: of the roles; deeper frames stand by size."""
    root, shapes, depth = tree(counts), [], 0
    total = root.samples

    def place(frame, path, x, level):
        nonlocal depth
        for name, inner in sorted(frame.inner.items(), key=lambda item: order.index(item[0]) if not path else -item[1].samples):
            share = inner.samples / total
            if share >= LEAST:
                depth = max(depth, level + 1)
                shapes.append((name, [*path, name], x, level, share))
                place(inner, [*path, name], x, level + 1)
            x += share * WIDTH

    place(root, [], 0, 0)
    height = (depth + 2) * ROW + 14
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="DejaVu Sans Mono, monospace" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="6" y="15" font-size="13">{escape(title)}</text>',
    ]
    for name, path, x, level, share in shapes:
        y, width = height - 8 - (level + 1) * ROW, share * WIDTH
        letters = int((width - 4) / LETTER)
        label = name if len(name) <= letters else name[: letters - 1] + "…" if letters > 2 else ""
        text = f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(label)}</text>' if label else ""
        lines.append(f'<g><title>{escape(name)}: {100 * share:.1f} %</title><rect x="{x:.1f}" y="{y}" width="{max(width - 0.4, 0.3):.1f}" '
                     f'height="{ROW - 1}" fill="{colour(path)}"/>{text}</g>')
    return "\n".join([*lines, "</svg>"]) + "\n"
