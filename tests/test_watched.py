"""What the watcher writes for readers, the program that reads it takes, field by field: neither imports the other."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec import Struct, inspect

from app import watched
from app.web import ops
from ops import archive, published, records, series, shown

PAIRS: Mapping[type[Struct], type[Struct]] = {
    published.CheckItem: watched.CheckAnswer,
    published.UnitItem: watched.UnitAnswer,
    published.BackupItem: watched.BackupAnswer,
    records.Flip: watched.FlipAnswer,
    records.Alert: watched.AlertAnswer,
    records.Silence: watched.SilenceAnswer,
    records.Errand: watched.ErrandAnswer,
    series.Verdict: watched.LeakAnswer,
    archive.Item: watched.ReportAnswer,
    shown.DiskItem: watched.DiskAnswer,
    shown.JobItem: watched.JobAnswer,
    shown.CertificateItem: watched.CertificateAnswer,
    shown.MachineItem: watched.MachineAnswer,
}
OWN = {"CheckItem.faults[].event"}  # the watcher's alone: when it is told, not what


def misfits(written: inspect.Type, read: inspect.Type, where: str) -> list[str]:
    """Return what of all that may be written is not read as it was meant."""
    found: list[str] = []
    match written, read:
        case _, inspect.AnyType():
            pass
        case inspect.UnionType(), _:
            found = [fault for one in written.types for fault in misfits(one, read, where)]
        case _, inspect.UnionType():
            found = min((misfits(written, one, where) for one in read.types), key=len)
        case inspect.StructType(), inspect.StructType():
            found = _fields(written, read, where)
        case inspect.TupleType(), inspect.ListType():
            found = [fault for one in written.item_types for fault in misfits(one, read.item_type, f"{where}[]")]
        case ((inspect.ListType() | inspect.VarTupleType() | inspect.CollectionType()), inspect.ListType()):
            found = misfits(written.item_type, read.item_type, f"{where}[]")
        case inspect.DictType(), inspect.DictType():
            found = misfits(written.value_type, read.value_type, f"{where}{{}}")
        case inspect.EnumType(), inspect.LiteralType():
            found = [f"{where}: {one.value} is not read" for one in written.cls if one.value not in read.values]
        case (inspect.EnumType(), inspect.StrType()) | (inspect.IntType(), inspect.FloatType()):
            pass
        case _ if type(written) is not type(read):
            found = [f"{where}: {type(written).__name__} is read as {type(read).__name__}"]
    return found


def _fields(written: inspect.StructType, read: inspect.StructType, where: str) -> list[str]:
    mine, theirs = ({field.encode_name: field for field in one.fields} for one in (written, read))
    lost = [
        f"{where}.{name} is written and not read"
        for name in mine
        if name not in theirs and f"{where}.{name}" not in OWN
    ]
    missed = [f"{where}.{name} is missing" for name, field in theirs.items() if field.required and name not in mine]
    both = [(name, mine[name].type, theirs[name].type) for name in mine if name in theirs]
    return [*lost, *missed, *(fault for name, *types in both for fault in misfits(*types, f"{where}.{name}"))]


@pytest.mark.parametrize("written", PAIRS, ids=lambda kind: kind.__name__)
def test_what_the_watcher_writes_is_read_field_by_field(written: type[Struct]) -> None:
    read = PAIRS[written]
    assert not misfits(inspect.type_info(written), inspect.type_info(read), written.__name__)


def test_every_topic_that_is_written_is_compared_here() -> None:
    assert len(PAIRS) == len(published.TOPICS)
    assert set(ops.TOPICS.values()) <= set(PAIRS.values())
