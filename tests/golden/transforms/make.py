"""Pictures of many kinds, and what Pillow and torchvision make of them.

Writes pictures/* (small files), expected.bin (RGB bytes one after the other) and expected.json (what each piece is).
"""

import io
import json
import pathlib

import numpy as np
import torchvision
import torchvision.transforms.functional as F
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode as Mode

HERE = pathlib.Path(__file__).parent
PICTURES = HERE / "pictures"
SIZE = 24


def scene(width, height, seed):
    """A smooth picture with edges and a little noise: like a photograph to a codec."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    channels = [
        127 + 90 * np.sin(x / (5 + c) + seed) * np.cos(y / (7 - c)) + 30 * ((x // 9 + y // 7) % 2)
        for c in range(3)
    ]
    picture = np.stack(channels, -1) + rng.normal(0, 4, (height, width, 3))
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def write_pictures():
    PICTURES.mkdir(exist_ok=True)
    for old in PICTURES.iterdir():
        old.unlink()
    wide, tall = scene(57, 40, 1), scene(31, 50, 2)

    def save(name, picture, **options):
        picture.save(PICTURES / name, **options)

    save("baseline.jpg", wide, quality=90, subsampling=0)
    save("subsampled.jpg", wide, quality=85, subsampling=2)
    save("half_subsampled.jpg", tall, quality=85, subsampling=1)
    save("progressive.jpg", wide, quality=88, progressive=True, subsampling=0)
    save("grey.jpg", tall.convert("L"), quality=90)
    save("cmyk.jpg", wide.convert("CMYK"), quality=95)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(f"exif{orientation}.jpg", scene(33, 20, 3), quality=95, subsampling=0, exif=exif)
    save("rgb.png", wide)
    save("palette.png", wide.convert("P", palette=Image.Palette.ADAPTIVE, colors=32))
    save("palette_transparent.png", wide.convert("P", palette=Image.Palette.ADAPTIVE, colors=16), transparency=3)
    alpha = wide.convert("RGBA")
    alpha.putalpha(tall.resize(wide.size).convert("L"))
    save("alpha.png", alpha)
    save("grey.png", tall.convert("L"))
    save("grey_alpha.png", alpha.convert("LA"))
    save("one_bit.png", tall.convert("1"))
    grey16 = (np.asarray(wide.convert("L")).astype(np.uint16) * 257 + 80).clip(0, 65535).astype(np.uint16)
    save("grey16.png", Image.fromarray(grey16))
    save("animated.gif", wide.convert("P"), save_all=True, append_images=[tall.resize(wide.size).convert("P")])
    save("still.gif", tall.convert("P", palette=Image.Palette.ADAPTIVE))
    save("lossy.webp", wide, quality=80)
    save("lossless.webp", wide, lossless=True)
    save("alpha.webp", alpha, lossless=True)
    save("plain.bmp", tall)
    save("one_row.png", scene(40, 1, 4))
    save("one_column.png", scene(1, 40, 5))
    save("one_pixel.png", scene(1, 1, 6))
    save("strip.png", scene(200, 9, 7))
    save("exact.png", scene(24, 24, 8))
    # A name that lies: the content says what it is.
    wide.save(PICTURES / "really_png.jpg", format="PNG")


def main():
    write_pictures()
    pieces, index = io.BytesIO(), []

    def keep(result, **what):
        result = result.convert("RGB")
        index.append({**what, "width": result.width, "height": result.height, "at": pieces.tell()})
        pieces.write(np.asarray(result).tobytes())

    for path in sorted(PICTURES.iterdir()):
        rgb = ImageOps.exif_transpose(Image.open(path))
        if rgb.mode.startswith("I"):
            # Pillow cuts such values off at 255 instead of scaling them; what is wanted is their upper byte.
            rgb = Image.fromarray((np.asarray(rgb) >> 8).astype(np.uint8))
        rgb = rgb.convert("RGB")
        keep(rgb, picture=path.name, op="decode", args=[])
        for name, mode in [("bilinear", Mode.BILINEAR), ("bicubic", Mode.BICUBIC)]:
            if min(rgb.size) * 20 < max(rgb.size):
                continue
            resized = F.resize(rgb, SIZE + 4, mode)
            keep(F.center_crop(resized, SIZE), picture=path.name, op=name, args=[])

    name = "rgb.png"
    rgb = Image.open(PICTURES / name)
    sheared = dict(angle=0.0, translate=[0, 0], scale=1.0, interpolation=Mode.NEAREST, center=[0, 0])
    degrees = lambda by: float(np.degrees(np.arctan(by)))
    moved = dict(angle=0.0, scale=1.0, shear=[0.0, 0.0], interpolation=Mode.NEAREST)
    for op, args, result in [
        ("part_bilinear", [5, 3, 40, 29], F.resized_crop(rgb, 3, 5, 29, 40, [SIZE, SIZE], Mode.BILINEAR)),
        ("part_bicubic", [5, 3, 17, 11], F.resized_crop(rgb, 3, 5, 11, 17, [SIZE, SIZE], Mode.BICUBIC)),
        ("nearest", [], F.resize(rgb, [SIZE, SIZE], Mode.NEAREST)),
        ("pad_crop", [64], F.center_crop(rgb, 64)),
        ("mirrored", [], F.hflip(rgb)),
        ("upside_down", [], F.vflip(rgb)),
        ("brightness", [0.6], F.adjust_brightness(rgb, 0.6)),
        ("brightness", [1.7], F.adjust_brightness(rgb, 1.7)),
        ("contrast", [0.4], F.adjust_contrast(rgb, 0.4)),
        ("contrast", [1.9], F.adjust_contrast(rgb, 1.9)),
        ("saturation", [0.3], F.adjust_saturation(rgb, 0.3)),
        ("saturation", [1.8], F.adjust_saturation(rgb, 1.8)),
        ("hue", [0.1], F.adjust_hue(rgb, 0.1)),
        ("hue", [-0.31], F.adjust_hue(rgb, -0.31)),
        ("sharpness", [0.1], F.adjust_sharpness(rgb, 0.1)),
        ("sharpness", [1.9], F.adjust_sharpness(rgb, 1.9)),
        ("posterize", [3], F.posterize(rgb, 3)),
        ("solarize", [120.0], F.solarize(rgb, 120.0)),
        ("autocontrast", [], F.autocontrast(rgb)),
        ("equalize", [], F.equalize(rgb)),
        ("shear_x", [0.3], F.affine(rgb, shear=[degrees(0.3), 0.0], **sheared)),
        ("shear_y", [-0.2], F.affine(rgb, shear=[0.0, degrees(-0.2)], **sheared)),
        ("translate_x", [7], F.affine(rgb, translate=[7, 0], **moved)),
        ("translate_y", [-5], F.affine(rgb, translate=[0, -5], **moved)),
        ("rotate", [33.0], F.rotate(rgb, 33.0, interpolation=Mode.NEAREST)),
        ("rotate", [-90.0], F.rotate(rgb, -90.0, interpolation=Mode.NEAREST)),
    ]:
        keep(result, picture=name, op=op, args=args)

    (HERE / "expected.bin").write_bytes(pieces.getvalue())
    header = {"pillow": Image.__version__, "torchvision": torchvision.__version__, "pieces": index}
    (HERE / "expected.json").write_text(json.dumps(header, indent=1) + "\n")


main()
