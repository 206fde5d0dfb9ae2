"""RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO as their authors distribute them.

References are in `refs(*).p` (or `grefs(unc).json`), objects in `instances.json`, pictures are COCO train2014. The two
are joined by annotation id; the picture is found by its id, because the `file_name` of a reference is not its name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from gensegcli.errors import GensegError, unknown_name
from gensegcli.sources.coco import CocoIndex, join, load_json, read_index
from gensegcli.sources.pickles import read_pickle
from gensegcli.sources.places import COCO_FOLDERS, COCO_HINT, CocoPictures, first_file, first_folder
from gensegcli.sources.raw import Counts, PictureFile, Problem, RawRef, RawSet, Sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

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
    refs = [_ref(ref, folder, index, instances, finder) for ref in chosen]
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
    """The references of either form, checked for the keys that everything here relies on."""
    refs = load_json(path) if path.suffix == ".json" else read_pickle(path)
    if not isinstance(refs, list):
        raise GensegError(f"{path}: a list of references expected, {type(refs).__name__} found")
    for place, ref in enumerate(refs):
        problem = _form_problem(ref)
        if problem:
            raise GensegError(f"{path}: reference number {place}: {problem}", hint="see docs/data.md for the form")
    return refs


_FORM = {"ref_id": int, "image_id": int, "split": str, "sentences": list}


def _form_problem(ref: object) -> str:
    if not isinstance(ref, dict):
        return f"an object expected, {type(ref).__name__} found"
    for key, kind in _FORM.items():
        if not isinstance(ref.get(key), kind):
            return f"{key} must be {kind.__name__}, {ref.get(key)!r} found"
    ids = ref.get("ann_id")
    if not isinstance(ids, int) and not (isinstance(ids, list) and all(isinstance(number, int) for number in ids)):
        return f"ann_id must be a number or a list of numbers, {ids!r} found"
    if not all(isinstance(sentence, dict) for sentence in ref["sentences"]):
        return "sentences must be objects"
    return ""


def _ann_ids(ref: Mapping[str, Any]) -> tuple[int, ...]:
    """The annotation ids of a reference, each once; none if nothing matches. A scalar is a list of one."""
    found = ref["ann_id"]
    return tuple(
        dict.fromkeys(number for number in (found if isinstance(found, list) else [found]) if number != NO_OBJECT)
    )


def _ref(ref: Mapping[str, Any], dataset: str, index: CocoIndex, instances: Path, finder: CocoPictures) -> RawRef:
    image_id, ann_ids = ref["image_id"], _ann_ids(ref)
    known = index.pictures.get(image_id)
    targets = join(index, instances, image_id, ann_ids)
    path = finder.find(image_id, known.file_name if known else "")
    problem = targets if isinstance(targets, Problem) else _problem(ref, ann_ids, path, finder)
    return RawRef(
        id=str(ref["ref_id"]),
        picture=PictureFile(path) if path else None,
        sentences=tuple(_sentence(sentence) for sentence in ref["sentences"]),
        targets=() if isinstance(targets, Problem) else targets,
        annotated_size=known.size if known else None,
        provenance={
            "dataset": dataset,
            "ref_id": ref["ref_id"],
            "image_id": image_id,
            **({"file_name": path.name} if path else {}),
        },
        problem=problem,
    )


def _problem(
    ref: Mapping[str, Any], ann_ids: tuple[int, ...], path: Path | None, finder: CocoPictures
) -> Problem | None:
    # A reference without objects is "nothing matches" only where the set can say so: its annotation id is then -1.
    declared = ref.get("no_target")
    if declared is not None and bool(declared) == bool(ann_ids):
        return Problem("contradiction", f"no_target is {declared}, annotation ids are {list(ann_ids)}")
    if path is None:
        return Problem("picture missing", f"picture {ref['image_id']} is not in {finder.folder}")
    return None


def _sentence(sentence: Mapping[str, Any]) -> Sentence:
    """`sent` is the cleaned spelling that the field trains and tests on, `raw` what a person typed."""
    text, number = sentence.get("sent", sentence.get("raw", "")), sentence.get("sent_id")
    return Sentence(text if isinstance(text, str) else "", number if isinstance(number, int) else None)


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
