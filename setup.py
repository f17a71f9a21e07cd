"""Builds the compiled kernels, where there is a C++ compiler; all else stands in pyproject.toml."""

import platform
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

SOURCES = Path("src", "esc_sr", "native")
FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-Wall",
    "-Wextra",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-pthread",
]
LIBRARIES = ["-pthread", *(["-ldl"] if platform.system() == "Linux" else [])]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = ["-mavx512f", "-mavx512dq", *AVX2]
AVX512_BF16 = ["-mavx512bw", "-mavx512vl", "-mavx512bf16", *AVX512]
LEVEL_FLAGS = {  # taking away what -march=native in CFLAGS adds: a level's vectors have one length
    "level_generic.cpp": ["-mno-avx2", "-mno-avx512f"],
    "level_avx2.cpp": [*AVX2, "-mno-avx512f"],
    "level_avx512.cpp": AVX512,
    "level_avx512bf16.cpp": AVX512_BF16,
    "level_amx.cpp": ["-mamx-tile", "-mamx-bf16", *AVX512_BF16],
}


class BuildKernels(build_ext):
    """Compiles each source with its own flags and links one library, which is there whole or not at all."""

    def build_extension(self, ext: Extension) -> None:
        """Build the library; without a compiler that can, setuptools says so and goes on."""
        target = Path(self.get_ext_fullpath(ext.name))
        target.unlink(missing_ok=True)
        if self.compiler.compiler_type == "msvc":
            raise CompileError("MSVC does not know the vectors of GCC and Clang")
        intel = platform.machine().lower() in ("x86_64", "amd64")
        objects = []
        for source in ext.sources:
            own = LEVEL_FLAGS.get(Path(source).name, []) if intel else []
            objects += self.compile_level(source, own)
        part = Path(self.build_temp, target.name)
        self.compiler.link_shared_object(objects, str(part), extra_postargs=LIBRARIES, target_lang="c++")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(part, target)

    def compile_level(self, source: str, own: list[str]) -> list[str]:
        """Compile a source; where the compiler refuses its own flags, without: the level is empty then."""
        try:
            return self.compiler.compile([source], self.build_temp, extra_postargs=[*FLAGS, *own])
        except CompileError:
            if not own:
                raise
            return self.compiler.compile([source], self.build_temp, extra_postargs=FLAGS)

    def copy_extensions_to_source(self) -> None:
        """Put the library of an editable install beside the sources; without one, take an old one away."""
        for ext in self.extensions:
            name = self.get_ext_filename(self.get_ext_fullname(ext.name))
            built, target = Path(self.build_lib, name), SOURCES / Path(name).name
            target.unlink(missing_ok=True)
            if built.exists():
                part = target.with_suffix(".part")
                shutil.copyfile(built, part)
                part.replace(target)


setup(
    ext_modules=[
        Extension(
            "esc_sr.native._kernels", sorted(str(path) for path in SOURCES.glob("*.cpp")), optional=True
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
