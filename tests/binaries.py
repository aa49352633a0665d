"""What a shared library exports, read from its bytes: Windows' PE, macOS' Mach-O and Linux' ELF."""

import struct


def exported(content):
    """Return the names that a shared library exports, and its machine's number in its format."""
    if content[:2] == b"MZ":
        return _pe(content)
    if content[:4] == b"\xcf\xfa\xed\xfe":
        return _macho(content)
    assert content[:4] == b"\x7fELF"
    return _elf(content)


def _text(content, start):
    return content[start : content.index(b"\0", start)].decode()


def _pe(content):
    """Follow the export directory: PE format, sections 3 to 6.3, of Microsoft's specification."""
    (header,) = struct.unpack_from("<I", content, 0x3C)
    assert content[header : header + 4] == b"PE\0\0"
    machine, sections = struct.unpack_from("<HH", content, header + 4)
    (optional,) = struct.unpack_from("<H", content, header + 20)
    assert struct.unpack_from("<H", content, header + 24) == (0x20B,)  # 64 bits
    (directory,) = struct.unpack_from("<I", content, header + 24 + 112)
    table = header + 24 + optional

    def place(address):
        for i in range(sections):
            size, start, _, raw = struct.unpack_from("<IIII", content, table + 40 * i + 8)
            if start <= address < start + size:
                return raw + address - start
        raise AssertionError(f"no section holds {address:#x}")

    (count,) = struct.unpack_from("<I", content, place(directory) + 24)
    (names,) = struct.unpack_from("<I", content, place(directory) + 32)
    found = struct.unpack_from(f"<{count}I", content, place(names))
    return {_text(content, place(each)) for each in found}, machine


def _macho(content):
    """Read the external symbols of LC_SYMTAB that a section defines: mach-o/loader.h, nlist.h."""
    machine, _, kind, commands = struct.unpack_from("<IIII", content, 4)
    assert kind == 6  # MH_DYLIB
    at, names = 32, set()
    for _ in range(commands):
        command, size = struct.unpack_from("<II", content, at)
        if command == 2:
            symbols, count, strings, _ = struct.unpack_from("<IIII", content, at + 8)
            for i in range(count):
                name, type_, section = struct.unpack_from("<IBB", content, symbols + 16 * i)
                if type_ & 0x01 and not type_ & 0x10 and section:  # external, not private
                    names.add(_text(content, strings + name).removeprefix("_"))
        at += size
    return names, machine


def _elf(content):
    """Read the defined global symbols of .dynsym that others may see: the ELF-64 specification."""
    (machine,) = struct.unpack_from("<H", content, 18)
    (headers,) = struct.unpack_from("<Q", content, 40)
    (size, count) = struct.unpack_from("<HH", content, 58)
    rows = [struct.unpack_from("<IIQQQQIIQQ", content, headers + size * i) for i in range(count)]
    (dynsym,) = (row for row in rows if row[1] == 11)
    strings, names = rows[dynsym[6]][4], set()
    for start in range(dynsym[4], dynsym[4] + dynsym[5], 24):
        name, info, other, section = struct.unpack_from("<IBBH", content, start)
        if info >> 4 == 1 and other & 3 == 0 and section:  # STB_GLOBAL, STV_DEFAULT, defined
            names.add(_text(content, strings + name))
    return names, machine
