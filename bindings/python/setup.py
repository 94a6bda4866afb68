# SPDX-License-Identifier: BSD-3-Clause
"""Names the wheel after what is in it: a bundled library, or none."""

import platform
import re
from pathlib import Path

from setuptools import Distribution, setup
from wheel.bdist_wheel import bdist_wheel

LIBRARY = Path(__file__).parent / "src" / "eesp" / "_lib" / "libeesp.so.1"


class Package(Distribution):
    """A wheel with the library in it is for one platform, like one with extension modules."""

    def has_ext_modules(self) -> bool:
        return LIBRARY.exists()


class Wheel(bdist_wheel):
    """py3-none-manylinux_2_NN_ARCH, where 2.NN is the newest glibc version that the library asks for."""

    def get_tag(self) -> tuple[str, str, str]:
        if self.root_is_pure:
            return "py3", "none", "any"
        library = LIBRARY.read_bytes()
        if b"\0GLIBC_ABI_DT_RELR\0" in library:
            raise SystemExit(f"{LIBRARY}: relocations are packed, which needs glibc 2.36: build it with PACKED=no")
        glibc = max(int(minor) for minor in re.findall(rb"\0GLIBC_2\.(\d+)(?=[.\0])", library))
        return "py3", "none", f"manylinux_2_{glibc}_{platform.machine()}"


setup(cmdclass={"bdist_wheel": Wheel}, distclass=Package)
