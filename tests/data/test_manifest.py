"""Tables as people write them: what is read, what is refused, and what the messages say."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medgan.data.manifest import check_files, check_names, read_manifest, read_table
from medgan.errors import ConfigError, DataError


@pytest.fixture
def write(tmp_path: Path):
    def make(text: str, name: str = "table.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return make


def _read(path: Path, labels=None, label_kind=None):
    return read_manifest(path, labels=labels, label_kind=label_kind)


# ------------------------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_header_tells_the_separator(write, separator: str) -> None:
    table = read_table(write('path,"a,b;c",d\nx.png,1,2\n'.replace(",", separator).replace(f"a{separator}b", "a,b")))
    assert list(table) == ["path", "a,b;c", "d"]
    assert table.to_numpy().tolist() == [["x.png", "1", "2"]]


def test_every_value_is_text_as_written(write) -> None:
    table = read_table(write("path,a\n 01 ,NA\n1.0,null\n,  \n"))
    assert table.to_numpy().tolist() == [["01", "NA"], ["1.0", "null"], ["", ""]]


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_the_mark_that_spreadsheets_write_and_compression(tmp_path: Path, name: str) -> None:
    content = "\ufeffpath,label\r\nä.png,Größe\r\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert read_table(tmp_path / name).to_numpy().tolist() == [["ä.png", "Größe"]]


def test_only_wanted_columns_are_read(write) -> None:
    path = write("a,b,c,\n1,2,3,\n")
    assert list(read_table(path, ("c",), ("a", "d"))) == ["a", "c"]
    with pytest.raises(DataError, match=r"no column 'patient'\. Did you mean 'patients'\? Known: patients, x\."):
        read_table(write("x,patients\n1,2\n"), ("patient",))


@pytest.mark.parametrize(("encoding", "advised"), [("latin-1", "WINDOWS-1252"), ("utf-16", "UTF-16")])
@pytest.mark.parametrize("filler", [0, 300_000])
def test_other_encodings(write, encoding: str, advised: str, filler: int) -> None:
    path = write("path,label\n" + "x.png,y\n" * filler + "ä.png,Größe\n", encoding=encoding)
    with pytest.raises(DataError, match=rf"table\.csv is not UTF-8 text.*iconv -f {advised} "):
        read_table(path)


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0\0\x10JFIF\0\n\xff", "path,label\na,b\n".encode("utf-16-le")])
@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_files_that_are_no_text(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(DataError, match="is not a text table: it holds NUL bytes") as caught:
        read_table(tmp_path / name)
    assert "iconv" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("path,label\na.png,x\nb,c.png,y\n", r"is not a table.*line 3, saw 3.*double quotes"),
        ("path,label\na,b.png,x\nc,d.png,y\n", r"is not a table.*as many values"),
        ('path,label\n"a.png,x\n', "is not a table.*inside string"),
        ("path,label,label\n", "several columns called label"),
        ("path,label,age\na.png,x,1\n\nb.png,y\n", r"row 2 \(line 4\) has 2 of 3 values: 'b\.png, y'"),
        ('path,label\n"a\nb.png",x\nc.png\n', r"row 2 \(line 4\) has 1 of 2 values"),
        (f"path,label\na.png,{'x' * 200_000}\n", "is not a table: field larger"),
    ],
)
def test_broken_tables(write, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(text))


def test_blank_lines_are_no_rows(write) -> None:
    assert read_table(write("\ufeffpath,label\r\n\r\na,x\r\n  \r\nb,\r\n\r\n")).to_numpy().tolist() == [
        ["a", "x"],
        ["b", ""],
    ]


def test_damaged_archives(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(b"path,label\n")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(os.urandom(9000).hex().encode())[:-20])
    for name in ("a.csv.gz", "b.csv.gz"):
        with pytest.raises(DataError, match="cannot be read"):
            read_table(tmp_path / name)


def test_parquet_values_become_the_text_of_a_csv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = pd.DataFrame(
        {
            "path": pd.Series(["a.png", None], dtype="string"),
            "patient_id": pd.Series([1, None], dtype="Int64"),
            "label:Edema": pd.Series([True, None], dtype="boolean"),
            "age": pd.Series([61.5, None], dtype="Float64"),
        }
    )
    monkeypatch.setattr(pd, "read_parquet", lambda path, dtype_backend: stored)
    table = read_table(tmp_path / "table.parquet", ("path",))
    assert table.to_numpy().tolist() == [["a.png", "1", "True", "61.5"], ["", "", "", ""]]


def test_parquet_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(__import__("sys").modules, package, None)
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r'pip install "medgan\[parquet\]"'):
        read_table(tmp_path / "table.parquet")


def test_parquet_files(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    pd.DataFrame({"path": ["a.png", "b.png"], "label": [0, 1], "patient_id": [7, None]}).to_parquet(path)
    rows = _read(path)
    assert rows.names == ("0", "1")
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        read_table(path)


# ---------------------------------------------------------------------------------------------------------- manifests


def test_columns_of_a_manifest(write) -> None:
    rows = _read(write("Path,LABEL,patient_id,view,Sex,age,split,device\na.png,NORMAL,007,PA,F,61,train,X1\n"))
    assert rows.frame.to_dict("records") == [
        {"file": "a.png", "patient_id": "007", "split": "train", "view": "PA", "age": "61", "sex": "F"}
    ]
    assert (rows.kind, rows.names, rows.values.tolist()) == ("categorical", ("NORMAL",), [[0]])


def test_synthetic_images_are_known_in_any_spelling(write) -> None:
    rows = _read(write("path,origin\na.png,Synthetic\nb.png, SYNTHETIC \nc.png,real\nd.png,\n"))
    assert list(rows.frame["origin"]) == ["synthetic", "synthetic", "real", ""]


def test_a_manifest_needs_a_path_column_and_rows(write) -> None:
    with pytest.raises(DataError, match=r"no column path; it has file, label\. Rename"):
        _read(write("file,label\na.png,x\n"))
    with pytest.raises(DataError, match=r"No images found in the dataset\..*a header only"):
        _read(write("path,label\n"))
    with pytest.raises(DataError, match="several columns called path"):
        _read(write("path,Path\na,b\n"))


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("lable", "label"),
        ("patientid", "patient_id"),
        ("Patient ID", "patient_id"),
        ("labels", "label"),
        ("paths", "path"),
        ("PatID", "patient_id"),
        ("pat_id", "patient_id"),
        ("Subject", "patient_id"),
        ("subject_id", "patient_id"),
    ],
)
def test_misspelt_columns(write, column: str, meant: str) -> None:
    others = {"path", "label", "patient_id"} - {meant}
    with pytest.raises(DataError, match=f"column '{column}'; did you mean {meant}\\?"):
        _read(write(f"{','.join(sorted(others))},{column}\na,b,c\n"))


def test_subjects_beside_patients_are_left_alone(write) -> None:
    assert _read(write("path,subject,patient_id\na.png,s,p\n")).frame["patient_id"].tolist() == ["p"]


def test_other_columns_are_left_alone(write) -> None:
    rows = _read(write("path,label,labels,hospital,image,stage,paths\na.png,x,1,2,3,4,5\n"))
    assert list(rows.frame) == ["file", "patient_id"]


@pytest.mark.parametrize(
    ("labels", "kind", "names", "values"),
    [
        (["b", "NA", "null", ""], "categorical", ("NA", "b", "null"), [1, 0, 2, np.nan]),
        (["10", "9", "01", "1"], "categorical", ("01", "1", "9", "10"), [3, 2, 0, 1]),
        (["0", "1", "-1", "2"], "categorical", ("-1", "0", "1", "2"), [1, 2, 0, 3]),
        (["0.5", "-1", "", "2e1"], "continuous", ("label",), [0.5, -1, np.nan, 20]),
        (["1.5.2", "0.5"], "categorical", ("0.5", "1.5.2"), [1, 0]),
        (["0.5", "nan", "1.5", "NaN"], "continuous", ("label",), [0.5, np.nan, 1.5, np.nan]),
        (["1", "NAN", "0"], "categorical", ("0", "1"), [1, np.nan, 0]),
        (["a", "nan", "inf"], "categorical", ("a", "inf"), [0, np.nan, 1]),
    ],
)
def test_what_a_label_column_holds(write, labels, kind, names, values) -> None:
    rows = _read(write("path,label\n" + "".join(f"{n}.png,{label}\n" for n, label in enumerate(labels))))
    assert (rows.kind, rows.names) == (kind, names)
    np.testing.assert_array_equal(rows.values[:, 0], values)


def test_several_labels_of_an_image(write) -> None:
    rows = _read(write("path,label\na,Mass | Edema\nb,Edema\nc,\nd,No Finding\n"))
    assert (rows.kind, rows.names) == ("multilabel", ("Edema", "Mass", "No Finding"))
    np.testing.assert_array_equal(rows.values, [[1, 1, 0], [1, 0, 0], [np.nan] * 3, [0, 0, 1]])


def test_the_kind_can_be_said(write) -> None:
    path = write("path,label\na,1\nb,10\nc,2.0\n")
    assert _read(path, label_kind="ordinal").names == ("1", "2.0", "10")
    assert _read(path, label_kind="categorical").names == ("1", "2.0", "10")
    assert _read(path, label_kind="multilabel").names == ("1", "10", "2.0")
    np.testing.assert_array_equal(_read(path, label_kind="continuous").values[:, 0], [1, 10, 2])
    piped = write("path,label\na,A|B\nb,A\n")
    assert _read(piped, label_kind="categorical").names == ("A", "A|B")


def test_words_have_no_order_of_their_own(write) -> None:
    path = write("path,label\na,severe\nb,mild\n")
    with pytest.raises(DataError, match=r"order is unknown: mild, severe.*--labels mild,moderate,severe"):
        _read(path, label_kind="ordinal")
    assert _read(path, ("mild", "severe"), "ordinal").kind == "ordinal"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["1", "0", "-1"], "has -1 beside 0 and 1.*rename the column to label:FINDING.*--label-kind categorical"),
        (["1.0", "0.0", ""], r"may be classes or quantities\. Type --label-kind"),
        (["", ""], "column label is empty"),
        (["nan", "NaN"], "column label is empty"),
        (["0.5", "inf", "nan", "-Infinity"], r"has inf, -Infinity beside numbers such as 0\.5\..*--missing drop"),
        (["1", "inf"], "has inf beside numbers such as 1"),
    ],
)
def test_labels_that_could_be_two_things(write, labels, message) -> None:
    with pytest.raises(DataError, match=message):
        _read(write("path,label\n" + "".join(f"{n}.png,{label}\n" for n, label in enumerate(labels))))


def test_numbers_that_are_none(write) -> None:
    with pytest.raises(DataError, match=r"column label must be a number.*'0,5'"):
        _read(write("path;label\na;0,5\nb;1.5\n"), label_kind="continuous")


def test_columns_of_findings(write) -> None:
    path = write("path,label:Edema,label: Mass,note\na,1,-1,x\nb,0.0,,y\n")
    rows = _read(path)
    assert (rows.kind, rows.names) == ("multilabel", ("Edema", "Mass"))
    np.testing.assert_array_equal(rows.values, [[1, -1], [0, np.nan]])
    assert _read(path, ("Mass",)).names == ("Mass",)
    with pytest.raises(DataError, match=r"called 'Oedema'\. Did you mean 'Edema'\?"):
        _read(path, ("Oedema",))
    with pytest.raises(ConfigError, match="--label-kind ordinal does not fit"):
        _read(path, label_kind="ordinal")


@pytest.mark.parametrize("name", ["x", "TB", "label", "path"])
def test_short_names_of_findings(write, name: str) -> None:
    for column in (f"label:{name}", f"Label: {name}"):
        assert _read(write(f"path,{column}\na,1\n")).names == (name,)


def test_a_finding_in_two_columns(write) -> None:
    with pytest.raises(DataError, match="several columns called label:TB"):
        _read(write("path,label:TB,label: TB\na,1,0\n"))


def test_columns_of_quantities(write) -> None:
    path = write("path,label:age,label:weight\na,61.5,70\nb,,82\n")
    rows = _read(path, label_kind="continuous")
    assert (rows.kind, rows.names) == ("continuous", ("age", "weight"))
    np.testing.assert_array_equal(rows.values, [[61.5, 70], [np.nan, 82]])
    with pytest.raises(DataError, match=r"column label:age must be 1 .*'61\.5'"):
        _read(path)


def test_columns_that_are_asked_for_by_name(write) -> None:
    path = write("path,Edema,Mass,note\na,1,0,x\nb,-1,,y\n")
    rows = _read(path, ("Mass", "Edema"))
    assert (rows.kind, rows.names) == ("multilabel", ("Mass", "Edema"))
    np.testing.assert_array_equal(rows.values, [[0, 1], [np.nan, -1]])
    with pytest.raises(DataError, match=r"column of .*called 'Mas'\. Did you mean 'Mass'\?"):
        _read(path, ("Mas",))
    with pytest.raises(DataError, match=r"column note must be 1 .*'x', 'y'"):
        _read(path, ("note",))


def test_images_without_labels(write) -> None:
    path = write("path,note\na,x\nb,y\n")
    rows = _read(path)
    assert (rows.kind, rows.names, rows.values.shape) == (None, (), (2, 0))
    with pytest.raises(DataError, match="no column label to take as ordinal"):
        _read(path, label_kind="ordinal")


def test_two_ways_of_labels(write) -> None:
    with pytest.raises(DataError, match="a column label and 1 like label:FINDING"):
        _read(write("path,label,label:Edema\na,x,1\n"))


def test_names_that_are_asked_for() -> None:
    check_names(("a", "b"), {"a", "b", "c"}, "label of x")
    with pytest.raises(DataError, match="'a' was given twice"):
        check_names(("a", "b", "a"), {"a", "b"}, "label of x")
    with pytest.raises(DataError, match=r"No label of x was named\. Known: a, b\."):
        check_names((), {"a", "b"}, "label of x")


# -------------------------------------------------------------------------------------------------------------- files


def _look(root: Path, *files: str) -> tuple[list[str], dict[str, str]]:
    simple, refused = check_files(files, root)
    return simple, {files[position]: f"{error.error}; {error.hint}" for position, error in refused.items()}


def test_files_are_found_and_spelt_simply(tmp_path: Path) -> None:
    root = tmp_path.resolve() / "root"
    (root / "a").mkdir(parents=True)
    outside = tmp_path.resolve() / "outside.png"
    for path in (root / "a" / "x.png", outside):
        path.touch()
    simple, refused = _look(root, "./a//x.png", "a/../a/x.png", str(outside), "a")
    assert simple == ["a/x.png", "a/x.png", str(outside), "a"]
    assert refused == {}


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    root = tmp_path.resolve() / "root"
    (root / "a").mkdir(parents=True)
    (tmp_path / "outside.png").touch()
    (root / "a" / "x.png").touch()
    given = (
        "",
        "b.png",
        "a/x.png/y",
        "../outside.png",
        "a/../../outside.png",
        "a\\x.png",
        "/no/such.png",
        "..",
        "..x",
        "\0",
    )
    refused = _look(root, *given)[1]
    assert set(refused) == set(given)
    assert refused[""].startswith("empty path")
    assert refused["b.png"].startswith("file not found; correct the path, which starts from")
    assert refused["a/x.png/y"].startswith("file not found")
    for climbing in ("../outside.png", "a/../../outside.png", ".."):
        assert refused[climbing].startswith(f"path that leaves {root}")
    assert refused["a\\x.png"] == "file not found; write / in place of \\ in the paths"
    assert refused["/no/such.png"] == "file not found; correct the path"
    assert refused["..x"].startswith("file not found")
    assert refused["\0"].startswith("file cannot be looked at: ")


def test_addresses_are_not_opened(tmp_path: Path) -> None:
    given = ("http://x/a.png", "S3://bucket/a.png", "file:///a.png")
    simple, refused = _look(tmp_path.resolve(), *given)
    assert simple == list(given)
    for address in given[:2]:
        assert refused[address].endswith("addresses are not opened; download the file, and give its path")
    assert refused["file:///a.png"].endswith("addresses are not opened; write the path alone")


def test_links(tmp_path: Path) -> None:
    root = tmp_path.resolve() / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "x.png").touch()
    outside = tmp_path.resolve() / "outside"
    (outside / "deep").mkdir(parents=True)
    for path in (outside / "y.png", outside / "deep" / "y.png"):
        path.touch()
    (root / "inside.png").symlink_to(root / "a" / "x.png")
    (root / "leaves.png").symlink_to(outside / "y.png")
    (root / "broken.png").symlink_to(outside / "no.png")
    (root / "circle.png").symlink_to(root / "circle.png")
    (root / "away").symlink_to(outside)
    (root / "near").symlink_to(root / "a")
    (outside / "link.png").symlink_to(outside / "y.png")
    given = ("inside.png", "leaves.png", "broken.png", "circle.png", "away/y.png", "away/deep/y.png", "near/x.png")
    refused = _look(root, *given, str(outside / "link.png"), str(root / "leaves.png"))[1]
    assert set(refused) == {"leaves.png", "broken.png", "circle.png", "away/y.png", "away/deep/y.png"}
    assert refused["leaves.png"].startswith(f"link that leaves the data set, to {outside / 'y.png'}")
    assert refused["broken.png"].startswith("file not found")
    assert refused["away/y.png"].startswith("link on the way to the file, which leaves the data set")
    assert refused["away/deep/y.png"].startswith("link on the way to the file")
