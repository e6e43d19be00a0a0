"""Turns `benchmarks/results/*.json` into `docs/performance.md` and `docs/pictures/`: no figure is typed by hand.

    python benchmarks/report.py           # write
    python benchmarks/report.py --check   # exit with 1 and name what is stale

The page depends on the results alone: the same ones give the same bytes. A picture's bytes differ from one version of
matplotlib to the next, so a picture carries the digest of the result it was drawn from, and that is what is checked.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from machine import RESULTS
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from reports import (
    beams,
    front_end,
    gpu_attention,
    gpu_ops,
    gpu_step,
    grammars,
    kernel_resources,
    loading,
    offline,
    sampler,
    serve_speed,
    serving,
    vllm_agreement,
)
from reports.record import BadResult, Record, read_record
from reports.section import Picture, Renderer, Section, paragraph, warnings

_DOCS = Path(__file__).parent.parent / "docs"
_PAGE = "performance.md"
_PICTURES = "pictures"
# The name under which a picture carries its result's digest. A picture without it is none of ours.
_STAMP = "Penstock-Result"
_HOW = "run `make report`"

# By the name of the benchmark, in the order of the page.
RENDERERS: Mapping[str, Renderer] = {
    "offline": offline.render,
    "serve_speed": serve_speed.render,
    "serving": serving.render,
    "vllm_agreement": vllm_agreement.render,
    "front_end": front_end.render,
    "beams": beams.render,
    "sampler": sampler.render,
    "grammars": grammars.render,
    "loading": loading.render,
    "gpu_step": gpu_step.render,
    "gpu_attention": gpu_attention.render,
    "gpu_ops": gpu_ops.render,
    "kernel_resources": kernel_resources.render,
}

_INTRODUCTION = """\
# Performance

Written by `make report` from the files in [benchmarks/results](../benchmarks/results), which the benchmarks wrote; no
figure here was typed by hand. Every figure names its machine and its commit; figures of different machines or days are
not comparable, those within one section are.
"""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture, and the file and digest of the result that it shows."""

    picture: Picture
    source: Path
    digest: str


def read_results(folder: Path) -> list[Record]:
    """All results, in the order of RENDERERS and then of their files' names.

    Raises:
        BadResult: a file is not a result, or is of a benchmark that has no renderer.
    """
    records = [read_record(path) for path in folder.glob("*.json")]
    if not records:
        raise BadResult(f"{folder} holds no results")
    order = list(RENDERERS)
    return sorted(records, key=lambda record: (order.index(kind_of(record)), record.source.name))


def kind_of(record: Record) -> str:
    """The benchmark that wrote a result: its name, or what begins it, as `serving` begins `serving_open_loop`.

    Raises:
        BadResult: there is no such benchmark.
    """
    name = record.text("benchmark")
    for kind in RENDERERS:
        if name == kind or name.startswith(f"{kind}_"):
            return kind
    raise BadResult(f"{record.source}: benchmark {name!r} has no section; known are {', '.join(RENDERERS)}")


def build(records: Sequence[Record]) -> tuple[str, list[Drawn]]:
    """The page and its pictures.

    Raises:
        BadResult: a field is missing or is of another kind.
    """
    page = [_INTRODUCTION]
    pictures: list[Drawn] = []
    for record in records:
        section = RENDERERS[kind_of(record)](record)
        page.append(_markdown(section, record))
        pictures += [Drawn(picture, record.source, record.digest) for picture in section.pictures]
    return "\n".join(page), pictures


def write(results: Path, docs: Path) -> list[Path]:
    """Write the page and the pictures, and remove pictures of results that are gone. Returns what was written.

    Raises:
        BadResult: as `build`, or a picture cannot be drawn. Nothing has been written then.
    """
    page, pictures = build(read_results(results))
    folder = docs / _PICTURES
    with tempfile.TemporaryDirectory() as temporary:
        for drawn in pictures:  # all of them before the first file is touched
            _draw(drawn, Path(temporary) / drawn.picture.name)
        folder.mkdir(parents=True, exist_ok=True)
        for drawn in pictures:
            _stamp(Path(temporary) / drawn.picture.name, folder / drawn.picture.name, drawn.digest)
    for path in _left_over(folder, pictures):
        path.unlink()
    (docs / _PAGE).write_text(page)
    return [docs / _PAGE, *(folder / drawn.picture.name for drawn in pictures)]


def stale(results: Path, docs: Path) -> Iterator[str]:
    """What is not as the results have it: one line for each file."""
    page, pictures = build(read_results(results))
    path = docs / _PAGE
    if not path.is_file():
        yield f"{path} is missing; {_HOW}"
    elif path.read_text() != page:
        yield f"{path} is not what {results} gives; {_HOW}"
    for drawn in pictures:
        path = docs / _PICTURES / drawn.picture.name
        if not path.is_file():
            yield f"{path} is missing; {_HOW}"
        elif _digest(path) != drawn.digest:
            yield f"{path} shows another result than {results} has; {_HOW}"
    for path in _left_over(docs / _PICTURES, pictures):
        yield f"{path} shows a result that {results} does not have; {_HOW}"


def _markdown(section: Section, record: Record) -> str:
    # Several results of one benchmark are told apart by their files.
    name = record.source.stem
    title = section.title if name == kind_of(record) else f"{section.title}: {name}"
    pictures = [f"![{picture.meaning}]({_PICTURES}/{picture.name})" for picture in section.pictures]
    blocks = [block if "\n" in block else paragraph(block) for block in (*warnings(record), *section.blocks)]
    return "\n\n".join([f"## {title}", *blocks, *pictures]) + "\n"


def _draw(drawn: Drawn, path: Path) -> None:
    try:
        drawn.picture.draw(path)
    except (LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise BadResult(f"{drawn.source}: {drawn.picture.name} cannot be drawn from it: {what}") from error


def _stamp(source: Path, target: Path, digest: str) -> None:
    info = PngInfo()
    info.add_text(_STAMP, digest)
    with Image.open(source) as image:
        image.save(target, format="png", pnginfo=info, optimize=True)


def _digest(path: Path) -> str | None:
    """The digest that a picture carries; None of a file that the report did not write, whatever it is."""
    try:
        with Image.open(path) as image:
            digest = image.info.get(_STAMP)
    except UnidentifiedImageError:
        return None
    return digest if isinstance(digest, str) else None


def _left_over(folder: Path, pictures: Sequence[Drawn]) -> list[Path]:
    names = {drawn.picture.name for drawn in pictures}
    return [path for path in sorted(folder.glob("*.png")) if path.name not in names and _digest(path) is not None]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when something is stale")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--docs", type=Path, default=_DOCS, help="folder of the page, and of the pictures' folder")
    given = parser.parse_args(arguments)
    try:
        if given.check:
            if lines := list(stale(given.results, given.docs)):
                raise SystemExit("\n".join(lines))
        else:
            for path in write(given.results, given.docs):
                print(f"written: {path}")
    except BadResult as error:
        raise SystemExit(f"report.py: {error}") from error


if __name__ == "__main__":
    main()
