"""Writes the pictures in this folder, and table.json with what each looks like to a network: python3 make.py (needs Pillow).

What is expected is worked out here from the pixels that were drawn, by the rule in words and with fractions, not by the code under test.
"""

import json
import struct
import zlib
from fractions import Fraction
from math import floor, ceil
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
GRID = 8
EXPECTED: dict[str, list[str]] = {}
FILES: list[dict] = []

# Flat blocks of 8×8 pixels, which JPEG keeps; no two corners alike.
PALETTE = [(200, 40, 40), (40, 180, 60), (50, 60, 200), (220, 200, 60), (120, 120, 120), (230, 230, 230), (30, 30, 30), (190, 80, 190)]


def scene(width, height, block=8):
    """Rows of RGBA pixels: coloured blocks in an order that repeats in no direction."""
    colour = lambda x, y: PALETTE[(3 * (x // block) + 5 * (y // block) + (x // block) * (y // block)) % len(PALETTE)]
    return [[colour(x, y) + (255,) for x in range(width)] for y in range(height)]


def prepare(rows, fit="cover", background=(0, 0, 0), size=GRID):
    """The rule: each pixel is the mean of what it covers."""
    height, width = len(rows), len(rows[0])
    pick = min if fit == "cover" else max
    scale = pick(Fraction(height, size), Fraction(width, size))

    def spans(length):
        start = (length - scale * size) / 2
        return [(start + at * scale, start + (at + 1) * scale) for at in range(size)]

    def weights(span, length):
        low, high = max(span[0], Fraction(0)), min(span[1], Fraction(length))
        return [(at, min(high, at + 1) - max(low, at)) for at in range(floor(low), ceil(high))] if high > low else []

    result = []
    for vertical in spans(height):
        line = []
        for horizontal in spans(width):
            sums, covered = [Fraction(0)] * 3, Fraction(0)
            for y, of_row in weights(vertical, height):
                for x, of_column in weights(horizontal, width):
                    part, pixel = of_row * of_column, rows[y][x]
                    covered += part
                    alpha = Fraction(pixel[3], 255)
                    for channel in range(3):
                        sums[channel] += part * (pixel[channel] * alpha + background[channel] * (1 - alpha))
            total = scale * scale
            line.append([round(float((sums[it] + background[it] * (total - covered)) / total)) for it in range(3)])
        result.append(line)
    return result


def expect(name, rows, **rule):
    EXPECTED[name] = ["".join("%02x%02x%02x" % tuple(it) for it in line) for line in prepare(rows, **rule)]


def entry(file, like, shown=True, **rule):
    FILES.append({"file": file, "like": like, **({} if shown else {"browser": False}), **rule})


def image(rows, mode="RGB"):
    picture = Image.new("RGBA", (len(rows[0]), len(rows)))
    picture.putdata([it for row in rows for it in row])
    return picture.convert(mode)


def pixels(picture):
    picture = picture.convert("RGBA")
    width, height = picture.size
    values = list(picture.getdata())
    return [values[at * width : (at + 1) * width] for at in range(height)]


def save(name, picture, **options):
    picture.save(HERE / name, **options)


# EXIF: how what is stored is turned to be upright, and so how upright pixels are stored.
STORED = {
    1: lambda rows: rows,
    2: lambda rows: [row[::-1] for row in rows],
    3: lambda rows: [row[::-1] for row in rows[::-1]],
    4: lambda rows: rows[::-1],
    5: lambda rows: [list(it) for it in zip(*rows)],
    6: lambda rows: [list(it) for it in zip(*rows)][::-1],
    7: lambda rows: [list(it)[::-1] for it in list(zip(*rows))[::-1]],
    8: lambda rows: [list(it)[::-1] for it in zip(*rows)],
}


def tiff(orientation):
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHIHH", 0x112, 3, 1, orientation, 0) + b"\0\0\0\0"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(name, width, height, depth, kind, data, before=(), interlaced=0):
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *before, chunk(b"IDAT", zlib.compress(data, 9)), chunk(b"IEND", b"")]
    (HERE / name).write_bytes(b"".join(parts))


def filtered(rows, pixel):
    return b"".join(b"\0" + b"".join(pixel(it) for it in row) for row in rows)


rgb = lambda it: bytes(it[:3])

# Shapes.
landscape, portrait, wide = scene(48, 32), scene(32, 48), scene(96, 32)
for name, rows in {"landscape": landscape, "portrait": portrait, "wide": wide}.items():
    expect(name, rows)
    expect(f"{name}-letterbox", rows, fit="letterbox", background=(10, 200, 90))
    save(f"{name}.png", image(rows), optimize=True)
    entry(f"{name}.png", name)
    entry(f"{name}.png", f"{name}-letterbox", shown=False, fit="letterbox", background=[10, 200, 90])
save("landscape.jpg", image(landscape), quality=95, subsampling=0)
save("portrait.jpg", image(portrait), quality=95, subsampling=0)
save("progressive.jpg", image(landscape), quality=95, subsampling=0, progressive=True)
save("UPPER.JPG", image(landscape), format="JPEG", quality=95, subsampling=0)
for name, like in {"landscape.jpg": "landscape", "portrait.jpg": "portrait", "progressive.jpg": "landscape", "UPPER.JPG": "landscape"}.items():
    entry(name, like)
small = scene(5, 3, block=1)
expect("small", small)
save("small.png", image(small))
entry("small.png", "small")

# The same picture, stored in every way and turned upright by its EXIF data.
for orientation, stored in STORED.items():
    rows = stored(landscape)
    name = f"exif-{orientation}.jpg"
    save(name, image(rows), quality=95, subsampling=0, exif=b"Exif\0\0" + tiff(orientation))
    entry(name, "landscape")
    name = f"exif-{orientation}.png"
    png(name, len(rows[0]), len(rows), 8, 2, filtered(rows, rgb), [chunk(b"eXIf", tiff(orientation))])
    entry(name, "landscape")

# Transparency: bright green lies under what is not seen.
hole = [[(0, 255, 0, 0) if (x // 8 + y // 8) % 2 else it for x, it in enumerate(row)] for y, row in enumerate(landscape)]
glass = [[it[:3] + (96 + 4 * (x % 8),) for x, it in enumerate(row)] for row in landscape]
for name, rows in {"hole": hole, "glass": glass}.items():
    expect(name, rows)
    expect(f"{name}-on-white", rows, background=(255, 255, 255))
    png(f"{name}.png", 48, 32, 8, 6, filtered(rows, bytes))
    entry(f"{name}.png", name)
    entry(f"{name}.png", f"{name}-on-white", shown=False, background=[255, 255, 255])
save("hole.webp", image(hole, "RGBA"), lossless=True, exact=True)
entry("hole.webp", "hole")

# Kinds of PNG.
grey = [[(it[0],) * 3 + (255,) for it in row] for row in landscape]
expect("grey", grey)
png("grey.png", 48, 32, 8, 0, filtered(grey, lambda it: bytes(it[:1])))
png("grey-16.png", 48, 32, 16, 0, filtered(grey, lambda it: bytes([it[0], it[0]])))
save("grey.jpg", image(grey, "L"), quality=95)
for name in ("grey.png", "grey-16.png", "grey.jpg"):
    entry(name, "grey")
png("rgb-16.png", 48, 32, 16, 2, filtered(landscape, lambda it: bytes(value for channel in it[:3] for value in (channel, channel))))
colours = sorted({it[:3] for row in landscape for it in row})
palette = [chunk(b"PLTE", b"".join(bytes(it) for it in colours))]
index = lambda it: bytes([colours.index(it[:3])])
png("palette.png", 48, 32, 8, 3, filtered(landscape, index), palette)
passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
adam7 = b"".join(filtered([row[left::across] for row in landscape[top::down]], rgb) for top, left, down, across in passes)
png("interlaced.png", 48, 32, 8, 2, adam7, interlaced=1)
for name in ("rgb-16.png", "palette.png", "interlaced.png"):
    entry(name, "landscape")

# Other formats; of animations the first frame.
save("lossless.webp", image(landscape), lossless=True)
save("picture.bmp", image(landscape))
other = image(STORED[3](landscape))
save("animated.gif", image(landscape), save_all=True, append_images=[other], duration=100)
save("animated.png", image(landscape), save_all=True, append_images=[other], duration=100)
for name in ("lossless.webp", "picture.bmp", "animated.gif", "animated.png"):
    entry(name, "landscape")
save("picture.tiff", image(landscape), compression="tiff_deflate")
entry("picture.tiff", "landscape", shown=False)

# ICC profiles: a matrix and a curve. Primaries as published, adapted to D50 (Display P3: SMPTE EG 432-1; Adobe RGB (1998)).
SRGB = [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
P3 = [[0.5151187, 0.2919778, 0.1571035], [0.2411892, 0.6922441, 0.0665668], [-0.0010505, 0.0418791, 0.7840713]]
ADOBE = [[0.6097559, 0.2052401, 0.1492240], [0.3111242, 0.6256560, 0.0632197], [0.0194811, 0.0608902, 0.7448387]]
curve = lambda v: v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
power = lambda v: v ** (563 / 256)


def inverse(m):
    (a, b, c), (d, e, f), (g, h, i) = m
    det = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    return [[(e * i - f * h) / det, (c * h - b * i) / det, (b * f - c * e) / det], [(f * g - d * i) / det, (a * i - c * g) / det, (c * d - a * f) / det], [(d * h - e * g) / det, (b * g - a * h) / det, (a * e - b * d) / det]]


def times(m, v):
    return [sum(x * y for x, y in zip(row, v)) for row in m]


def to_srgb(pixel, matrix, linear):
    light = times(inverse(SRGB), times(matrix, [linear(it / 255) for it in pixel[:3]]))
    encode = lambda v: 12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055
    return tuple(round(255 * min(1, max(0, encode(it) if it > 0 else 0))) for it in light) + (pixel[3],)


def profile(name, matrix, curve_tag):
    fixed = lambda v: struct.pack(">i", round(v * 65536))
    xyz = lambda v: b"XYZ \0\0\0\0" + b"".join(map(fixed, v))
    text = name.encode("ascii")
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + b"\0" * 78
    tags = {b"desc": description, b"cprt": b"text\0\0\0\0none\0", b"wtpt": xyz([0.9642, 1, 0.8249])}
    tags |= {tag: xyz([row[at] for row in matrix]) for at, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    tags |= {tag: curve_tag for tag in (b"rTRC", b"gTRC", b"bTRC")}
    table, data, at = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += tag + struct.pack(">II", at + len(data), len(value))
        data += value
    body = struct.pack(">I", len(tags)) + table + data
    header = struct.pack(">I4sI4s4s4s", 128 + len(body), b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + b"\0" * 28 + b"".join(map(fixed, [0.9642, 1, 0.8249]))
    return header.ljust(128, b"\0") + body


GAMMA = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563) + b"\0\0"
STEPS = b"curv\0\0\0\0" + struct.pack(">I", 1024) + b"".join(struct.pack(">H", round(65535 * curve(it / 1023))) for it in range(1024))
for name, matrix, linear, tag in (("display-p3", P3, curve, STEPS), ("adobe-rgb", ADOBE, power, GAMMA)):
    icc = profile(name, matrix, tag)
    expect(name, [[to_srgb(it, matrix, linear) for it in row] for row in landscape])
    save(f"{name}.jpg", image(landscape), quality=97, subsampling=0, icc_profile=icc)
    save(f"{name}.png", image(landscape), icc_profile=icc)
    entry(f"{name}.jpg", name)
    entry(f"{name}.png", name)

# JPEGs that few programs write: a scan for each component, and four components. Coefficients are written by hand: each block is flat.
LENGTHS = [0, 1, 5, 1, 1, 1, 1, 1, 1] + [0] * 7
HUFFMAN, code, at = {}, 0, 0
for length, count in enumerate(LENGTHS, 1):
    for _ in range(count):
        HUFFMAN[at] = format(code, f"0{length}b")
        code, at = code + 1, at + 1
    code <<= 1


def difference(value):
    size = abs(value).bit_length()
    return HUFFMAN[size] + (format(value if value > 0 else value + (1 << size) - 1, f"0{size}b") if size else "")


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg(name, width, height, sampling, sample, separate, adobe=None):
    """`sample(component, x, y)` is the value of a component at a pixel; AC coefficients are all zero ("0" ends a block)."""
    most = [max(it[axis] for it in sampling) for axis in (0, 1)]
    # One quantiser step of DC is one level.
    out = b"\xff\xd8" + (segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([adobe])) if adobe is not None else b"")
    out += segment(0xDB, b"\0" + b"\x08" * 64) + segment(0xC4, b"\0" + bytes(LENGTHS) + bytes(range(12)))
    out += segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0")
    components = b"".join(bytes([at + 1, h << 4 | v, 0]) for at, (h, v) in enumerate(sampling))
    out += segment(0xC0, struct.pack(">BHHB", 8, height, width, len(sampling)) + components)

    def scan(members, order):
        nonlocal out
        out += segment(0xDA, bytes([len(members)]) + b"".join(bytes([it + 1, 0]) for it in members) + b"\0\x3f\0")
        bits, last = "", {it: 0 for it in members}
        for component, x, y in order:
            h, v = sampling[component]
            value = sample(component, min(width - 1, x * 8 * most[0] // h), min(height - 1, y * 8 * most[1] // v)) - 128
            bits += difference(value - last[component]) + "0"
            last[component] = value
        bits += "1" * (-len(bits) % 8)
        out += int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")

    if separate:
        for component, (h, v) in enumerate(sampling):
            across, down = ceil(ceil(width * h / most[0]) / 8), ceil(ceil(height * v / most[1]) / 8)
            scan([component], [(component, x, y) for y in range(down) for x in range(across)])
    else:
        order = []
        for top in range(ceil(height / (8 * most[1]))):
            for left in range(ceil(width / (8 * most[0]))):
                order += [(it, left * h + x, top * v + y) for it, (h, v) in enumerate(sampling) for y in range(v) for x in range(h)]
        scan(range(len(sampling)), order)
    (HERE / name).write_bytes(out + b"\xff\xd9")


def ycc(r, g, b):
    values = (0.299 * r + 0.587 * g + 0.114 * b, 128 - 0.168736 * r - 0.331264 * g + 0.5 * b, 128 + 0.5 * r - 0.418688 * g - 0.081312 * b)
    return [round(it) for it in values]


coarse = scene(96, 64, block=32)
whole = dict(width=96, height=64, sample=lambda it, x, y: ycc(*coarse[y][x][:3])[it])
jpeg("one-scan-420.jpg", sampling=[(2, 2), (1, 1), (1, 1)], separate=False, **whole)
jpeg("separate-scans-420.jpg", sampling=[(2, 2), (1, 1), (1, 1)], separate=True, **whole)
jpeg("separate-scans-444.jpg", sampling=[(1, 1)] * 3, separate=True, **whole)
# Between blocks, decoders blend colours that are stored at half the size; what libjpeg makes of it is expected.
expect("coarse", pixels(Image.open(HERE / "one-scan-420.jpg")))
expect("coarse-444", pixels(Image.open(HERE / "separate-scans-444.jpg")))
entry("one-scan-420.jpg", "coarse")
entry("separate-scans-420.jpg", "coarse")
entry("separate-scans-444.jpg", "coarse-444")


def ink(pixel):
    """CMYK as Adobe stores it: 255 is no ink."""
    black = max(pixel[:3])
    return [255 * it // max(black, 1) for it in pixel[:3]] + [black]


inked = [[tuple(it * ink(pixel)[3] // 255 for it in ink(pixel)[:3]) + (255,) for pixel in row] for row in landscape]
expect("inked", inked)
four = dict(width=48, height=32, sampling=[(1, 1)] * 4, separate=False)
jpeg("cmyk.jpg", sample=lambda it, x, y: ink(landscape[y][x])[it], adobe=0, **four)
ycck = lambda pixel: ycc(*[255 - it for it in ink(pixel)[:3]]) + [ink(pixel)[3]]
jpeg("ycck.jpg", sample=lambda it, x, y: ycck(landscape[y][x])[it], adobe=2, **four)
entry("cmyk.jpg", "inked")
entry("ycck.jpg", "inked")

lines = ['    "%s": %s' % (name, json.dumps(rows)) for name, rows in EXPECTED.items()]
files = ["    " + json.dumps(it) for it in FILES]
(HERE / "table.json").write_text('{\n  "expected": {\n%s\n  },\n  "files": [\n%s\n  ]\n}\n' % (",\n".join(lines), ",\n".join(files)))
