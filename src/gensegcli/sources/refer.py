"""RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO as their authors distribute them.

References are in `refs(*).p` (or `grefs(unc).json`), objects in `instances.json`, pictures are COCO train2014. The two
are joined by annotation id; the picture is found by its id, because the `file_name` of a reference is not its name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from gensegcli.errors import GensegError, unknown_name
from gensegcli.files.text import excerpt, json_type, read_json
from gensegcli.sources.coco import CocoIndex, join, read_index
from gensegcli.sources.ids import as_number
from gensegcli.sources.pickles import read_pickle
from gensegcli.sources.places import COCO_FOLDERS, COCO_HINT, CocoPictures, first_file, first_folder
from gensegcli.sources.raw import Counts, PictureFile, Problem, RawRef, RawSet, Sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class _Source(NamedTuple):
    """The set that a reference is of."""

    dataset: str
    says_nothing: bool
    """Whether a reference without objects means that nothing matches, as in gRefCOCO."""


NO_OBJECT = -1
"""gRefCOCO's annotation id of "nothing matches"."""

_HINT = "get it from github.com/lichengunc/refer (gRefCOCO: github.com/henghuiding/gRefCOCO) and unpack it there"


def read_refer(root: Path, *, folder: str, by: str, split: str, images: Path | None = None) -> RawSet:
    """One split of a set of the RefCOCO family, by reference id.

    Args:
        root: the folder above `refcoco`, `grefcoco`, …
        folder: name of the set's folder below the root.
        by: whose splits: unc, umd or google.
        split: train, val, test, testA or testB.
        images: the folder of COCO's pictures; None tries the usual places below the root.

    Raises:
        GensegError: files that are missing, damaged or in another form; no such split.
    """
    refs_file = _find_refs(root, folder, by)
    instances = first_file(root, [f"{folder}/instances.json"], what=f"objects of {folder}", hint=_HINT)
    pictures = images or first_folder(root, COCO_FOLDERS, what="COCO's pictures", hint=COCO_HINT)
    by_split = _by_split(refs_file)
    if split not in by_split:
        raise unknown_name(f"split of {refs_file.name}", split, by_split)
    chosen = sorted(by_split[split], key=lambda ref: ref["ref_id"])  # stable: what repeats stays in the file's order
    ann_ids = {number for ref in chosen for number in _ann_ids(ref)}
    index = read_index(instances, ann_ids)
    finder = CocoPictures(pictures)
    source = _Source(folder, says_nothing=refs_file.name.startswith("grefs"))
    refs = [_ref(ref, source, index, instances, finder) for ref in chosen]
    return RawSet(
        refs,
        _counts(chosen),
        (refs_file, instances),
        {name: _counts(found) for name, found in by_split.items()},
        _notes(by_split, split),
    )


def read_references(root: Path, *, folder: str, by: str) -> dict[str, list[RawRef]]:
    """All splits by reference id, without objects and pictures, which need not be there.

    Raises:
        GensegError: the file of references is missing, damaged or in another form.
    """
    return {
        split: [_bare(ref, folder) for ref in sorted(refs, key=lambda ref: ref["ref_id"])]
        for split, refs in _by_split(_find_refs(root, folder, by)).items()
    }


def _bare(ref: Mapping[str, Any], dataset: str) -> RawRef:
    return RawRef(
        id=str(ref["ref_id"]),
        picture=None,
        sentences=tuple(_sentence(sentence) for sentence in ref["sentences"]),
        targets=(),
        provenance={"dataset": dataset, "ref_id": ref["ref_id"], "image_id": ref["image_id"]},
    )


def _find_refs(root: Path, folder: str, by: str) -> Path:
    stems = [f"{folder}/{kind}({by})" for kind in ("grefs", "refs")]
    names = [f"{stem}{ending}" for stem in stems for ending in (".json", ".p", ".pkl")]
    return first_file(root, names, what=f"references of {folder} ({by})", hint=_HINT)


def _by_split(path: Path) -> dict[str, list[Mapping[str, Any]]]:
    by_split: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for ref in _read_refs(path):
        by_split[ref["split"]].append(ref)
    return by_split


def _read_refs(path: Path) -> list[dict[str, Any]]:
    """The references of either form, with every key that everything here relies on, of its type."""
    refs = read_json(path, hint="get the file again") if path.suffix == ".json" else read_pickle(path)
    if not isinstance(refs, list):
        raise GensegError(f"{path}: a list of references expected, {json_type(refs)} found")
    plain = []
    for place, ref in enumerate(refs):
        try:
            plain.append(_plain(ref))
        except _FormError as error:
            raise GensegError(
                f"{path}: reference number {place}: {error}", hint="see docs/data.md for the form"
            ) from None
    return plain


class _FormError(ValueError):
    """A reference that is not in its form, and why."""


def _plain(ref: object) -> dict[str, Any]:
    """A reference with numbers that are numbers: ids may be whole floats, and one annotation id stands for a list.

    Raises:
        _FormError: a key is missing, or of another type.
    """
    if not isinstance(ref, dict):
        raise _FormError(f"an object expected, {json_type(ref)} found")
    split, sentences, declared = (ref.get(key) for key in ("split", "sentences", "no_target"))
    if not isinstance(split, str):
        raise _FormError(f"split must be a text, {excerpt(split)} found")
    if not isinstance(sentences, list) or not all(isinstance(sentence, dict) for sentence in sentences):
        raise _FormError(f"sentences must be a list of objects, {excerpt(sentences)} found")
    if not isinstance(declared, bool | None) and declared not in (0, 1):
        raise _FormError(f"no_target must be true or false, {excerpt(declared)} found")
    found = ref.get("ann_id")
    return {
        "ref_id": _number(ref, "ref_id"),
        "image_id": _number(ref, "image_id"),
        "split": split,
        "sentences": sentences,
        "ann_id": [_ann_id(value) for value in (found if isinstance(found, list | tuple) else [found])],
        "no_target": declared if declared is None else bool(declared),
    }


def _number(ref: Mapping[str, Any], key: str) -> int:
    number = as_number(ref.get(key))
    if number is None:
        raise _FormError(f"{key} must be a whole number of at most 63 bits, {excerpt(ref.get(key))} found")
    return number


def _ann_id(value: object) -> int:
    number = as_number(value)
    if number is None:
        raise _FormError(f"ann_id must be a number or a list of numbers, {excerpt(value)} found")
    return number


def _ann_ids(ref: Mapping[str, Any]) -> tuple[int, ...]:
    """The annotation ids of a reference, each once; none if nothing matches."""
    return tuple(dict.fromkeys(number for number in ref["ann_id"] if number != NO_OBJECT))


def _ref(ref: Mapping[str, Any], source: _Source, index: CocoIndex, instances: Path, finder: CocoPictures) -> RawRef:
    image_id, ann_ids = ref["image_id"], _ann_ids(ref)
    known = index.pictures.get(image_id)
    targets = join(index, instances, image_id, ann_ids)
    path = finder.find(image_id, known.file_name if known else "")
    missing = None if path else Problem("picture missing", f"picture {image_id} is not in {finder.folder}")
    found = (targets, _contradiction(ref, source), known.problem if known else None, missing)
    return RawRef(
        id=str(ref["ref_id"]),
        picture=PictureFile(path) if path else None,
        sentences=tuple(_sentence(sentence) for sentence in ref["sentences"]),
        targets=() if isinstance(targets, Problem) else targets,
        annotated_size=known.size if known else None,
        provenance={
            "dataset": source.dataset,
            "ref_id": ref["ref_id"],
            "image_id": image_id,
            **({"file_name": path.name} if path else {}),
        },
        problem=next((value for value in found if isinstance(value, Problem)), None),
    )


def _contradiction(ref: Mapping[str, Any], source: _Source) -> Problem | None:
    """What is wrong with what a reference says about there being objects."""
    declared, told, objects = ref["no_target"], ref["ann_id"], _ann_ids(ref)
    if (NO_OBJECT in told and objects) or (declared is not None and declared == bool(objects)):
        return Problem("contradiction", f"no_target is {declared}, annotation ids are {told}")
    # Only gRefCOCO says "nothing matches". Elsewhere a reference without objects has lost them.
    if not objects and declared is None and not source.says_nothing:
        return Problem("annotation missing", f"annotation ids are {told}, in a set where every reference has an object")
    return None


def _sentence(sentence: Mapping[str, Any]) -> Sentence:
    """`sent` is the cleaned spelling that the field trains and tests on, `raw` what a person typed."""
    text, number = sentence.get("sent", sentence.get("raw", "")), sentence.get("sent_id")
    return Sentence(text if isinstance(text, str) else "", as_number(number))


def _counts(refs: Sequence[Mapping[str, Any]]) -> Counts:
    pictures = {ref["image_id"] for ref in refs}
    return Counts(len(refs), len(pictures), sum(len(ref["sentences"]) for ref in refs))


def _notes(by_split: Mapping[str, Sequence[Mapping[str, Any]]], split: str) -> tuple[str, ...]:
    """What is odd about the raw files and would otherwise surprise whoever uses the set."""
    here = {ref["image_id"] for ref in by_split[split]}
    notes = []
    for other, refs in sorted(by_split.items()):
        shared = here & {ref["image_id"] for ref in refs} if other != split else set()
        if shared:
            some = ", ".join(map(str, sorted(shared)[:3]))
            notes.append(f"pictures that are in {other} too: {len(shared)} ({some}{', …' if len(shared) > 3 else ''})")
    repeated = [number for number, times in Counter(ref["ref_id"] for ref in by_split[split]).items() if times > 1]
    if repeated:
        some = ", ".join(map(str, sorted(repeated)[:3]))
        notes.append(
            f"reference ids that occur more than once: {len(repeated)} ({some}{', …' if len(repeated) > 3 else ''})"
        )
    return tuple(notes)
