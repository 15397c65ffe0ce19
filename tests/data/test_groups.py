"""Tables of true groups."""

import pytest

from clustercl.data.groups import read_groups
from clustercl.errors import DataError


@pytest.mark.parametrize(
    "text",
    [
        "id,group\na,x\nB,y\nd,\n",
        "image_id,melanoma\na,x\nb,y\n",  # the first two columns, as ISIC's
        "\ufeffgroup,ID\nx,a\ny,b\n",
        "image,class,other\na.jpg,x,1\nsub/b.nii.gz,y,2\n",
    ],
)
def test_groups_by_id_or_file(tmp_path, text):
    path = tmp_path / "groups.csv"
    path.write_text(text, encoding="utf-8")
    assert read_groups(path, ["b", "A", "c", "d"]).tolist() == [1, 0, -1, -1]


@pytest.mark.parametrize(
    "text, message",
    [
        ("id,group\nz,x\n", "names none of the 2 images that are trained on, such as a"),
        ("id,group\na,\n", "names none of the 2 images"),
        ("id;group\na;x\n", "line 1 must name the columns id and group, it says 'id;group'"),
        ("", "wanted a CSV file with the columns id,group"),
        (f"id,group\na,{'x' * 200_000}\n", r"wanted a CSV file with the columns id,group \(field larger than"),
        (None, "wanted a CSV file with the columns id,group"),
    ],
)
def test_a_table_that_does_not_fit(tmp_path, text, message):
    path = tmp_path / "groups.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_groups(path, ["a", "b"])
