"""What the header of an x86 kernel image says about it.

Source: Documentation/arch/x86/boot.rst (HdrS, kernel_version), arch/x86/boot/version.c
"""

from __future__ import annotations

LONGEST_VERSION = 512


def version_of(image: bytes) -> str:
    """Return release, builder and build of an image, as its header has them; nothing when it is no such image.

    Args:
        image: all of it, or its first 64 KiB.
    """
    if image[0x202:0x206] != b"HdrS":
        return ""
    start = int.from_bytes(image[0x20E:0x210], "little") + 0x200
    # 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-14)
    return image[start : start + LONGEST_VERSION].partition(b"\0")[0].decode("ascii", errors="replace")
