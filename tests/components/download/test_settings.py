import pytest

from components.download.settings import DownloadSettings
from components.shared.base.failure import Failure
from components.shared.runtime.settings import parse_section


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"corpus": " "}, "corpus"),
        ({"corpus": "ftp://host/corpus.zip"}, "corpus"),
        ({"corpus": "texts", "name": "Our Texts"}, "name"),
        ({"corpus": "texts", "name": "wikitext-2-v1"}, "name"),
        ({"corpus": "sample", "name": "ours"}, "name"),
        ({"corpus": "https://host/a.zip", "sha256": "abc"}, "sha256"),
        ({"corpus": "texts", "sha256": "0" * 64}, "sha256"),
        ({"force": "perhaps"}, "force"),
    ],
)
def test_a_wrong_setting_is_named(values, field):
    with pytest.raises(Failure, match=f"download.{field}"):
        parse_section(DownloadSettings, values, "download")


@pytest.mark.parametrize(
    "corpus", ["wikitext-2-raw-v1", "sample", "../texts", "/srv/texts", "https://host/a.zip", "s3://bucket/texts"]
)
def test_what_the_table_of_corpora_names_is_taken(corpus):
    assert parse_section(DownloadSettings, {"corpus": corpus}, "download").corpus == corpus
