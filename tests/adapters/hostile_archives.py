"""
A corpus of archives that nobody honest packed, each with what its refusal must say; a few odd ones that are harmless.

Every archive is built here, so that the corpus can be read; ``python -m tests.adapters.hostile_archives DIR`` writes
it out to try other programs on.
"""

import bz2
import gzip
import io
import lzma
import random
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

ESCAPE = "../../escaped"
LEAVES = "input leaves the workspace: "
NOT_UNPACKED = ", and only files and directories are unpacked: "

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> Entry:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, mode
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    return info, data


def tar(*entries: Entry, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for info, data in entries:
            archive.addfile(info, io.BytesIO(data) if info.size else None)
    return out.getvalue()


def header(name: str, size: int = 0, kind: bytes = b"0") -> bytes:
    """Return one raw header with an honest checksum, whatever else it says."""
    claimed = size.to_bytes(12, "big", signed=True) if not 0 <= size < 8**11 else f"{size:011o}\0".encode()
    claimed = bytes([claimed[0] | 0x80]) + claimed[1:] if not 0 <= size < 8**11 else claimed
    fields = [name.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", claimed, b"00000000000\0"]
    raw = b"".join(fields) + b" " * 8 + kind + b"\0" * 100 + b"ustar\x0000" + b"\0" * 247
    return raw[:148] + f"{sum(raw):06o}\0 ".encode() + raw[156:]


def pax(**fields: str) -> bytes:
    records = b""
    for key, value in fields.items():
        body = f" {key}={value}\n".encode()
        length = len(body) + len(str(len(body) + len(str(len(body)))))
        records += f"{length}".encode() + body
    return header("pax", len(records), b"x") + records.ljust(-(-len(records) // 512) * 512, b"\0")


END = b"\0" * 1024
NOISE = random.Random(1).randbytes(5000)


def zipped(*entries: tuple[str, bytes], mode: int = 0, method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, method
            archive.writestr(info, data)
    return out.getvalue()


def gzip_bomb(size: int) -> bytes:
    """Zeros that unpack to a thousand times their length, made without holding them."""
    packer = zlib.compressobj(9, wbits=31)
    out = packer.compress(header("zeros", size))
    for _ in range(size >> 20):
        out += packer.compress(b"\0" * (1 << 20))
    return out + packer.compress(END) + packer.flush()


def greedy_xz() -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]
    honest = bytearray(lzma.compress(tar(entry("a")), filters=filters))
    at = honest.index(b"\x21\x01") + 2  # the filter's id, the length of its properties, then the dictionary's size
    honest[at] = 38  # 3 GiB
    honest[20:24] = struct.pack("<I", zlib.crc32(bytes(honest[12:20])))
    return bytes(honest)


def spoiled(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


BOMB_BYTES = 64 << 20
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "dots": (lambda: tar(entry(ESCAPE)), LEAVES + ESCAPE),
    "dots in the middle": (lambda: tar(entry("a/../../../escaped")), LEAVES + "a/../../../escaped"),
    "dots at the end": (lambda: tar(entry("a/..", kind=tarfile.DIRTYPE)), LEAVES + "a/.."),
    "absolute": (lambda: tar(entry("/tmp/escaped")), LEAVES + "/tmp/escaped"),
    "dots in a directory": (lambda: tar(entry("../escaped", kind=tarfile.DIRTYPE)), LEAVES + "../escaped"),
    "dots by a long name": (lambda: tar(entry("../" * 40 + "escaped"), form=tarfile.GNU_FORMAT), LEAVES + "../../"),
    "dots by a pax header": (lambda: pax(path=ESCAPE) + header("innocent") + END, LEAVES + ESCAPE),
    "zip with dots": (lambda: zipped((ESCAPE, b"x")), LEAVES + ESCAPE),
    "zip absolute": (lambda: zipped(("/tmp/escaped", b"x")), LEAVES + "/tmp/escaped"),
    "link": (
        lambda: tar(entry("l", kind=tarfile.SYMTYPE, link="/etc/passwd")),
        "input holds a link" + NOT_UNPACKED + "l",
    ),
    "link, then a file through it": (
        lambda: tar(entry("l", kind=tarfile.SYMTYPE, link="../.."), entry("l/escaped")),
        "input holds a link" + NOT_UNPACKED + "l",
    ),
    "hard link": (
        lambda: tar(entry("l", kind=tarfile.LNKTYPE, link="../../precious")),
        "input holds a hard link" + NOT_UNPACKED + "l",
    ),
    "device": (lambda: tar(entry("d", kind=tarfile.CHRTYPE)), "input holds a device" + NOT_UNPACKED + "d"),
    "block device": (lambda: tar(entry("d", kind=tarfile.BLKTYPE)), "input holds a device" + NOT_UNPACKED + "d"),
    "FIFO": (lambda: tar(entry("f", kind=tarfile.FIFOTYPE)), "input holds a FIFO" + NOT_UNPACKED + "f"),
    "unknown kind": (lambda: header("v", 0, b"V") + END, "input holds a special member" + NOT_UNPACKED + "v"),
    "sparse": (
        lambda: pax(**{"GNU.sparse.size": "9999999999999", "GNU.sparse.numblocks": "0"}) + header("s") + END,
        "input holds a sparse file" + NOT_UNPACKED + "s",
    ),
    "zip with a link": (
        lambda: zipped(("l", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777),
        "input holds a link" + NOT_UNPACKED + "l",
    ),
    "zip with a device": (
        lambda: zipped(("d", b""), mode=stat.S_IFCHR),
        "input holds a special file" + NOT_UNPACKED + "d",
    ),
    "file, then a directory of its name": (lambda: tar(entry("a"), entry("a/b")), "a/b as a file and as a directory"),
    "directory, then a file of its name": (
        lambda: tar(entry("a", kind=tarfile.DIRTYPE), entry("a")),
        "input holds a as a file and as a directory",
    ),
    "control characters": (lambda: tar(entry("a\x1b[2Jb")), "name that is not clean: a\\u001b[2Jb"),
    "newline": (lambda: tar(entry("a\nb")), "name that is not clean: a\\nb"),
    "empty part": (lambda: tar(entry("a//b")), "name that is not clean: a//b"),
    "dot part": (lambda: tar(entry("a/./b")), "name that is not clean: a/./b"),
    "not UTF-8": (lambda: tar(entry("\udcff"), form=tarfile.GNU_FORMAT), "name that is not clean: \\udcff"),
    "backslashes": (lambda: zipped(("..\\..\\escaped", b"x")), "name with a backslash: ..\\\\..\\\\escaped"),
    "zip with a NUL": (lambda: zipped(("innocent", b"x")).replace(b"innocent", b"a\0../../"), LEAVES + "a\\u0000../.."),
    "too deep": (lambda: tar(entry("d/" * 150 + "f")), "too long or too deep"),
    "name too long": (lambda: tar(entry("n" * 256)), "too long or too deep"),
    "gzip bomb": (lambda: gzip_bomb(BOMB_BYTES), "input unpacks to more than 1.0 MiB"),
    "zip bomb": (
        lambda: zipped(("zeros", b"\0" * (4 << 20)), method=zipfile.ZIP_DEFLATED),
        "input unpacks to more than 1.0 MiB",
    ),
    "too many": (lambda: tar(*(entry(str(index), b"") for index in range(101))), "input holds more than 100 members"),
    # Behind a first member, since later Pythons see no tar at all in a file that begins with such a header.
    "size below zero": (lambda: tar(entry("b"))[:1024] + header("a", -512) + END, "damaged archive"),
    "pax header of a terabyte": (lambda: header("p", 1 << 40, b"x") + END, "a header claims 1099511627776 bytes"),
    "long name of a gigabyte": (lambda: header("L", 1 << 30, b"L") + END, "a header claims 1073741824 bytes"),
    "a thousand long names in a row": (
        lambda: tar(entry("a"))[:1024] + (header("L", 1, b"L") + b"a".ljust(512, b"\0")) * 2000,
        "damaged archive",
    ),
    "claims more than it holds": (lambda: header("a", 10_000) + b"x" * 100, "it ends in the middle of a"),
    "cut in a header": (lambda: tar(entry("a"))[:1024] + header("b")[:300], "is no header"),
    "rubbish behind": (lambda: tar(entry("a"))[:1024] + b"\xaa" * 1024, "is no header"),
    "cut gzip": (lambda: gzip.compress(tar(entry("a", b"x" * 5000)))[:-20], "it breaks off"),
    "cut bzip2": (lambda: bz2.compress(tar(entry("a", b"x" * 5000)))[:-20], "it breaks off"),
    "cut xz": (lambda: lzma.compress(tar(entry("a", b"x" * 5000)))[:-60], "it breaks off"),
    "spoiled gzip": (lambda: spoiled(gzip.compress(tar(entry("a", NOISE))), 3000), "make no sense"),
    "spoiled checksum of a gzip": (lambda: spoiled(gzip.compress(tar(entry("a"))), -8), "make no sense"),
    "xz that wants 3 GiB": (greedy_xz, "it asks for more than 256 MiB of memory"),
    "spoiled zip": (lambda: spoiled(zipped(("a", b"x" * 100)), 60), "bad crc-32"),
    "zip without its directory": (lambda: zipped(("a", b"x" * 100))[:80], "damaged archive"),
    "zip whose directory says another name": (
        lambda: zipped(("aaaa", b"x")).replace(b"aaaa", b"bbbb", 1),
        "damaged archive",
    ),
    "encrypted zip": (
        lambda: zipped(("a", b"x")).replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0"),
        "input is encrypted: a",
    ),
    "zip with LZMA": (lambda: zipped(("a", b"x"), method=zipfile.ZIP_LZMA), "compressed in a way that is not read: a"),
    "zstd": (lambda: b"\x28\xb5\x2f\xfd" + b"\0" * 20, "input is a zstd archive, which is not unpacked"),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c" + b"\0" * 20, "input is a 7z archive, which is not unpacked"),
    "empty file": (lambda: b"", "input is no archive but an empty file"),
    "text": (lambda: b"Dear runner, please unpack this.\n" * 40, "it is neither tar, tar.gz, .bz2, .xz nor zip"),
    "compressed text": (lambda: gzip.compress(b"Dear runner\n" * 100), "it is compressed, but holds no tar"),
}
"""By name: the bytes, and what the refusal says, under limits of 1 MiB and 100 members."""


def write(directory: Path) -> Iterator[Path]:
    for name, (build, _) in REFUSED.items():
        path = directory / f"{name.replace(' ', '-')}.archive"
        path.write_bytes(build())
        yield path


if __name__ == "__main__":
    for written in write(Path(sys.argv[1])):
        print(written)
