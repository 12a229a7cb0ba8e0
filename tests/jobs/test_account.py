"""Conservation: ledgers, rows, rejections and scores that were altered are noticed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fakes import write_grey
from hw1.core.errors import EnvironmentFault
from hw1.core.records import Committed, Decoded, Planned, Rejection, Shard, Written
from hw1.jobs.account import account, account_shard
from hw1.jobs.inspect import verify
from hw1.jobs.ledger import read_ledger
from hw1.jobs.scores import write_scores
from hw1.pipeline.parts import commit_part, part_digest
from hw1.pipeline.rows import format_row, join_rows, read_rows
from tiny_jobs import COUNT, expected, masks_of, rows_of, run, segment, spec_of

PLAN = [Planned(f"{k}.png", 1, 1) for k in range(6)]
LOST = Rejection("1.png", "empty", "0 bytes")


def rows(*numbers: int) -> tuple[str, ...]:
    return tuple(f"{k}.png,0" for k in numbers)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    return tmp_path


def committed(job: Path, first: int, images: int, *written: Written, shard: int = 0) -> Committed:
    return commit_part(job, Shard(shard, first, tuple(PLAN[first : first + images])), written, 0.0)


def part(first: int, lines: tuple[str, ...], *lost: Rejection) -> Written:
    count = len(lines) + len(lost)
    return Written(Shard(0, first, tuple(PLAN[first : first + count])), lines, lost)


def altered(job: Path, entry: Committed, content: bytes, suffix: str = ".csv") -> Committed:
    """The entry, its file changed and its digest too: as a mistake in hw1 would leave them."""
    (job / "parts" / f"{entry.shard:07}{suffix}").write_bytes(content)
    return replace(entry, digest=part_digest(job, entry.shard) or "")


def test_a_shard_accounts_for_each_of_its_images(job: Path) -> None:
    entry = committed(job, 0, 3, part(0, rows(0, 2), LOST))
    found = account_shard(job, entry, PLAN)
    assert [row[0] for row in found.rows] == ["0.png", "2.png"]
    assert found.rejections == [LOST]


@pytest.mark.parametrize(
    "lines", [(0, 3), (2, 0), (0,), (0, 2, 3), (0, 1, 2), (0, 0), (0, 2, 2), ()]
)
def test_rows_of_other_images_are_noticed(job: Path, lines: tuple[int, ...]) -> None:
    entry = committed(job, 0, 3, part(0, rows(0, 2), LOST))
    with pytest.raises(EnvironmentFault, match="expected a row or a rejection for each of the 3"):
        account_shard(job, altered(job, entry, join_rows(rows(*lines))), PLAN)


@pytest.mark.parametrize("names", ["", "12", "14", "11", "5"])
def test_rejections_of_other_images_are_noticed(job: Path, names: str) -> None:
    entry = committed(job, 0, 3, part(0, rows(0, 2), LOST))
    content = join_rows(f"{name}.png,empty,0 bytes" for name in names)
    with pytest.raises(EnvironmentFault, match="expected a row or a rejection"):
        account_shard(job, altered(job, entry, content, ".rejected.csv"), PLAN)


@pytest.mark.parametrize("suffix", [".csv", ".rejected.csv", ".scores"])
def test_each_file_of_a_part_is_in_its_digest(job: Path, suffix: str) -> None:
    scores = np.full((2, 5), 0.2, np.float32)
    entry = committed(job, 0, 3, replace(part(0, rows(0, 2), LOST), scores=scores))
    account_shard(job, entry, PLAN)
    path = job / "parts" / f"0000000{suffix}"
    path.write_bytes(path.read_bytes()[:-1] + b"9")
    with pytest.raises(EnvironmentFault, match="not what the ledger says"):
        account_shard(job, entry, PLAN)


def test_all_shards_are_in_order_without_a_gap(job: Path) -> None:
    entries = [
        committed(job, 2 * n, 2, part(2 * n, rows(2 * n, 2 * n + 1)), shard=n) for n in range(3)
    ]
    whole = dict(enumerate(entries))
    backwards = {number: whole[number] for number in (2, 0, 1)}
    assert [found.entry.shard for found in account(job, backwards, PLAN)] == [0, 1, 2]
    for missing, accounted in ((0, 0), (1, 2), (2, 4)):
        ledger = {number: entry for number, entry in whole.items() if number != missing}
        with pytest.raises(EnvironmentFault, match=f"the first {accounted} only"):
            list(account(job, ledger, PLAN))
    twice = {**whole, 3: replace(entries[1], shard=3)}
    with pytest.raises(EnvironmentFault, match="the first 4 only"):
        list(account(job, twice, PLAN))


def test_pieces_that_miss_an_image_or_have_one_twice_are_not_committed(job: Path) -> None:
    for lines in (rows(0), rows(0, 1, 2)):
        with pytest.raises(ValueError, match="2 images, but"):
            committed(job, 0, 2, part(0, lines))
    assert list((job / "parts").iterdir()) == []


def test_pieces_are_joined_in_the_plans_order(job: Path) -> None:
    later, lost = part(3, rows(3)), part(1, (), LOST)
    entry = committed(job, 0, 4, later, lost, part(2, rows(2)), part(0, rows(0)))
    assert [row[0] for row in account_shard(job, entry, PLAN).rows] == ["0.png", "2.png", "3.png"]
    assert (entry.rows, entry.rejected) == (3, 1)


def test_what_an_attempt_that_was_never_entered_left_is_no_part_of_the_next(job: Path) -> None:
    scores = np.full((1, 5), 0.2, np.float32)
    committed(job, 0, 2, replace(part(0, rows(0), LOST), scores=scores))
    entry = committed(job, 0, 2, part(0, rows(0, 1)))
    assert part_digest(job, 0) == entry.digest
    assert account_shard(job, entry, PLAN).rejections == []


def test_of_two_entries_of_a_shard_the_later_holds_and_a_torn_one_does_not(tmp_path: Path) -> None:
    def line(digest: str) -> bytes:
        fields = {"shard": 0, "first": 0, "images": 1, "rows": 1, "rejected": 0, "seconds": 0.0}
        return json.dumps({**fields, "digest": digest}).encode()

    path = tmp_path / "ledger.jsonl"
    path.write_bytes(line("a") + b"\n" + line("b") + b"\n" + line("c"))
    assert read_ledger(path)[0].digest == "b"


@pytest.mark.parametrize("count", [1, 3])
def test_scores_that_do_not_fit_the_rows_are_not_written(job: Path, count: int) -> None:
    scores = np.full((count, 50), 0.02, np.float32)
    entry = committed(job, 0, 2, replace(part(0, rows(0, 1)), scores=scores))
    from hw1.core.classes import REFERENCE_CLASSIFIER

    with pytest.raises(EnvironmentFault, match=f"2 rows but {count} rows of scores"):
        write_scores(job / "s.csv", job, [entry], REFERENCE_CLASSIFIER)


@pytest.mark.parametrize("name", ["a\rb", "\r", "a\nb", 'a"b', "a,b", " a", "\udcff", "'a'"])
def test_any_name_is_read_back(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(join_rows([format_row([name, "7"])]))
    assert list(read_rows(path)) == [[name, "7"]]


# Whole jobs.


def drop_shard(job: Path) -> None:
    lines = (job / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (job / "ledger.jsonl").write_bytes(b"".join(lines[:2] + lines[3:]))


def change_row(job: Path) -> None:
    path = job / "parts" / "0000002.csv"
    path.write_bytes(path.read_bytes().replace(b"09.png", b"08.png"))


def change_scores(job: Path) -> None:
    path = job / "parts" / "0000002.scores"
    path.write_bytes(path.read_bytes()[:-1] + b"9")


@pytest.mark.parametrize("damage", [drop_shard, change_row, change_scores])
def test_verify_notices_and_the_same_command_repairs(
    images: Path, damage: Callable[[Path], None]
) -> None:
    spec = spec_of(images, scores=images.parent / "s.csv")
    job = run(spec).job
    before = (images.parent / "s.csv").read_bytes()
    assert verify(job) == []
    damage(job)
    assert len(verify(job)) == 1
    seen: list[int] = []
    run(spec, lambda decoded: seen.append(decoded.piece.first))
    assert seen == [8]
    assert verify(job) == []
    assert rows_of(images.parent / "out.csv") == expected()
    assert (images.parent / "s.csv").read_bytes() == before


def test_verify_notices_rows_that_were_added_changed_or_taken_out(images: Path) -> None:
    summary = run(spec_of(images))
    content = summary.output.read_bytes()
    lines = content.splitlines(keepends=True)
    for changed in (
        content + b"x.png,1\n",
        content + b" ",
        b"".join(lines[:-1]),
        b"".join(lines[:5] + lines[6:]),
        content.replace(b"07.png,11", b"07.png,12"),
    ):
        summary.output.write_bytes(changed)
        assert len(verify(summary.job)) == 1, changed
    summary.output.write_bytes(content)
    assert verify(summary.job) == []


def test_verify_looks_at_all_of_the_account_behind_a_wrong_row(images: Path) -> None:
    (images / "22.png").write_bytes(b"")
    summary = run(spec_of(images))
    summary.output.write_bytes(summary.output.read_bytes().replace(b"00.png,0", b"00.png,1"))
    [problem] = verify(summary.job)
    assert "the rows of 00.png to 03.png" in problem


def test_verify_reads_masks_and_takes_no_link_for_one(images: Path) -> None:
    summary = segment(masks_of(images))
    mask = summary.output / "03.png"
    content = mask.read_bytes()
    mask.write_bytes((summary.output / "22.png").read_bytes())
    assert "03.png: its content is not the mask" in verify(summary.job)[0]
    (images.parent / "kept.png").write_bytes(content)
    mask.unlink()
    mask.symlink_to(images.parent / "kept.png")
    assert "03.png" in verify(summary.job)[0]


def test_an_unfinished_job_does_not_verify(images: Path) -> None:
    def stop(decoded: Decoded) -> None:
        if decoded.piece.first == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(spec_of(images), stop)
    [problem] = verify(images.parent / "out.csv.job")
    assert "not done (state: interrupted)" in problem


def test_an_updates_scores_stand_beside_their_rows(images: Path) -> None:
    """Names too whose order as text is another than that of their bytes."""
    write_grey(images / "\udcff.png", 100)
    write_grey(images / "\U0001f600.png", 110)
    scores = images.parent / "s.csv"
    run(spec_of(images, scores=scores))
    (images / "04.png").write_bytes(b"")
    for name, level in (("03.png", 130), ("Z.png", 140), ("\uffee.png", 150)):
        write_grey(images / name, level, (5, 5))
    summary = run(spec_of(images, scores=scores, update=True))
    found = {row[0]: np.argmax([float(p) for p in row[1:]]) for row in rows_of(scores)[1:]}
    labels = {row[0]: int(row[1]) for row in rows_of(summary.output)[1:]}
    assert found == labels
    assert len(labels) == COUNT + 3
    run(spec_of(images, scores=images.parent / "t.csv", output=images.parent / "b.csv"))
    assert (images.parent / "b.csv").read_bytes() == summary.output.read_bytes()
    assert (images.parent / "t.csv").read_bytes() == scores.read_bytes()
