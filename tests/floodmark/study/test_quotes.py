"""Each quotation stands in the study, and nothing that it states is left out."""

from __future__ import annotations

import pytest

from floodmark.study.quotes import NO_STATEMENT, QUOTES, hash_file, hashes, read_hashes, units
from floodmark.study.sentences import Sentence, load_sentences

STUDY = read_hashes()
SENTENCES = load_sentences()


@pytest.mark.parametrize("sentence", SENTENCES.values(), ids=SENTENCES)
def test_each_quotation_stands_in_the_study(sentence: Sentence) -> None:
    found = dict(zip(hashes(sentence.quote), units(sentence.quote), strict=True))
    assert found
    assert {text for one, text in found.items() if not STUDY.get(one)} == set()


def test_each_statement_of_the_study_is_quoted() -> None:
    quoted = {one for sentence in SENTENCES.values() for one in hashes(sentence.quote)}
    assert {one for one, is_statement in STUDY.items() if is_statement} == quoted
    # Headings, code, commands, links and instructions.
    assert sum(not is_statement for is_statement in STUDY.values()) == 83


def test_the_text_of_the_study_is_not_there() -> None:
    assert set(QUOTES.read_text().splitlines()[1:]) == {
        one if is_statement else NO_STATEMENT + one for one, is_statement in STUDY.items()
    }
    assert all(len(one) == 16 and set(one) <= set("0123456789abcdef") for one in STUDY)


TEXT = """\
# A heading

The **Active** metric of the [status module](https://nginx.org/en/) is in `stub_status`. See
[here](https://nginx.org/).

 - Call `write()` (if it _reads_)
    - Or not
1. Take e.g. this, or that!

```bash
# Not a heading
make it
```

| State | 03 |

<details>

[pid 7] close(3) = 0
</details>

_A name_ is worker_connections.
"""


def test_a_text_is_split_by_one_rule() -> None:
    assert units(TEXT) == [
        "A heading",
        "The Active metric of the status module is in stub_status",
        "See here",
        "Call write() (if it reads)",
        "Or not",
        "Take e.g. this, or that",
        "bash Not a heading make it",
        "State 03",
        "<details> [pid 7] close(3) = 0 </details>",
        "A name is worker_connections",
    ]


def test_marks_and_line_breaks_make_no_difference_and_words_do() -> None:
    assert (
        hashes("The **vast\n  majority** in `01`.")
        == hashes("The vast majority in 01")
        != hashes("vast majority in 01")
    )


def test_the_file_keeps_what_is_no_statement() -> None:
    first, second = hashes("# One\n\nTwo.")
    text = hash_file("# One\n\nTwo.", {first: False})
    assert text.splitlines()[1:] == [f"-{first}", second]
